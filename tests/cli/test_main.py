"""The program as a person and a program use it: help, lists, errors; nothing heavy is loaded."""

from __future__ import annotations

import errno
import json
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
from click.testing import CliRunner
from typer.main import get_command

from safesight import registry
from safesight.cli import stopping
from safesight.cli.main import app
from safesight.compare import Scorecard
from safesight.errors import StorageError
from safesight.models import FAMILIES
from safesight.workflows import evaluation
from safesight.workflows.evaluation import Evaluation, arms_of
from tests.report.fakes import card

VERBS = (
    "demo",
    "eval",
    "fit",
    "calibrate",
    "merge",
    "judge",
    "compare",
    "report",
    "run",
    "serve",
    "layers",
    "spurious",
    "transfer",
    "try",
    "app",
    "data",
    "reference",
    "judge-card",
    "power",
    "list",
    "check",
)

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@cache
def program() -> Any:
    """The commands, put together once."""
    return get_command(app)


def run(*words: str) -> Any:
    return CliRunner().invoke(program(), list(words))


def fails(result: Any, *pieces: str) -> None:
    """Exit code 2, one message on standard error, nothing on standard output, no traceback."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("safesight: ")
    assert "Traceback" not in result.stderr
    for piece in pieces:
        assert piece in result.stderr


def test_every_verb_is_there_in_order() -> None:
    commands: Any = get_command(app).commands
    assert tuple(commands) == VERBS


@pytest.mark.parametrize("verb", VERBS)
def test_every_help_has_examples_that_name_real_options(verb: str) -> None:
    command: Any = get_command(app).commands[verb]
    result = run(verb, "--help")
    assert result.exit_code == 0
    assert "Examples" in result.stdout
    options = {spelling for parameter in command.params for spelling in parameter.opts}
    whole = command.epilog.replace(" \\\n", " ")
    lines = [line for line in whole.splitlines() if f"$ safesight {verb}" in line]
    assert lines
    for line in lines:
        own = line.split("|")[0].split(" -- ")[0]  # the rest is another program's
        used = {word for word in own.split() if word.startswith("-") and word != "-"}
        assert used <= options, line


def test_help_and_version_load_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['safesight', '--version']\n"
        "from safesight.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'transformers', 'inspect_ai', 'scipy', 'pydantic', 'numpy'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("safesight 0.")


GROUPS = ("bundled world", "attacks", "over-refusal", "utility")


@pytest.mark.parametrize(
    ("kind", "known"),
    [
        ("defenses", set(registry.names("defense")) - {"none"}),
        ("attacks", set(registry.names("attack"))),
        ("datasets", set(registry.names("dataset"))),
        ("judges", set(registry.names("judge"))),
        ("stress-tests", set(registry.names("stress_test"))),
        ("models", set(registry.names("model"))),
        ("word-lists", {"generic", "testbed"}),
        ("families", set(FAMILIES)),
    ],
)
def test_lists_are_json_arrays_of_names(kind: str, known: set[str]) -> None:
    names = json.loads(run("list", kind, "--json").stdout)
    assert isinstance(names, list)
    assert set(names) == known
    table = run("list", kind).stdout
    assert all(name in table for name in known)


def test_tasks_are_listed_by_group() -> None:
    listed = json.loads(run("list", "tasks", "--json").stdout)
    assert [task["name"] for task in listed] == registry.names("benchmark")
    groups = {task["name"]: task["group"] for task in listed}
    assert groups["vqa"] == "bundled world"
    assert (groups["figstep"], groups["xstest"], groups["mme"]) == GROUPS[1:]
    lines = run("list", "tasks").stdout.splitlines()
    headings = [line.strip() for line in lines if line.strip() in GROUPS]
    assert headings == list(GROUPS)
    assert set(registry.names("benchmark")) <= {line.split()[0] for line in lines if line.strip()}


def test_a_task_of_ones_own_is_listed_as_yours(monkeypatch: pytest.MonkeyPatch) -> None:
    table = dict(registry._table("benchmark"))
    monkeypatch.setattr(registry, "_table", lambda kind: table)
    registry.add("benchmark", "my_own", lambda n=None, **_: [], "Mine.")
    table["theirs"] = registry.Entry("a:b", package="pack 1.0")
    assert registry.group("my_own") == registry.group("theirs") == "yours"


def test_an_unknown_kind_of_list_is_guessed() -> None:
    fails(run("list", "defences"), "Did you mean 'defenses'?")


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("eval", "--defense", "sassa"), "Did you mean 'sasa'?"),
        (("eval", "--tasks", "image_harms"), "Did you mean 'image_harm'?"),
        (("eval", "--judge", "exakt"), "Did you mean 'exact'?"),
        (("eval", "--defense", ","), "No name given"),
        (("eval", "--vllm-options", "--x 'a"), '--vllm-options "--x \'a" cannot be read'),
        (("fit", "sassa", "-o", "x"), "Did you mean 'sasa'?"),
        (("fit", "sasa", "-o", "x", "--tasks", "vqaa"), "Did you mean 'vqa'?"),
        (("layers", "testbed", "--defense", "adashild"), "Did you mean 'adashield'?"),
        (("try", "x.png", "what?", "--defense", "sassa"), "Did you mean 'sasa'?"),
        (("check", "testbed", "--device-map", "{x"), "is not a JSON object"),
        (("check", "testbed", "--device", "cpu", "--device-map", "auto"), "Give one of them"),
        (("check", "testbed", "--quantization", "int3"), "no quantization 'int3'"),
        (("spurious", "vlgard"), "Did you mean 'vlguard'?"),
        (("spurious", "mirage", "--judge", "exakt"), "Did you mean 'exact'?"),
        (("spurious", "mirage", "--data", "x"), "does not take --data"),
        (("spurious", "vlguard", "--rho", "1"), "does not take --rho"),
        (("spurious", "mirage", "--data-option", "harms=ruled"), "Use general, harm, rho"),
        (("spurious", "mirage", "--rho", "1", "--data-option", "rho=1"), "say the same"),
        (("eval", "--tasks", "mirage_harm+one_wrod"), "Did you mean 'one_word'?"),
    ],
)
def test_a_misspelled_name_is_guessed_before_anything_is_written(
    words: tuple[str, ...], hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fails(run(*words), hint)
    assert list(tmp_path.iterdir()) == []


def test_a_log_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    fails(
        run("eval", "--log-dir", str(tmp_path / "file" / "logs")),
        "is not a folder you can write to",
    )


@pytest.mark.parametrize("verb", ["compare", "report"])
def test_a_folder_that_is_not_there(verb: str, tmp_path: Path) -> None:
    fails(run(verb, str(tmp_path / "gone")), "gone")


def test_an_empty_folder_has_no_finished_run(tmp_path: Path) -> None:
    fails(run("compare", str(tmp_path)), "no finished evaluation")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/x/log"), "/x/log: No space left"),
        (StorageError("The disk is full. Free some space."), "The disk is full."),
    ],
)
def test_what_a_person_can_fix_has_no_traceback(
    error: Exception, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(wanted: Evaluation) -> Scorecard:
        raise error

    monkeypatch.setattr(evaluation, "run", stop)
    fails(run("eval"), message)


@pytest.fixture
def handlers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The handlers of all signals are as before afterwards."""
    monkeypatch.setattr(stopping, "_received", [])
    monkeypatch.setattr("sys.unraisablehook", sys.unraisablehook)
    monkeypatch.setattr("sys.excepthook", sys.excepthook)
    before = {each: signal.getsignal(each) for each in STOPPING}
    yield
    for each, handler in before.items():
        signal.signal(each, handler)


@pytest.mark.parametrize("ignoring", [False, True])
@pytest.mark.parametrize(("number", "code"), [*zip(STOPPING, (130, 143, 129), strict=True)])
def test_a_signal_stops_a_command_with_its_own_code(
    number: signal.Signals,
    code: int,
    ignoring: bool,
    handlers: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where Ctrl-C is ignored, as in the background of a script."""

    def stop(wanted: Evaluation) -> Scorecard:
        signal.raise_signal(number)
        raise ArithmeticError

    monkeypatch.setattr(evaluation, "run", stop)
    if ignoring:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    stopping.stop_like_ctrl_c()
    result = run("eval")
    if ignoring and number is signal.SIGINT:
        assert isinstance(result.exception, ArithmeticError)  # it went on
    else:
        assert result.exit_code == code
        assert result.stderr.endswith("\nsafesight: Stopped.\n")


def test_a_signal_is_not_lost_where_python_drops_exceptions(
    handlers: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in the callback of a weak reference, where a program would go on as if nothing was."""

    def stop(wanted: Evaluation) -> Scorecard:
        watched = threading.Event()
        watch = weakref.finalize(watched, signal.raise_signal, signal.SIGTERM)
        del watched
        assert not watch.alive
        time.sleep(5)
        raise ArithmeticError

    monkeypatch.setattr(evaluation, "run", stop)
    stopping.stop_like_ctrl_c()
    result = run("eval")
    assert result.exit_code == 143
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_no_place_catches_ends_the_program_alike(number: signal.Signals) -> None:
    """Python's own way is a traceback, and an end by the signal."""
    lines = (
        "import signal",
        "from safesight.cli.stopping import stop_like_ctrl_c",
        "stop_like_ctrl_c()",
        f"signal.raise_signal({int(number)})",
    )
    ended = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (128 + number, "safesight: Stopped.\n")


def test_ctrl_c_once_more_takes_no_message_away(
    handlers: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """People press it until the prompt is back."""
    say = typer.echo

    def again(*words: object, **options: object) -> None:
        signal.raise_signal(signal.SIGINT)
        say(*words, **options)

    def stop(wanted: Evaluation) -> Scorecard:
        signal.raise_signal(signal.SIGINT)
        raise ArithmeticError

    monkeypatch.setattr(evaluation, "run", stop)
    monkeypatch.setattr(typer, "echo", again)
    stopping.stop_like_ctrl_c()
    result = run("eval")
    assert (result.exit_code, result.stderr) == (130, "\nsafesight: Stopped.\n")


def test_a_closed_terminal_stops_nothing_under_nohup(handlers: None) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    stopping.stop_like_ctrl_c()
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(wanted: Evaluation) -> Scorecard:
        raise KeyError("ours")

    monkeypatch.setattr(evaluation, "run", stop)
    assert isinstance(run("eval").exception, KeyError)


@pytest.mark.parametrize(
    ("words", "option"),
    [
        ("eval --rows all", "--rows"),
        ("eval --column question=prompt", "--column"),
        ("transfer probe --column question=prompt", "--column"),
    ],
)
def test_how_to_read_files_without_a_file_is_a_user_error(words: str, option: str) -> None:
    fails(run(*words.split()), f"{option} is for files of your own. Name one with --data FILE.")


def test_the_undefended_model_and_the_control_arm_always_take_part() -> None:
    assert arms_of(["sasa", "adashield"]) == ["none", "probe", "sasa", "adashield"]
    combined = ["safety_prompt+probe", "safety_prompt+sasa"]
    assert arms_of(["none", "safety_prompt+sasa"]) == ["none", *combined]
    assert arms_of(["sasa", "safety_prompt+sasa"]) == ["none", "probe", "sasa", *combined]


def test_options_of_eval_reach_the_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Evaluation] = []

    def keep(wanted: Evaluation) -> Scorecard:
        seen.append(wanted)
        return card()

    monkeypatch.setattr(evaluation, "run", keep)
    target = tmp_path / "card.json"
    words = "--model m --defense adashield --tasks vqa --limit 7 --seed 3 --batch-size 4"
    more = f"--judge keywords --overhead 0 --dtype bfloat16 --trust-remote-code --json {target}"
    loading = "--quantization int8 --attn-implementation eager --revision v1 --device-map"
    given = [*words.split(), *more.split(), *loading.split(), '{"": "cpu"}']
    result = run("eval", *given, "--log-dir", str(tmp_path))
    assert result.exit_code == 0, result.output
    assert seen == [
        Evaluation(
            model="m",
            arms=["none", "adashield"],
            tasks=["vqa"],
            log_dir=tmp_path,
            limit=7,
            judge="keywords",
            seed=3,
            batch_size=4,
            artifacts=[],
            asked=["adashield"],
            overhead_inputs=0,
            model_args={
                "dtype": "bfloat16",
                "device_map": {"": "cpu"},
                "quantization_config": "int8",
                "attn_implementation": "eager",
                "revision": "v1",
                "trust_remote_code": True,
            },
        )
    ]
    assert Scorecard.model_validate_json(target.read_text()) == card()
    told = "sasa lowers attack success from 75% (30.1–95.4) to 0% (0 of 3: at most 56.1%)"
    assert told in " ".join(result.stdout.split())
    assert "image" in result.stdout
    assert "success ↓" in result.stdout


def test_json_on_standard_output_is_all_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "run", lambda wanted: card())
    result = run("eval", "--json", "-")
    assert Scorecard.model_validate_json(result.stdout) == card()


def test_a_scorecard_that_cannot_be_written_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "run", lambda wanted: card())
    (tmp_path / "file").write_text("")
    fails(run("eval", "--json", str(tmp_path / "file" / "card.json")), "cannot be written")


@pytest.mark.parametrize(
    ("task", "fault"),
    [
        ("text_harm+shuffle", "has no picture, and the attack 'shuffle' changes one"),
        ("image_harm+mml_mirror", "already has a picture, and the attack 'mml_mirror' would"),
        ("image_harm+mixup+repeat", "already has 9 shots"),
        ("text_harm+picture", "needs arguments"),
    ],
)
def test_an_attack_that_cannot_be_made_is_said_before_a_model_is_loaded(
    task: str, fault: str
) -> None:
    fails(run("eval", "--model", "nosuch", "--tasks", task), fault)


@pytest.mark.parametrize("words", [("--limit", "0"), ("--limit", "many"), ("--color", "red")])
def test_options_that_make_no_sense_end_with_code_2(words: tuple[str, ...]) -> None:
    assert run("eval", *words).exit_code == 2
