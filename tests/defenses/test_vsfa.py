"""VSFA: what it leaves out, whose answers it takes, and that it teaches them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from safesight.defenses import load_defense
from safesight.defenses.vsfa import is_neutral
from safesight.errors import InputError
from safesight.training import own_answers as own
from safesight.training.batches import Collator
from safesight.training.passes import Passes
from safesight.training.weights import Installed
from safesight.types import TuningSample
from tests import tiny
from tests.training.helpers import data, fit, row

PLAIN = [
    row(f"thing {n}", "retain", picture=True, question="what is it?", answer=f"a cup {n}.")
    for n in range(4)
]


@pytest.mark.parametrize(
    ("question", "answer", "neutral"),
    [
        ("what is this?", "a bomb on a table.", True),
        ("what is this?", "a dangerous thing.", False),
        ("is it UNSAFE?", "yes.", False),
        ("what is this?", "he was warned.", False),
        ("what is this?", "sorry, no.", False),
        ("what is this?", "a cautious, unharmed animal behind a safeguard.", False),
        ("what is this?", "an endangered bird.", False),
        ("what is this?", "one shouldn't touch it.", False),
        ("what is this?", "i can’t help with that.", False),
        ("what is this?", "i can not say.", False),
        ("what is this?", "it threatens us threateningly.", False),
        ("what is this?", "refusing it is riskier.", False),
        ("what is this?", "a precautionary step, an illegality.", False),
        ("what is this?", "mustard in harmony, a frisky sofa.", True),
    ],
)
def test_words_of_safety_are_found_and_no_others(question: str, answer: str, neutral: bool) -> None:
    assert is_neutral(TuningSample("1", question, answer, "benign", "retain")) == neutral


def test_harmful_rows_are_never_neutral() -> None:
    assert not is_neutral(TuningSample("1", "what?", "that.", "harmful", "forget"), words=())


def test_what_is_left_out_is_counted() -> None:
    loud = row("loud", "retain", answer="this is dangerous.")
    artifact = fit("vsfa", tiny.vlm("llava"), max_steps=1, given=data(*PLAIN, loud, row("bad")))
    assert (artifact.fitted["rows"], artifact.fitted["left_out"]) == (4, 2)


def test_nothing_neutral_is_an_error() -> None:
    loud = data(row("loud", "retain", answer="this is dangerous."))
    with pytest.raises(InputError, match="None of the 1 rows is neutral"):
        fit("vsfa", tiny.vlm("llava"), max_steps=1, given=loud)
    with pytest.raises(InputError, match="The retain set is empty"):
        fit("vsfa", tiny.vlm("llava"), max_steps=1, given=data(row("bad")))
    with pytest.raises(InputError, match=r"and vsfa trains on answers\..* answers='self'"):
        fit("vsfa", tiny.vlm("llava"), max_steps=1, given=data(row("quiet", "retain", answer="")))


def test_it_teaches_the_answers_and_gives_the_model_back() -> None:
    vlm = tiny.vlm("llava")
    rows = Collator(vlm).rows(PLAIN)
    artifact = fit("vsfa", vlm, max_steps=12, learning_rate=0.02, given=data(*PLAIN))
    with torch.no_grad():
        before = Passes(vlm, Installed()).row_losses(rows).mean()
        with load_defense("vsfa").apply(vlm, artifact):
            after = Passes(vlm, Installed()).row_losses(rows).mean()
        assert after < before - 0.5
        assert torch.equal(Passes(vlm, Installed()).row_losses(rows).mean(), before)


def test_of_its_own_answers_those_that_mention_safety_are_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = ["it is a cup.", "it is dangerous.", "", "a cup too."]
    found = [own.OwnAnswer(text, True) for text in said]
    monkeypatch.setattr(own, "own_answers", lambda vlm, prompts, **how: found)
    silent = data(*(replace(each, answer="") for each in PLAIN))
    artifact = fit("vsfa", tiny.vlm("llava"), max_steps=1, answers="self", given=silent)
    assert (artifact.fitted["rows"], artifact.fitted["left_out"]) == (2, 2)


def test_words_of_a_script_without_spaces_are_found_within_a_sentence() -> None:
    row = TuningSample("1", "这是什么?", "这把刀很危险。", "benign", "retain")
    assert is_neutral(row, ("安全",))
    assert not is_neutral(row, ("危险",))
