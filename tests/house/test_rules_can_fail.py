"""Each house rule fails on a source that breaks it, and passes on one that does not."""

from __future__ import annotations

import pytest

from tests.house import rules
from tests.house.source import Source
from tests.house.test_source import RULES, Rule

GOOD = '''"""A good file."""

from __future__ import annotations

from typing import ClassVar

from safesight.activations import capture
from safesight.errors import InputError
from safesight.models import VLM

__all__ = ["Config", "read"]


class Config:
    """Settings."""

    at_use: ClassVar[set[str]] = set()

    layer: int = 3
    """Which block. Source: paper."""


def read(path: str) -> str:
    """The text at a path."""
    try:
        return path
    except OSError as error:
        raise InputError("no") from error
    except BaseException:
        print("tidy up")
        raise
'''

# rule, module, text that breaks it
BROKEN: tuple[tuple[Rule, str, str], ...] = (
    (rules.upward_imports, "models.vlm", "from safesight.defenses import protect"),
    (rules.upward_imports, "models.vlm", "import safesight.evals.run"),
    (rules.upward_imports, "models.vlm", "from safesight import compare"),
    (rules.upward_imports, "models.vlm", "from ..evals import run"),
    (rules.upward_imports, "models.vlm", "def f():\n    from safesight.cli.main import main"),
    (
        rules.upward_imports,
        "models.vlm",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from safesight.evals import x",
    ),
    (rules.upward_imports, "defenses.sasa", "from safesight.judges import ExactJudge"),
    (rules.upward_imports, "evals.tasks", "from safesight.testbed import WEIGHTS"),
    (rules.upward_imports, "attic.old", "from safesight.models import VLM"),
    (rules.library_imports, "defenses.sasa", "import transformers"),
    (rules.library_imports, "compare.read", "from inspect_ai.log import read_eval_log"),
    (rules.missing_docstrings, "models.vlm", "x = 1"),
    (rules.missing_docstrings, "models.vlm", '"""no sentence"""'),
    (rules.missing_docstrings, "m.v", '"""Good."""\n__all__ = ["f"]\ndef f(): pass'),
    (
        rules.missing_docstrings,
        "m.v",
        '"""Good."""\n__all__ = ["A"]\nclass A:\n    """A."""\n    def f(self): pass',
    ),
    (rules.bad_exports, "models.vlm", '__all__ = ["gone"]'),
    (rules.bad_exports, "models.vlm", '__all__ = ["_f"]\ndef _f(): pass'),
    (rules.bad_exports, "models.vlm", "def forgotten(): pass"),
    (rules.oversize, "models.vlm", "x = 1\n" * 401),
    (rules.oversize, "models.vlm", "def f():\n" + "    x = 1\n" * 60),
    (rules.too_many_parameters, "models.vlm", "def f(a, b, c, d, e, /, f, g, *, h, i): pass"),
    (rules.broad_excepts, "models.vlm", "try: pass\nexcept Exception: pass"),
    (rules.broad_excepts, "models.vlm", "try: pass\nexcept: pass"),
    (rules.broad_excepts, "models.vlm", "try: pass\nexcept (OSError, BaseException): pass"),
    (rules.unlabelled_defaults, "defenses.x", "class Config:\n    layer: int = 3"),
    (
        rules.unlabelled_defaults,
        "defenses.x",
        'class XConfig(Config):\n    layer: int = 3\n    """Which block. Source: a blog."""',
    ),
    (rules.leftovers, "models.vlm", "x = 1  # TO" + "DO later"),
    (rules.leftovers, "models.vlm", "def f():\n    raise NotImplementedError"),
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_passes_on_a_good_file(rule: Rule) -> None:
    assert rule(Source("safesight.defenses.good", GOOD)) == []


@pytest.mark.parametrize(("rule", "module", "text"), BROKEN)
def test_fails_on_a_broken_file(rule: Rule, module: str, text: str) -> None:
    assert rule(Source(f"safesight.{module}", text))


def test_every_rule_has_a_broken_example() -> None:
    assert {rule for rule, _, _ in BROKEN} == set(RULES)


def test_relative_imports_are_resolved_from_packages_too() -> None:
    package = Source("safesight.models", "from .vlm import VLM", is_package=True)
    assert list(rules.imports(package)) == [(1, "safesight.models.vlm.VLM")]


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("from safesight.models.load import load", True),
        ("def load():\n    pass", True),
        ("from x import y as load", True),
        ("__all__ = ['load']", True),
        ("from safesight.models import load\n__all__ = ['load']", False),
        ("from safesight.models.load import read", False),
    ],
)
def test_a_module_behind_a_name_of_its_package_is_seen(text: str, hidden: bool) -> None:
    modules = {"safesight.models", "safesight.models.load"}
    package = Source("safesight.models", text, is_package=True)
    assert bool(rules.shadowed_modules(package, modules)) == hidden
    assert not rules.shadowed_modules(Source("safesight.models.load", text), modules)


def test_an_import_circle_is_found_however_it_is_imported() -> None:
    files = [
        Source("safesight.models.a", "from safesight.models import b"),
        Source("safesight.models.b", "def f():\n    from safesight.models.c import g"),
        Source(
            "safesight.models.c",
            "import typing\nif typing.TYPE_CHECKING:\n    from safesight.models.a import h",
        ),
    ]
    modules = {source.module for source in files}
    edges = {source.module: rules.imported_modules(source, modules) for source in files}
    assert rules.import_circles(edges) == [
        "safesight.models.a <-> safesight.models.b <-> safesight.models.c"
    ]
    del edges["safesight.models.c"]
    assert rules.import_circles(edges) == []
