"""Pictures are drawn again only for the very same samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image

from safesight import registry
from safesight.errors import InputError
from safesight.report.conversations import conversations
from safesight.report.pictures import draw, to_data_uri
from safesight.types import Sample
from tests.compare.fake_answers import FakeAnswer


def _benchmark(total: int, seed: int) -> list[Sample]:
    def paint() -> Image.Image:
        return Image.new("RGB", (8, 8), "red")

    question = f"what is this? {seed}"
    return [
        Sample(id=f"s-{i}", question=question, label="benign", target="x", image=paint)
        for i in range(total)
    ]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "load", lambda kind, name: _benchmark)


@pytest.mark.usefixtures("bench")
def test_the_same_sample_gets_its_picture() -> None:
    found = draw("vqa", {"s-1": "what is this? 3"}, total=4, seed=3)
    assert list(found) == ["s-1"]
    assert (found["s-1"] or "").startswith("data:image/webp;base64,")


@pytest.mark.usefixtures("bench")
def test_a_sample_of_another_seed_gets_none() -> None:
    assert draw("vqa", {"s-1": "what is this? 3"}, total=4, seed=4) == {}


def test_an_unknown_task_and_a_lost_data_set_leave_a_report_without_pictures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert draw("their_task", {"s-1": "x"}, total=1, seed=0) == {}

    def gone(*_: Any, **__: Any) -> Callable[..., Any]:
        raise InputError("The data set is gone. Fetch it again.")

    monkeypatch.setattr(registry, "load", lambda kind, name: gone)
    assert draw("vqa", {"s-1": "x"}, total=1, seed=0) == {}


def test_large_pictures_are_made_small() -> None:
    small = to_data_uri(Image.effect_noise((300, 300), 80).convert("RGB"))
    large = to_data_uri(Image.effect_noise((3000, 3000), 80).convert("RGB"))
    assert len(large) < 5 * len(small)


@pytest.mark.usefixtures("bench")
def test_pictures_of_harmful_things_are_veiled_even_with_a_harmless_question() -> None:
    fakes: Any = [
        FakeAnswer(task=task, sample_id="s-0", label="benign", question="what is this? 0")
        for task in ("sensitive_benign", "vqa")
    ]
    shown = conversations(fakes, defenses=["none"], tasks=["sensitive_benign", "vqa"], per_task=1)
    assert [c.picture_veiled for c in shown] == [True, False]
    assert not any(c.question_veiled for c in shown)
