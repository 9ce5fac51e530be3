"""Pictures are drawn again only for the very same samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest
from PIL import Image

from safesight import registry
from safesight.compare import Provenance
from safesight.errors import InputError
from safesight.report.conversations import Conversation, conversations, veiled_picture
from safesight.report.pictures import Album, crafted_pictures, to_data_uri
from safesight.types import Sample
from tests.compare.fake_answers import FakeAnswer


def _paint() -> Image.Image:
    return Image.new("RGB", (8, 8), "red")


def _benchmark(total: int, seed: int) -> list[Sample]:
    return [
        Sample(
            id=f"s-{i}",
            question=f"what is this? {seed}",
            label="benign",
            target="x",
            image=_paint,
            facts={"kind": "rare" if i % 5 == 4 else "common"},
        )
        for i in range(total)
    ]


def _answer(id: str, seed: int = 0, task: str = "vqa", **facts: Any) -> Any:
    question = f"what is this? {seed}"
    return FakeAnswer(task=task, sample_id=id, label="benign", question=question, facts=facts)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many samples were drawn each time."""
    counts: list[int] = []

    def benchmark(total: int, seed: int) -> list[Sample]:
        counts.append(total)
        return _benchmark(total, seed)

    monkeypatch.setattr(registry, "load", lambda kind, name: benchmark)
    return counts


@pytest.mark.usefixtures("drawn")
def test_the_same_sample_gets_its_picture() -> None:
    found = Album(seed=3, known=False).pictures("vqa", {"s-1": _answer("s-1", seed=3)}, 4)
    assert list(found) == ["s-1"]
    assert (found["s-1"] or "").startswith("data:image/webp;base64,")


def _two_tries(total: int, seed: int) -> list[Sample]:
    """Of each sample, the second try has other words and another picture."""
    red, blue = (partial(Image.new, "RGB", (8, 8), color) for color in ("red", "blue"))
    return [
        replace(
            each,
            label="harmful",
            image=red,
            shots=(each.question, "wHat iS tihs?"),
            shot_pictures=((red,), (blue,)),
        )
        for each in _benchmark(total, seed)
    ]


@pytest.mark.parametrize("redaction", ["blur", "remove"])
def test_what_the_deciding_try_asked_is_shown(
    redaction: Literal["blur", "remove"], monkeypatch: pytest.MonkeyPatch
) -> None:
    load = registry.load

    def loaded(kind: Any, name: str) -> Any:
        return _two_tries if kind == "benchmark" else load(kind, name)

    monkeypatch.setattr(registry, "load", loaded)
    answers = [
        replace(_answer("s-1"), label="harmful", defense=arm, verdict=verdicts[-1], tries=verdicts)
        for arm, verdicts in (("none", ("harmful", "refused")), ("sasa", ("refused", "harmful")))
    ]
    about = Provenance(seed=0, limit=4)
    (shown,) = conversations(
        answers,
        defenses=["none", "sasa"],
        tasks=["vqa"],
        per_task=1,
        provenance=about,
        redaction=redaction,
    )
    first, second = (reply.asked for reply in shown.replies)
    assert first is None, "the conversation shows it already"
    if redaction == "remove":
        assert second is None
        return
    assert second is not None
    assert second.question == "wHat iS tihs?"
    assert second.picture not in (None, shown.picture)


@pytest.mark.usefixtures("drawn")
def test_a_sample_of_another_seed_gets_none() -> None:
    assert Album(seed=4, known=False).pictures("vqa", {"s-1": _answer("s-1", seed=3)}, 4) == {}


@pytest.mark.usefixtures("drawn")
def test_samples_that_were_chosen_by_a_fact_get_their_pictures() -> None:
    """Two of ten drawn samples were asked; drawing two would give others."""
    about = Provenance(seed=0, limit=10, only={"kind": ["rare"]})
    answers = [_answer(id, kind="rare") for id in ("s-4", "s-9")]
    shown = conversations(answers, defenses=["none"], tasks=["vqa"], per_task=9, provenance=about)
    assert [each.picture is not None for each in shown] == [True, True]


def test_a_benchmark_is_drawn_once_for_all_its_tasks(drawn: list[int]) -> None:
    answers = [_answer("s-1"), _answer("s-1+pgd8", task="vqa+pgd8", plain="s-1", crafted="x")]
    tasks, about = ["vqa", "vqa+pgd8"], Provenance(seed=0, limit=3)
    shown = conversations(answers, defenses=["none"], tasks=tasks, per_task=9, provenance=about)
    assert all(each.picture for each in shown), "the crafted one shows what it was made of"
    assert drawn == [3]


def test_a_picture_crafted_for_an_attacked_request_stands_beside_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def attack(sample: Sample) -> Sample:
        return replace(sample, id=f"{sample.id}+prefill", facts={"plain": sample.id})

    things = {"benchmark": _benchmark, "attack": lambda: attack}
    monkeypatch.setattr(registry, "load", lambda kind, name: things[kind])
    name = "vqa+prefill+pgd8"
    answer = _answer("s-2+prefill+pgd8", task=name, plain="s-2", crafted="x")
    assert list(Album(limit=5).pictures(name, {answer.sample_id: answer}, 5)) == [answer.sample_id]


@pytest.mark.parametrize("plain", [{}, {"plain": "of the benchmark's own attack"}])
def test_only_what_is_shown_is_attacked(
    monkeypatch: pytest.MonkeyPatch, plain: dict[str, str]
) -> None:
    attacked = []

    def benchmark(total: int, seed: int) -> list[Sample]:
        samples = _benchmark(total, seed)
        return [replace(s, facts=plain) if s.id == "s-2" else s for s in samples]

    def attack(sample: Sample) -> Sample:
        attacked.append(sample.id)
        facts = {"plain": sample.id, **sample.facts}
        return replace(sample, id=f"{sample.id}+prefill", facts=facts)

    things = {"benchmark": benchmark, "attack": lambda: attack}
    monkeypatch.setattr(registry, "load", lambda kind, name: things[kind])
    answer = _answer("s-2+prefill", task="vqa+prefill", **{"plain": "s-2", **plain})
    found = Album(limit=5).pictures("vqa+prefill", {answer.sample_id: answer}, 5)
    assert list(found) == ["s-2+prefill"]
    assert attacked == ["s-2"]


@pytest.mark.usefixtures("drawn")
def test_each_crafted_picture_stands_beside_the_one_it_was_made_of(tmp_path: Path) -> None:
    answers = []
    for arm, color in (("none", "green"), ("sasa", "blue"), ("ecso", "green")):
        against = "none" if arm == "ecso" else arm
        place = f"{against}/pgd-8-1/a.png"
        file = tmp_path / "adaptive" / place
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), color).save(file)
        answer = _answer("s-1+pgd8", task="image_harm+pgd8", plain="s-1", crafted=place)
        answers.append(replace(answer, defense=arm, label="harmful"))

    def shown(redaction: Any) -> Conversation:
        about = Provenance(seed=0, limit=3, log_dir=str(tmp_path))
        arms, tasks = ["none", "sasa", "ecso"], ["image_harm+pgd8"]
        (found,) = conversations(
            answers,
            defenses=arms,
            tasks=tasks,
            per_task=1,
            provenance=about,
            redaction=redaction,
        )
        return found

    blurred = shown("blur")
    said = [each.made for each in blurred.crafted]
    assert said == ["searched on the undefended model", "searched on sasa"]
    assert blurred.picture not in {None, *(each.picture for each in blurred.crafted)}
    assert blurred.picture_veiled
    removed = shown("remove")
    assert (removed.picture, removed.crafted) == (None, ())


@pytest.mark.parametrize("place", ["../secret.png", "none/gone.png", "a\0b.png", 5, "x" * 5000])
def test_a_log_that_names_another_file_gets_no_picture(tmp_path: Path, place: Any) -> None:
    (tmp_path / "adaptive").mkdir()
    _paint().save(tmp_path / "secret.png")
    assert [*crafted_pictures(tmp_path, [_answer("s", crafted=place)])] == []


def test_an_unknown_task_and_a_lost_data_set_leave_a_report_without_pictures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown = {"s-1": _answer("s-1")}
    assert Album().pictures("their_task", shown, 1) == {}

    def gone(*_: Any, **__: Any) -> Callable[..., Any]:
        raise InputError("The data set is gone. Fetch it again.")

    monkeypatch.setattr(registry, "load", lambda kind, name: gone)
    assert Album().pictures("vqa", shown, 1) == {}


def test_large_pictures_are_made_small() -> None:
    small = to_data_uri(Image.effect_noise((300, 300), 80).convert("RGB"))
    large = to_data_uri(Image.effect_noise((3000, 3000), 80).convert("RGB"))
    assert len(large) < 5 * len(small)


@pytest.mark.usefixtures("drawn")
def test_pictures_of_harmful_things_are_veiled_even_with_a_harmless_question() -> None:
    tasks = ["sensitive_benign", "vqa"]
    fakes: Any = [
        FakeAnswer(task=task, sample_id="s-0", label="benign", question="what is this? 0")
        for task in tasks
    ]
    shown = conversations(fakes, defenses=["none"], tasks=tasks, per_task=1)
    assert [c.picture_veiled for c in shown] == [True, False]
    assert veiled_picture("sensitive_benign+one_word", "benign")
    assert not any(c.question_veiled for c in shown)


@pytest.mark.parametrize("redaction", ["blur", "remove"])
@pytest.mark.usefixtures("drawn")
def test_the_picture_of_a_harmful_request_is_veiled_at_its_benign_twin_too(
    redaction: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pictures(self: Album, task: str, first: Any, total: int) -> dict[str, str]:
        return {id: "data:lock" if id != "s-3" else "data:cake" for id in first}

    monkeypatch.setattr(Album, "pictures", pictures)
    fakes: Any = [
        FakeAnswer(task="vqa", sample_id=id, label=label)
        for id, label in (("s-1", "benign"), ("s-2", "harmful"), ("s-3", "benign"))
    ]
    shown = conversations(fakes, defenses=["none"], tasks=["vqa"], per_task=3, redaction=redaction)
    hidden = {c.sample_id for c in shown if c.picture_veiled or c.picture is None}
    assert hidden == {"s-1", "s-2"}
