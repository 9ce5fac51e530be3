"""What the registry makes of other packages: whole ones, silent ones, and broken ones."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib import invalidate_caches
from pathlib import Path
from typing import Any, get_args

import pytest

from safesight import VLM, protect, registry
from safesight.benchmarks import load_benchmark
from safesight.cli.list_ import _KINDS
from safesight.compare import control_of
from safesight.defenses import Artifact, load_defense, protection
from safesight.errors import PluginError
from safesight.evals.house_rules import forbidden_by
from safesight.evals.run import run_eval
from safesight.guests import checked_judge, verdict_fault
from safesight.hosting.arms import build_arm
from safesight.training.rows import load_dataset
from safesight.types import Sample
from safesight.workflows.artifacts import FitPlan, data_for
from safesight.workflows.evaluation import demo_defenses
from tests import tiny
from tests.cli.test_main import fails, run
from tests.plugins.packages import installed

Install = Callable[[Mapping[str, str], str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Puts a package of these modules and entry points on the path, for one test."""

    def installing(modules: Mapping[str, str], entry_points: str) -> None:
        project = f'[project]\nname = "guest"\nversion = "2.0"\n{entry_points}'
        files = {f"src/{name}": text for name, text in modules.items()}
        monkeypatch.syspath_prepend(installed(tmp_path, {**files, "pyproject.toml": project}))
        invalidate_caches()
        registry._table.cache_clear()

    yield installing
    registry._table.cache_clear()
    for name in [name for name in sys.modules if name.startswith("guest_")]:
        del sys.modules[name]


def group(kind: str, **targets: str) -> str:
    lines = [f'{name} = "{target}"' for name, target in targets.items()]
    return "\n".join([f'[project.entry-points."safesight.{kind}"]', *lines, ""])


def changed(field: str) -> str:
    return f"[Sample('1', 'how?', 'harmful', 'bomb', {field})]"


def row(fields: str) -> str:
    return f"[TuningSample({fields})]"


def test_the_groups_are_plurals() -> None:
    assert sorted(registry.GROUPS.values()) == [
        "safesight.attacks",
        "safesight.benchmarks",
        "safesight.datasets",
        "safesight.defenses",
        "safesight.judges",
        "safesight.models",
        "safesight.stress_tests",
        "safesight.word_lists",
    ]


def test_a_package_says_itself_what_it_adds(install: Install) -> None:
    install(
        {
            "guest_said.py": '"""Not this."""\nclass A:\n    """Nor."""\n    summary = "Said."',
            "guest_doc.py": 'def f(n=None, *, seed=0):\n    """Of a function.  And\n    more. """',
            "guest_value.py": '"""Of the\nmodule. And more.\n\nEven more."""\nWORDS = ("a",)',
            "guest_silent.py": "WORDS = ('a',)\nclass B: ...",
        },
        group("attacks", said="guest_said:A", silent="guest_silent:B")
        + group("benchmarks", doc="guest_doc:f")
        + group("word_lists", value="guest_value:WORDS", mute="guest_silent:WORDS"),
    )
    assert registry.describe("attack", "said") == "Said."
    assert registry.describe("benchmark", "doc") == "Of a function."
    assert registry.describe("word_list", "value") == "Of the module."
    assert registry.describe("attack", "silent") == "From the package guest 2.0."
    assert registry.describe("word_list", "mute") == "From the package guest 2.0."


def test_a_name_that_is_taken_stays(install: Install) -> None:
    before = registry.names("judge")
    install({"guest_taken.py": ""}, group("judges", exact="guest_taken:Other", own="guest_taken:O"))
    assert registry.load("judge", "exact").__module__ == "safesight.judges.exact"
    assert registry.names("judge") == [*before, "own"]
    assert registry.names("judge", builtin=True) == before


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        ("import not_there_at_all", "ModuleNotFoundError: No module named 'not_there_at_all'"),
        ("raise RuntimeError('no GPU\\nat all')", "RuntimeError: no GPU"),
        ("def f(:", "SyntaxError"),
        ("", "AttributeError"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("raise RuntimeError", "(RuntimeError)"),
        ("class E(Exception):\n    def __str__(self): return 1 / 0\nraise E", "(E)"),
    ],
)
def test_a_broken_package_is_named_and_breaks_nothing_else(
    module: str, reason: str, install: Install, tmp_path: Path
) -> None:
    entries = group("defenses", ill="guest_ill:Ill") + group("models", ill="guest_ill:FOLDER")
    install({"guest_ill.py": module}, entries)
    listed = run("list", "defenses")
    assert listed.exit_code == 0
    assert "sasa" in listed.stdout
    assert "ill" in json.loads(run("list", "defenses", "--json").stdout)
    said = registry.describe("defense", "ill")
    assert "guest 2.0 cannot be imported" in said
    assert reason in said
    assert "\n" not in said
    fails(run("fit", "ill", "-o", str(tmp_path / "fit")), "guest 2.0", "uninstall it")
    with pytest.raises(PluginError, match="The defense 'ill' of the package guest"):
        load_defense("ill")
    # Nor does it stand in the way of the others.
    assert VLM.wrap(*tiny.fresh("llava")).name
    assert control_of("ill+sasa") == "ill+probe"
    assert all(defense.name != "ill" for defense in demo_defenses())


WRONG = """
from safesight import Defense
class Unnamed(Defense):
    kind = "input"
    def parts(self, vlm, config, fitted): return None
class Odd(Unnamed):
    name = "odd"
    kind = "magic"
class Abstract(Defense):
    name = "abstract"
    kind = "input"
class Led(Unnamed):
    name = "led"
    control = 5
def narrow(): ...
"""


@pytest.mark.parametrize(
    ("kind", "name", "thing", "says"),
    [
        *((kind, "five", "int('5')", "is 5, not") for kind in get_args(registry.Kind)),
        ("defense", "unnamed", "Unnamed", "both names have to be the same"),
        ("defense", "odd", "Odd", "has no `kind`"),
        ("defense", "abstract", "Abstract", "has no method 'parts'"),
        ("defense", "led", "Led", "has the control 5"),
        ("benchmark", "narrow", "narrow", "cannot be called as safesight does"),
        ("dataset", "narrow", "narrow", "cannot be called as safesight does"),
        ("stress_test", "narrow", "narrow", "cannot be called as safesight does"),
        ("word_list", "text", "'bomb'", "not a tuple of words"),
        ("word_list", "none", "()", "not a tuple of words"),
        ("word_list", "numbers", "(1, 2)", "not a tuple of words"),
        ("judge", "a+b", "print", "has a name that no command can take"),
        ("attack", "a~b", "print", "has a name that no command can take"),
    ],
)
def test_a_thing_of_the_wrong_kind_is_named_and_breaks_nothing_else(
    kind: registry.Kind, name: str, thing: str, says: str, install: Install
) -> None:
    install(
        {"guest_wrong.py": f"{WRONG}\nTHING = {thing}"},
        f'[project.entry-points."{registry.GROUPS[kind]}"]\n"{name}" = "guest_wrong:THING"\n',
    )
    said = registry.describe(kind, name)
    assert said.startswith("Not usable: ")
    assert "package guest 2.0" in said
    assert says in said
    for use in (registry.check, registry.load):
        with pytest.raises(PluginError, match="Repair the package, or uninstall it"):
            use(kind, name)
    others = registry.names(kind)
    assert all(registry.describe(kind, other) for other in others)
    plural = next(plural for plural, each in _KINDS.items() if each == kind)
    assert run("list", plural).exit_code == 0


def test_what_a_package_says_may_fail(install: Install) -> None:
    install(
        {
            "guest_mute.py": "class M(type):\n    @property\n    def summary(cls): return 1 / 0\n"
            "class A(metaclass=M): ..."
        },
        group("attacks", mute="guest_mute:A"),
    )
    assert "ZeroDivisionError" in registry.describe("attack", "mute")
    assert run("list", "attacks").exit_code == 0


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("defenses", ("eval", "--defense", "ill")),
        ("defenses", ("try", "x.png", "what?", "--defense", "ill")),
        ("defenses", ("layers", "testbed", "--defense", "ill")),
        ("benchmarks", ("eval", "--tasks", "ill")),
        ("attacks", ("eval", "--tasks", "vqa+ill")),
        ("judges", ("eval", "--judge", "ill")),
        ("datasets", ("spurious", "ill")),
        ("stress_tests", ("eval", "--defense", "npo~ill")),
        ("models", ("check", "ill")),
    ],
)
def test_a_broken_name_is_refused_before_anything_starts(
    kind: str, words: tuple[str, ...], install: Install, tmp_path: Path, monkeypatch: Any
) -> None:
    install({"guest_off.py": "import sys; sys.exit('no licence')"}, group(kind, ill="guest_off:X"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    fails(run(*words), "guest 2.0 cannot be imported (SystemExit: no licence)")
    assert list(Path().iterdir()) == []


def test_a_defense_that_has_no_parts_is_named(install: Install) -> None:
    install(
        {"guest_none.py": f"{WRONG}\nUnnamed.name = 'none_at_all'"},
        group("defenses", none_at_all="guest_none:Unnamed"),
    )
    vlm = VLM.wrap(*tiny.fresh("llava"))
    with pytest.raises(PluginError, match="'none_at_all' gives NoneType"):
        protect(vlm, "none_at_all")
    assert protection(vlm.model) is None


def test_a_built_in_name_that_is_broken_is_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    """And keeps its traceback."""
    broken: dict[Any, Any] = {"judge": {"gone": registry.Entry("safesight.judges.gone:Gone", "")}}
    monkeypatch.setattr(registry, "_table", broken.__getitem__)
    with pytest.raises(ModuleNotFoundError):
        registry.load("judge", "gone")


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ("5", "gives 5, not a list of samples"),
        ("['a question']", "gives 'a question', not a safesight.types.Sample"),
        ("[Sample('1', 'how?', 'evil', '')]", "gives a sample whose label is 'evil'"),
        ("[Sample(1, 'how?', 'harmful', 'bomb')]", "gives a sample whose id is 1, not a text"),
        ("[Sample(' ', 'how?', 'harmful', 'bomb')]", "gives a sample whose id is ' '"),
        ("[Sample('1', None, 'harmful', 'bomb')]", "gives a sample whose question is None"),
        ("[Sample('1', 'how?', 'harmful', ['bomb'])]", "gives a sample whose target is ['bomb']"),
        ("[Sample('1', 'how?', 'harmful', None)]", "gives a sample whose target is None"),
        (changed("image='a.png'"), "gives a sample whose image is 'a.png'"),
        (changed("system=1"), "gives a sample whose system is 1, not a text or None"),
        (changed("attack=1"), "gives a sample whose attack is 1"),
        (changed("prefill=['Sure,']"), "gives a sample whose prefill is ['Sure,']"),
        (changed("shots='how?'"), "gives a sample whose shots is 'how?', not a tuple of texts"),
        (changed("shots=(1,)"), "gives a sample whose shots is (1,)"),
        (changed("facts=None"), "gives a sample whose facts is None, not a mapping"),
        (changed("facts={'refusals': 'i will not'}"), "gives a sample whose facts is {'refusals':"),
        (changed("facts={'seen': {1, 2}}"), "gives a sample whose facts is {'seen': {1, 2}}"),
    ],
)
def test_what_a_benchmark_or_an_attack_returns_is_looked_at(
    given: str, fault: str, install: Install
) -> None:
    lines = ["from safesight.types import Sample", "def bench(n=None, *, seed=0):"]
    lines += [
        f"    return {given}",
        "class Bad:",
        f"    def __call__(self, sample): return {given}",
    ]
    install(
        {"guest_samples.py": "\n".join(lines)},
        group("benchmarks", odd="guest_samples:bench") + group("attacks", bad="guest_samples:Bad"),
    )
    with pytest.raises(PluginError, match=re.escape(f"The benchmark 'odd' {fault}")):
        load_benchmark("odd")(1)
    with pytest.raises(PluginError, match=r"The attack 'bad' gives"):
        load_benchmark("vqa+bad")(1)


@pytest.mark.parametrize("verdict", ["safe", None, 1])
def test_a_verdict_of_another_kind_is_no_verdict(verdict: Any) -> None:
    assert "not one of refused, harmful" in verdict_fault(verdict)
    assert verdict_fault("harmless") == ""


JUDGE = """
class Odd:
    name, version = "odd", "1"
    def __call__(self, answer, sample): return "harmless"
    def correct(self, answer, sample): return True
    def caveat(self, model, sample): return None
    {change}
"""


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ("def __call__(self, answer, sample): return 'safe'", "gives the verdict 'safe'"),
        ("def correct(self, answer, sample): return 'no'", "says 'no' of whether an answer"),
        ("def correct(self, answer, sample): return None", "says None of whether an answer"),
        ("def caveat(self, model, sample): return True", "gives the caveat True, not a sentence"),
        ("version = 2", "has no 'version' that is a text"),
        ("def __init__(self, path, more): ...", "cannot be called as safesight does"),
        ("correct = False", "has no method 'correct'"),
    ],
)
def test_what_a_judge_returns_is_looked_at(change: str, fault: str, install: Install) -> None:
    install({"guest_judge.py": JUDGE.format(change=change)}, group("judges", odd="guest_judge:Odd"))
    sample = Sample("1", "what is this?", "benign", "cup")

    def ask_everything() -> None:
        judge = checked_judge("odd", registry.load("judge", "odd"))
        judge("a cup.", sample)
        judge.correct("a cup.", sample)
        judge.caveat("testbed", sample)

    with pytest.raises(PluginError, match=f"The judge 'odd'.* {re.escape(fault)}"):
        ask_everything()


def test_a_judge_that_returns_other_things_ends_an_evaluation(
    install: Install, tmp_path: Path
) -> None:
    change = "def correct(self, answer, sample): return 'no'"
    install({"guest_judge.py": JUDGE.format(change=change)}, group("judges", odd="guest_judge:Odd"))
    with pytest.raises(PluginError, match="The judge 'odd' says 'no'"):
        run_eval("testbed", ["none"], ["vqa"], log_dir=tmp_path / "log", limit=2, judge="odd")


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ("None", "gives None, not a list of rows"),
        ("['how?']", "gives 'how?', not a safesight.types.TuningSample"),
        (row("1, 'how?', 'so.', 'harmful', 'forget'"), "gives a row whose id is 1"),
        (row("'1', 'how?', None, 'harmful', 'forget'"), "gives a row whose answer is None"),
        (row("'1', 'how?', 'so.', 'harmful', 'test'"), "gives a row whose set is 'test'"),
        (row("'1', 'how?', 'so.', 'evil', 'forget'"), "gives a row whose label is 'evil'"),
        (row("'1', 'how?', 'so.', 'harmful', 'forget', 'a.png'"), "gives a row whose image is"),
        (row("'1', 'how?', 'so.', 'harmful', 'forget', None, 5"), "gives a row whose refusal is 5"),
    ],
)
def test_what_a_data_set_returns_is_looked_at(given: str, fault: str, install: Install) -> None:
    code = "from safesight.types import TuningSample\ndef rows(n=None, *, seed=0, split='fit'):"
    install(
        {"guest_rows.py": f"{code}\n    return {given}"}, group("datasets", odd="guest_rows:rows")
    )
    with pytest.raises(PluginError, match=re.escape(f"The data set 'odd' {fault}")):
        load_dataset("odd")(1)
    with pytest.raises(PluginError, match="The data set 'odd' gives"):
        data_for(load_defense("npo"), FitPlan(), "testbed", "odd")


@pytest.mark.parametrize("given", ["None", "['tree']", "[{'concept': 'tree'}]", "[{}]"])
def test_what_a_data_set_forbids_is_looked_at(given: str, install: Install) -> None:
    code = f"def rows(n=None, *, seed=0): ...\nrows.forbidden = lambda: {given}"
    install({"guest_rules.py": code}, group("datasets", odd="guest_rules:rows"))
    fit = Artifact("npo", {}, card={"data": {"tuning_source": {"dataset": "odd"}}})
    with pytest.raises(PluginError, match="The data set 'odd' forbids"):
        forbidden_by([fit])


def test_what_a_stress_test_returns_is_looked_at(install: Install) -> None:
    code = "def nothing(vlm, artifact): ..."
    install({"guest_stress.py": code}, group("stress_tests", nothing="guest_stress:nothing"))
    with pytest.raises(PluginError, match="The stress test 'nothing' gives the type NoneType"):
        build_arm(VLM.load("testbed"), "npo~nothing")


def test_a_judge_without_its_methods_is_named(install: Install) -> None:
    code = "class Half:\n    name = version = 'half'\n    def __call__(self, a, s): return 'x'"
    install({"guest_half.py": code}, group("judges", half="guest_half:Half"))
    with pytest.raises(PluginError, match="has no method 'correct'"):
        registry.load("judge", "half")
