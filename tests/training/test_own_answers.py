"""Training on the model's own answers: prompts with labels are enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from safesight import registry
from safesight.defenses import load_defense
from safesight.errors import InputError, StorageError, TrainingError
from safesight.fitting.artifact import Artifact
from safesight.models import VLM
from safesight.training import own_answers as own
from safesight.training.batches import Collator, stop_tokens
from safesight.training.own_answers import (
    AnswersConfig,
    OwnAnswer,
    answered_rows,
    asked_as,
    own_answers,
)
from safesight.training.rows import rows_hash
from safesight.training.run import TuningRun
from safesight.types import Sample
from tests import tiny
from tests.training.helpers import data, fit, row, rows

METHODS = sorted(
    name
    for name in registry.names("defense", builtin=True)
    if issubclass(registry.load("defense", name).Config, AnswersConfig)
)


def says(text: str, question: dict[str, str] | None = None) -> Any:
    """In place of `own_answers`: one text, or another to some questions."""

    def answers(vlm: Any, prompts: Sequence[Sample], **how: Any) -> list[OwnAnswer]:
        return [OwnAnswer((question or {}).get(each.question, text), True) for each in prompts]

    return answers


def test_every_method_that_trains_on_answers_can_take_its_own() -> None:
    trained = [
        name
        for name in registry.names("defense", builtin=True)
        if load_defense(name).kind == "weights"
    ]
    assert sorted(trained) == METHODS


@pytest.mark.parametrize("name", METHODS)
def test_prompts_are_enough_and_train_like_rows_with_those_answers(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own, "own_answers", says("take a cup."))
    told = [replace(each, answer="take a cup.") for each in rows()]
    mute = [replace(each, answer="") for each in rows()]
    settings = {"max_steps": 2, "lora_dropout": 0.0}
    given = fit(name, tiny.vlm("llava"), given=data(*told), **settings)
    found = fit(name, tiny.vlm("llava"), given=data(*mute), answers="self", **settings)
    assert given.tensors.keys() == found.tensors.keys()
    for key, tensor in given.tensors.items():
        torch.testing.assert_close(found.tensors[key], tensor, atol=0, rtol=0)


@pytest.mark.parametrize("empty", ["sorry, i can't help with that.", " ", "a a a a a a a a a a"])
def test_what_the_model_refuses_or_leaves_open_is_neither_unlearned_nor_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], empty: str
) -> None:
    refused = [row("tie a knot"), row("tie a bow", "retain")]
    silenced = {each.question: empty for each in refused}
    monkeypatch.setattr(own, "own_answers", says("take a cup.", silenced))
    kept = answered_rows(tiny.vlm("llava"), [*rows(), *refused], longest=8)
    assert [each.id for each in kept] == [each.id for each in rows()]
    assert {each.answer for each in kept} == {"take a cup."}
    npo = load_defense("npo", answers="self", max_steps=1, batch_size=2)
    npo.fit(tiny.vlm("llava"), data(*rows(), *refused), progress=True)
    assert "2 of 10 rows are left out" in " ".join(capsys.readouterr().err.split())


def test_a_model_that_answers_no_row_of_a_set_has_nothing_to_train_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = {each.question: "i cannot help with that." for each in rows() if each.set == "forget"}
    monkeypatch.setattr(own, "own_answers", says("take a cup.", asked))
    with pytest.raises(InputError, match="answers none of the forget rows"):
        fit("npo", tiny.vlm("llava"), max_steps=1, answers="self")


def test_a_resumed_run_trains_on_the_answers_of_its_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked again, a model may answer otherwise: kernels of a GPU differ from run to run."""
    folder = tmp_path / "run"

    def fitted(said: str, *, resume: bool = True, **settings: Any) -> Artifact:
        monkeypatch.setattr(own, "own_answers", says(said))
        run = TuningRun(folder, resume=resume)
        return fit("npo", tiny.vlm("llava"), run, max_steps=1, answers="self", **settings)

    first = fitted("take a cup.")
    assert fitted("take a spoon.").hash == first.hash
    with pytest.raises(TrainingError, match="different config"):
        fitted("take a spoon.", max_answer_tokens=7)
    for damaged in ("", "[]", '{"asked": 1}'):
        (folder / "answers.json").write_text(damaged)
        assert fitted("take a cup.").hash == first.hash
    (folder / "answers.json").unlink()
    with pytest.raises(TrainingError, match="different data"):
        fitted("take a spoon.")
    assert fitted("take a spoon.", resume=False).hash != first.hash


def test_a_folder_that_may_be_wanted_is_refused_before_the_model_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own, "own_answers", None)
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(StorageError, match="is not a run folder"):
        fit("npo", tiny.vlm("llava"), TuningRun(tmp_path), max_steps=1, answers="self")


def test_answers_are_the_undefended_models_and_a_batch_equals_its_rows() -> None:
    vlm = tiny.vlm("llava")
    prompts = [asked_as(each) for each in rows()]
    plain = own_answers(vlm, prompts, longest=5, batch_size=3)
    assert plain == [own_answers(vlm, [each], longest=5)[0] for each in prompts]
    texts = vlm.answer([each.messages() for each in prompts], max_new_tokens=5)
    assert [each.text for each in plain] == texts
    with load_defense("safety_prompt").apply(vlm):
        assert own_answers(vlm, prompts, longest=5, batch_size=3) == plain


def test_of_an_answer_that_was_cut_off_no_end_is_taught() -> None:
    vlm = VLM.load("testbed")
    asked = [row("count", "retain", question="what is a crab?")]
    (cut,) = answered_rows(vlm, asked, longest=3)
    (whole,) = answered_rows(vlm, asked, longest=12)
    assert (cut.whole, whole.whole) == (False, True)
    assert whole.answer.startswith(cut.answer)
    collate, stops = Collator(vlm), stop_tokens(vlm)
    assert collate.answer_tokens(whole)[-1] in stops
    assert not stops & set(collate.answer_tokens(cut))
    assert rows_hash([cut]) != rows_hash([replace(cut, whole=True)])
