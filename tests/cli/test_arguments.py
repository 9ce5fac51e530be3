"""Wrong command lines: one message and exit code 2 before anything is loaded, asked or written."""

from __future__ import annotations

import inspect
import json
import socket
from pathlib import Path
from typing import Any, get_args

import pytest

from safesight.errors import InputError
from safesight.models import VLM
from tests.cli.test_main import fails, program, run


@pytest.fixture(autouse=True)
def nothing_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No model is loaded, no network is used, and the folder of the command stays empty."""

    def no(*_: Any, **__: Any) -> Any:
        raise AssertionError("started")

    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(VLM, "load", no)
    monkeypatch.setattr(socket.socket, "connect", no)


def refused(*words: str) -> None:
    """A usage error of typer, which is a box on standard error."""
    result = run(*words)
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.stderr


def commands() -> dict[str, Any]:
    return program().commands  # type: ignore[no-any-return]


def required(verb: str) -> list[str]:
    command = commands()[verb]
    given = {"picture": "x.png", "dataset": "mirage", "defense": "sasa", "kind": "defenses"}
    given |= {"baseline": "0.4"}
    return [
        part
        for parameter in command.params
        if parameter.required
        for part in (
            [given.get(parameter.name, "x")]
            if parameter.param_type_name == "argument"
            else [parameter.opts[0], given.get(parameter.name, "x")]
        )
    ]


def options(kind: type = object) -> list[tuple[str, str]]:
    """Every command with each of its options that takes a value of this type."""
    found = []
    for verb, command in commands().items():
        types = inspect.signature(command.callback, eval_str=True).parameters
        for parameter in command.params:
            if parameter.param_type_name != "option" or parameter.is_flag:
                continue
            hint = get_args(types[parameter.name].annotation)[0]
            if kind is object or kind in (hint, *get_args(hint)):
                found.append((verb, parameter.opts[0]))
    return found


@pytest.mark.parametrize(("verb", "option"), options())
def test_no_option_takes_an_empty_value(verb: str, option: str) -> None:
    fails(run(verb, *required(verb), option, ""), f"{option} is empty")
    fails(run(verb, *required(verb), f"{option}="), f"{option} is empty")


def single(verb: str, option: str) -> bool:
    return next(not each.multiple for each in commands()[verb].params if option in each.opts)


@pytest.mark.parametrize(("verb", "option"), [each for each in options() if single(*each)])
def test_no_option_of_one_value_is_taken_twice(verb: str, option: str) -> None:
    """The first would be left out without a word, and it may be a defense."""
    words = [*required(verb), option, "1", option, "1"]
    with pytest.raises(InputError, match=f"^{option} is given twice"):
        commands()[verb].make_context(verb, words)


@pytest.mark.parametrize(("verb", "option"), options(int))
def test_no_option_takes_a_number_without_end(verb: str, option: str) -> None:
    fails(run(verb, *required(verb), option, str(10**20)), f"{option} is", "Use at most")
    refused(verb, *required(verb), option, "-1")
    refused(verb, *required(verb), option, "1.5")


@pytest.mark.parametrize(("verb", "option"), options(Path))
@pytest.mark.parametrize("path", ["x" * 5000, "x/" * 3000 + "y"])
def test_no_option_takes_an_impossible_path(verb: str, option: str, path: str) -> None:
    fails(run(verb, *required(verb), option, path), option)
    refused(verb, *required(verb), option, "a\0b")


ARMS = [
    ("", "is empty"),
    (",", "No name given"),
    ("+", "lacks a name"),
    ("~", "lacks a name"),
    ("sasa+", "'sasa+' lacks a name"),
    ("+sasa", "lacks a name"),
    ("sasa~", "'sasa~' lacks a name"),
    ("~int4", "lacks a name"),
    ("sasa++probe", "lacks a name"),
    ("sasa+sasa", "has sasa twice"),
    ("npo+npo~int4", "has npo twice"),
    ("none+sasa", "Leave 'none' out"),
    ("none~int4", "none does not change weights"),
    ("npo+sft", "npo and sft both change the weights"),
    ("npo~int8+rmu", "npo and rmu both change the weights"),
    ("sasa~int4", "sasa does not change weights"),
    ("safety_prompt~int4+npo", "safety_prompt does not change weights"),
    ("npo~int5", "Did you mean 'int8'"),
    ("npo~int4~int8", "no stress test called 'int4~int8'"),
    ("safety_promt+npo", "Did you mean 'safety_prompt'"),
]


@pytest.mark.parametrize("words", [("eval",), ("try", "x.png", "what?"), ("layers", "testbed")])
@pytest.mark.parametrize(("arm", "says"), ARMS)
def test_arms_that_cannot_run(words: tuple[str, ...], arm: str, says: str) -> None:
    fails(run(*words, "--defense", arm), says)
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("words", [("eval",), ("fit", "sasa", "-o", "x")])
@pytest.mark.parametrize(
    ("tasks", "says"),
    [
        ("vqa+", "'vqa+' lacks a name"),
        ("+prefill", "lacks a name"),
        ("vqa+prefill+prefill", "has prefill twice"),
        ("vqa+prefil", "Did you mean 'prefill'"),
        ("vqa~int4", "no benchmark called 'vqa~int4'"),
    ],
)
def test_tasks_that_cannot_run(words: tuple[str, ...], tasks: str, says: str) -> None:
    fails(run(*words, "--tasks", tasks), says)


def test_spaces_around_names_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    from safesight.workflows import evaluation

    seen: list[Any] = []

    def keep(wanted: Any) -> Any:
        seen.append(wanted)
        raise evaluation_stopped

    evaluation_stopped = KeyError("enough")
    monkeypatch.setattr(evaluation, "run", keep)
    run("eval", "--defense", " safety_prompt + npo ~ int4 ", "--tasks", "vqa + prefill, vqa")
    assert seen[0].arms == ["none", "safety_prompt+npo~int4"]
    assert seen[0].tasks == ["vqa+prefill", "vqa"]


FILE = "taken"
FOLDER = "folder"


@pytest.mark.parametrize(
    ("words", "place"),
    [
        *((("eval", option), where) for option in ("--json",) for where in (FOLDER, f"{FILE}/x")),
        *((("eval", "--log-dir"), where) for where in (FILE, f"{FILE}/x")),
        *((("demo", "-o"), where) for where in (FILE, f"{FILE}/x")),
        *((("layers", "testbed", option), f"{FILE}/x") for option in ("-o", "--json")),
        (("layers", "testbed", "-o"), FOLDER),
        *((("run", "image_tools", "-o"), where) for where in (FOLDER, f"{FILE}/x")),
        (("report", FOLDER, "-o"), f"{FILE}/x.html"),
        (("compare", FOLDER, "--json"), f"{FILE}/x"),
        (("spurious", "mirage", "--json"), FOLDER),
        (("fit", "sasa", "-o"), f"{FILE}/x"),
        (("fit", "npo", "-o", "x", "--run-dir"), FILE),
        (("merge", "x", "-o"), f"{FILE}/x"),
        (("try", "x.png", "what?", "--defense", "rai", "--risk-map"), f"{FILE}/x"),
    ],
)
def test_a_place_that_cannot_be_written(words: tuple[str, ...], place: str) -> None:
    Path(FILE).write_text("mine")
    Path(FOLDER).mkdir()
    fails(run(*words, place), place)
    assert Path(FILE).read_text() == "mine"
    assert list(Path(FOLDER).iterdir()) == []


@pytest.mark.parametrize(
    ("words", "page"), [(("report", "x"), "report"), (("layers", "x"), "layers")]
)
def test_a_page_that_was_not_named_is_not_replaced(words: tuple[str, ...], page: str) -> None:
    Path(f"{page}.html").write_text("mine")
    fails(run(*words), f"{page}.html exists", "--output")
    assert Path(f"{page}.html").read_text() == "mine"


DEEP = "[" * 100_000


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("fit", "sasa", "-o", "x", "--set", f"C={DEEP}"), "C="),
        (("fit", "sasa", "-o", "x", "--set", "C=1", "--set", "C=2"), "sets 'C' twice"),
        (("fit", "sasa", "-o", "x", "--run-dir", "y"), "leave out --run-dir"),
        (("fit", "sasa", "-o", "x", "--limit", "4", "--pool", "5"), "one or the other"),
        (("fit", "npo", "-o", "x", "--limit", "4", "--data", "r.json"), "All rows of r.json"),
        (("fit", "npo", "-o", "x", "--data", "missing.jsonl"), "(No such file or directory)"),
        (("fit", "vsfa", "-o", "x", "--data", "pictures", "--data-option", "folder=5"), "folder=5"),
        (("fit", "vsfa", "-o", "x", "--data", "pictures", "--data-option", "folder=~no"), "~no"),
        (("spurious", "mirage", "--data-option", "rho=[]"), "rho=[]"),
        (("spurious", "mirage", "--quantization", "int8"), "--quantization says how a model"),
        (("spurious", "mirage", "--data-option", f"rho={DEEP}"), "rho="),
        (("fit", "sasa", "-o", "x", "--data-option", "rho=1"), "Leave out --data-option rho"),
        (("layers", "testbed", "--n", "5"), "Use more requests"),
        (("try", "https://x.org/a.png", "what?"), "Download 'https://x.org/a.png'"),
        (("try", "~nosuchuser/a.png", "what?"), "does not exist"),
        (("try", "x.png", "\udcff"), "not text in UTF-8"),
        (("check", "testbed", "--device-map", '{"a": ' + DEEP), "is not a JSON object"),
        (("check", ""), "is empty"),
        (("run", "image_tool", "-o", "x"), "Did you mean 'image_tools'"),
        (("run", "gone.yaml", "-o", "x"), "(No such file or directory)"),
    ],
)
def test_values_that_mean_nothing(words: tuple[str, ...], says: str) -> None:
    result = run(*words)
    fails(result, says)
    assert len(result.stderr) < 600
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("text", [DEEP, "[1, 2]", "{", '[{"id": "a"}]'])
@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl"])
def test_rows_that_are_none(text: str, name: str) -> None:
    Path(name).write_text(text)
    result = run("fit", "npo", "-o", "x", "--data", name)
    fails(result, name)
    assert len(result.stderr) < 500


def test_vlguard_that_is_nested_too_deeply() -> None:
    Path("train.json").write_text(DEEP)
    fails(run("spurious", "vlguard", "--data", "."), "it is nested too deeply")


def test_a_fit_of_so_many_samples_per_task(monkeypatch: pytest.MonkeyPatch) -> None:
    from safesight.workflows import gathering

    seen: list[Any] = []

    def keep(defense: Any, plan: Any, *more: Any) -> Any:
        seen.append(plan)
        raise KeyError

    monkeypatch.setattr(gathering, "data_for", keep)
    run("fit", "sasa", "-o", "x", "--limit", "7")
    assert (seen[0].pool, seen[0].share) == (7, 1.0)


def test_help_is_not_taken_for_a_value() -> None:
    assert run("eval", "--help").exit_code == 0
    models = ["testbed", "testbed-smol", "testbed-smol-unguarded"]
    assert json.loads(run("list", "models", "--json").stdout) == models


@pytest.mark.parametrize(
    ("words", "where"),
    [
        (("serve", "--engine", "vllm", "--max-model-len", "512"), "after --"),
        (("serve", "--engine=vllm", "--enforce-eager", "--", "--bogus"), "after --"),
        (("eval", "--engine", "vllm", "--max-model-len=512"), "into --vllm-options"),
    ],
)
def test_an_option_of_vllm_is_told_its_place(words: tuple[str, ...], where: str) -> None:
    fails(run(*words), f"Options of vLLM go {where}.")


def test_what_only_looks_like_an_option_of_vllm_is_a_usage_error() -> None:
    refused("serve", "--max-model-len", "512")


@pytest.mark.parametrize("value", ["--enforce-eager", "--max-model-len 512"])
def test_a_value_may_look_like_an_option_of_vllm(value: str) -> None:
    words = ("--engine", "vllm", "--base-url", "http://a", "--vllm-options", value)
    fails(run("eval", *words), "Leave out --vllm-options")
