"""Every source file keeps the house rules; each rule is proved able to fail next door."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.house import rules
from tests.house.source import Source, sources

Rule = Callable[[Source], list[str]]

RULES: tuple[Rule, ...] = (
    rules.upward_imports,
    rules.library_imports,
    rules.missing_docstrings,
    rules.bad_exports,
    rules.oversize,
    rules.too_many_parameters,
    rules.broad_excepts,
    rules.unlabelled_defaults,
    rules.leftovers,
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_source_keeps(rule: Rule) -> None:
    wrong = [sentence for source in sources() for sentence in rule(source)]
    assert not wrong, "\n".join(wrong)


def test_no_module_imports_itself_through_others() -> None:
    modules = {source.module for source in sources()}
    # The package itself offers names of every room lazily, and imports none of them.
    edges = {s.module: rules.imported_modules(s, modules) for s in sources() if s.room}
    assert rules.import_circles(edges) == []


def test_no_module_is_hidden_by_its_package() -> None:
    modules = {source.module for source in sources()}
    wrong = [w for source in sources() for w in rules.shadowed_modules(source, modules)]
    assert not wrong, "\n".join(wrong)


def test_every_room_has_a_level() -> None:
    rooms = {source.room for source in sources()} - {""}
    assert rooms <= set().union(*rules.LEVELS)


def test_every_exception_to_a_rule_is_still_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    excused = [*rules.BROAD_EXCEPTS, *(name.rpartition(".")[0] for name in rules.WIDE_SIGNATURES)]
    monkeypatch.setattr(rules, "BROAD_EXCEPTS", {})
    monkeypatch.setattr(rules, "WIDE_SIGNATURES", {})
    for source in sources():
        if source.module in excused:
            excused.remove(source.module)
            assert rules.broad_excepts(source) + rules.too_many_parameters(source), source.module
    assert not excused, "these files are gone"
