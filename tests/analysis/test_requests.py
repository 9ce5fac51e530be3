"""The same verb and object in every form, no sample twice, reproducible."""

from __future__ import annotations

from typing import Any

import pytest

from safesight import registry
from safesight.analysis.requests import paired_requests
from safesight.errors import InputError
from safesight.types import Label


@pytest.mark.parametrize("label", ["harmful", "benign"])
def test_only_the_form_changes_along_a_row(label: Label) -> None:
    requests = paired_requests(12, label=label)
    assert len(requests) == 12
    for request in requests:
        assert set(request.forms) == {"text", "object", "word"}
        for form, sample in request.forms.items():
            assert sample.label == label
            assert sample.target == sample.facts["concept"] == request.concept
            assert sample.facts["verb"] == request.verb
            assert (sample.image is None) == (form == "text")
            assert (request.concept in sample.question) == (form == "text")
    ids = [sample.id for request in requests for sample in request.forms.values()]
    assert len(set(ids)) == len(ids)


def test_they_are_reproducible_and_the_splits_do_not_meet() -> None:
    def ids(**more: Any) -> set[str]:
        rows = paired_requests(10, label="harmful", **more)
        return {sample.id for row in rows for sample in row.forms.values()}

    assert ids() == ids()
    assert ids() != ids(seed=1)
    assert ids().isdisjoint(ids(split="fit"))


def test_many_different_objects_come_first() -> None:
    rows = paired_requests(20, label="benign")
    assert len({(row.concept, row.verb) for row in rows}) == 20


def test_more_than_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark = registry.load("benchmark", "over_refusal")

    def few(n: int, **more: Any) -> Any:
        return benchmark(min(n, 40), **more)

    monkeypatch.setattr(registry, "load", lambda kind, name: few)
    with pytest.raises(InputError, match="Ask for fewer"):
        paired_requests(50, label="benign")
