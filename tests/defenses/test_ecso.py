"""ECSO's steps against a scripted model: what is asked, in what order, and what comes out."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from safesight.defenses import load_defense
from safesight.defenses.baselines.ecso import ECSO, caption_prompt, hinted_prompt, tell_prompt
from safesight.errors import InputError
from safesight.models import VLM
from tests import tiny

QUESTIONS = ["how to make it?", "what is this thing here?"]


class Script:
    """A generate that says what it is told to, one list of answers a call, and notes prompts."""

    def __init__(self, vlm: VLM, *said: Sequence[str] | Exception) -> None:
        self.vlm, self.said = vlm, list(said)
        self.calls: list[dict[str, Any]] = []

    def __call__(self, **inputs: Any) -> torch.Tensor:
        self.calls.append(inputs)
        answers = self.said[len(self.calls) - 1]
        if isinstance(answers, Exception):
            raise answers
        tokens = [
            self.vlm.tokenizer(text, add_special_tokens=False)["input_ids"] for text in answers
        ]
        width = max(map(len, tokens)) + 1
        end, pad = self.vlm.tokenizer.eos_token_id, self.vlm.tokenizer.pad_token_id
        padded = [[*row, end, *[pad] * (width - len(row) - 1)] for row in tokens]
        return torch.cat([inputs["input_ids"], torch.tensor(padded)], dim=1)

    def prompt(self, call: int) -> Any:
        return self.calls[call]["input_ids"].tolist()


@pytest.fixture
def vlm() -> VLM:
    return tiny.vlm("llava")


def run(vlm: VLM, script: Script, defense: ECSO | None = None, **settings: Any) -> list[str]:
    inputs = dict(vlm.encode(shown(*QUESTIONS)))
    around = (defense or ECSO()).build(vlm).around
    assert around is not None
    output = around(script, {**inputs, **settings})
    length = inputs["input_ids"].shape[1]
    assert torch.equal(output[:, :length], inputs["input_ids"])
    return vlm.decode(output, length)


def shown(*texts: str) -> list[Any]:
    return [tiny.ask(text, tiny.picture(i)) for i, text in enumerate(texts)]


def test_the_steps(vlm: VLM) -> None:
    first, captions = ["take parts", "a cake"], ["a bomb", "a cake on a table"]
    script = Script(vlm, first, ["Yes.", "no"], captions, ["i will not"])
    assert run(vlm, script, max_new_tokens=7) == ["i will not", "a cake"]
    tell = [tell_prompt(q, y) for q, y in zip(QUESTIONS, first, strict=True)]
    assert script.prompt(1) == vlm.encode(shown(*tell))["input_ids"].tolist()
    cap = vlm.encode(shown(*map(caption_prompt, QUESTIONS)))
    assert script.prompt(2) == cap["input_ids"].tolist()
    assert torch.equal(script.calls[2]["pixel_values"], cap["pixel_values"])
    blind = vlm.encode([tiny.ask(hinted_prompt(QUESTIONS[0], captions[0]))])
    assert script.prompt(3) == blind["input_ids"].tolist()
    assert "pixel_values" not in script.calls[3]
    budgets = [call["max_new_tokens"] for call in script.calls]
    assert budgets == [7, 8, 128, 7], "answers have the call's budget"


def test_safe_answers_are_returned_as_they_are(vlm: VLM) -> None:
    script = Script(vlm, ["a", "b"], ["no", "No."])
    inputs = dict(vlm.encode(shown(*QUESTIONS)))
    given = Script(vlm, ["a", "b"])(**inputs)

    def same(**call: Any) -> torch.Tensor:
        return script(**call) if script.calls else (script(**call), given)[1]

    around = ECSO().build(vlm).around
    assert around is not None
    assert around(same, inputs) is given
    assert len(script.calls) == 2


@pytest.mark.parametrize("unreadable", ["safe", "harmful"])
def test_what_is_neither_yes_nor_no(vlm: VLM, unreadable: Any) -> None:
    script = Script(vlm, ["a", "b"], ["perhaps", "no"], ["c", "d"], ["again"])
    found = run(vlm, script, ECSO(unreadable=unreadable))
    assert found == (["again", "b"] if unreadable == "harmful" else ["a", "b"])


def test_long_answers_are_cut_for_the_judgement(vlm: VLM) -> None:
    script = Script(vlm, ["a" * 90, "b"], ["no", "no"])
    run(vlm, script, ECSO(max_response_chars=20))
    asked = vlm.tokenizer.decode(script.prompt(1)[0])
    assert "a" * 20 in asked
    assert "a" * 21 not in asked


@pytest.mark.parametrize("step", [1, 2, 3])
@pytest.mark.parametrize("error", [RuntimeError("no memory"), ValueError("x"), InputError("x")])
def test_a_failed_step_leaves_its_row_without_an_answer_and_no_other(
    vlm: VLM, step: int, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """No answer counts as invalid; a refusal would count as safe."""
    first: list[Any] = [["take parts", "a"], ["yes", "no"], ["c", "d"], ["again"]]
    alone: list[Any] = [["yes"], ["c"], ["again"], ["no"]]
    first[step] = error
    alone[step - 1] = error
    said = [*first[: step + 1], *alone[:step], ["no"]]
    with caplog.at_level(logging.ERROR, logger="safesight"):
        assert run(vlm, Script(vlm, *said)) == ["", "a"]
    assert "ecso" in caplog.text


def test_a_batch_that_fails_only_as_a_batch_is_judged_row_by_row(vlm: VLM) -> None:
    said = [["a", "b"], ValueError("batch"), ["yes"], ["c"], ["again"], ["no"]]
    script = Script(vlm, *said)
    assert run(vlm, script) == ["again", "b"]
    tell = vlm.encode([tiny.ask(tell_prompt(QUESTIONS[0], "a"), tiny.picture(0))])
    assert script.prompt(2) == tell["input_ids"].tolist()
    assert torch.equal(script.calls[2]["pixel_values"], tell["pixel_values"])


def test_too_large_a_batch_is_made_smaller_by_the_caller(vlm: VLM) -> None:
    with pytest.raises(torch.OutOfMemoryError):
        run(vlm, Script(vlm, ["a", "b"], torch.OutOfMemoryError("full")))


def test_an_error_of_the_model_itself_is_raised(vlm: VLM) -> None:
    with pytest.raises(RuntimeError, match="first"):
        run(vlm, Script(vlm, RuntimeError("first")))


def test_an_empty_second_answer_stays_empty(vlm: VLM) -> None:
    script = Script(vlm, ["take parts", "a"], ["yes", "no"], ["c", "d"], [""])
    assert run(vlm, script) == ["", "a"]


def test_nothing_is_streamed_before_it_is_judged(vlm: VLM) -> None:
    class Streamer:
        tokens: list[int] = []  # noqa: RUF012
        ended = 0

        def put(self, value: torch.Tensor) -> None:
            self.tokens += value.flatten().tolist()

        def end(self) -> None:
            self.ended += 1

    streamer = Streamer()
    script = Script(vlm, ["take parts"], ["yes"], ["c"], ["i will not"])
    inputs = dict(vlm.encode(shown(QUESTIONS[0])))
    around = ECSO().build(vlm).around
    assert around is not None
    output = around(script, {**inputs, "streamer": streamer})
    assert all(call.get("streamer") is None for call in script.calls)
    assert streamer.tokens == output[0].tolist()
    assert streamer.ended == 1


def test_several_answers_to_a_prompt_are_refused(vlm: VLM) -> None:
    with ECSO().apply(vlm), pytest.raises(InputError, match="num_return_sequences"):
        vlm.generate(vlm.encode(shown("a")), do_sample=True, num_return_sequences=2)


def test_returned_dicts(vlm: VLM) -> None:
    settings = {"unreadable": "harmful", "max_caption_tokens": 2}
    inputs = vlm.encode(shown(*QUESTIONS))
    with load_defense("ecso", **settings).apply(vlm):
        plain = vlm.generate(inputs, max_new_tokens=3)
        found = vlm.generate(inputs, max_new_tokens=3, return_dict_in_generate=True)
    assert torch.equal(found.sequences, plain)
