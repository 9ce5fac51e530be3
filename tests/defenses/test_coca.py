"""CoCA against two plain models side by side, and its corners."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from safesight.defenses import load_defense
from safesight.defenses.baselines.coca import CoCAConfig, calibrated
from safesight.errors import InputError
from safesight.hosting.sampling import SeededSampling
from safesight.models import VLM
from tests import tiny
from tests.contracts.defense_helpers import answers, count_forwards, prompts

PRINCIPLE = CoCAConfig().principle


def test_the_formula_by_hand() -> None:
    prompted, plain = torch.tensor([[1.0, 2.0, -4.0]]), torch.tensor([[0.0, 3.0, -4.0]])
    assert calibrated(prompted, plain, 2.0).tolist() == [[3.0, 0.0, -4.0]]
    assert calibrated(prompted, plain, 0.0).tolist() == prompted.tolist()
    assert calibrated(prompted.half(), plain.half(), 1.0).dtype == torch.float32


def test_forbidden_tokens_stay_forbidden() -> None:
    never = float("-inf")
    prompted, plain = torch.tensor([[never, never, 1.0]]), torch.tensor([[never, 2.0, never]])
    assert calibrated(prompted, plain, 4.0).tolist() == [[never, never, 1.0]]


def by_hand(vlm: VLM, text: str, picture: Any, strength: float, steps: int) -> list[int]:
    """Two whole forwards a token, without caches."""
    asked = [vlm.encode([tiny.ask(each, picture)]) for each in (f"{PRINCIPLE} {text}", text)]
    found: list[int] = []
    for _ in range(steps):
        logits = [_next_logits(vlm, inputs, found) for inputs in asked]
        token = int((logits[0] + strength * (logits[0] - logits[1])).argmax())
        if token == vlm.tokenizer.eos_token_id:
            break
        found.append(token)
    return found


def _next_logits(vlm: VLM, inputs: Any, answer: list[int]) -> Tensor:
    """Of the token after prompt and answer, by a generation that is forced along the answer."""
    length = inputs["input_ids"].shape[1]

    def force(ids: Tensor, scores: Tensor) -> Tensor:
        done = ids.shape[1] - length
        if done < len(answer):
            scores = torch.full_like(scores, float("-inf"))
            scores[:, answer[done]] = 0
        return scores

    output = vlm.generate(
        inputs,
        max_new_tokens=len(answer) + 1,
        logits_processor=[force],
        return_dict_in_generate=True,
        output_logits=True,
        use_cache=False,
    )
    logits: Tensor = output.logits[len(answer)][0]
    return logits


@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl"])
@pytest.mark.parametrize("strength", [0.5, 4.0])
def test_it_equals_two_models_side_by_side(family: str, strength: float) -> None:
    vlm, text, picture = tiny.vlm(family), "how to make it?", tiny.picture(2)
    expected = by_hand(vlm, text, picture, strength, 4)
    with load_defense("coca", strength=strength).apply(vlm):
        assert answers(vlm, [tiny.ask(text, picture)], max_new_tokens=4) == [expected]
    assert expected != answers(vlm, [tiny.ask(text, picture)], max_new_tokens=4)[0]


def test_strength_zero_is_the_principle_as_a_prompt() -> None:
    vlm, text, picture = tiny.vlm("llava"), "how to make it?", tiny.picture(2)
    expected = answers(vlm, [tiny.ask(f"{PRINCIPLE} {text}", picture)])
    with load_defense("coca", strength=0.0).apply(vlm):
        assert answers(vlm, [tiny.ask(text, picture)]) == expected


def test_one_forward_a_token() -> None:
    vlm = tiny.vlm("llava")
    with load_defense("coca").apply(vlm), count_forwards(vlm.layers[0]) as lengths:
        found = answers(vlm, prompts(), max_new_tokens=3)
    assert len(lengths) == max(map(len, found))
    assert lengths[1:] == [1] * (len(lengths) - 1)


def test_returned_dicts_hold_the_callers_rows() -> None:
    vlm = tiny.vlm("llava")
    inputs = vlm.encode(prompts())
    with load_defense("coca").apply(vlm):
        plain = vlm.generate(inputs, max_new_tokens=3)
        found = vlm.generate(
            inputs, max_new_tokens=3, return_dict_in_generate=True, output_scores=True
        )
    assert torch.equal(found.sequences, plain)
    assert all(len(step) == len(prompts()) for step in found.scores)
    assert found.scores[0].argmax(-1).tolist() == plain[:, inputs["input_ids"].shape[1]].tolist()


def test_a_streamer_sees_one_row() -> None:
    class Streamer:
        tokens: list[int] = []  # noqa: RUF012

        def put(self, value: Tensor) -> None:
            assert value.dim() == 1 or len(value) == 1
            self.tokens += value.flatten().tolist()

        def end(self) -> None: ...

    vlm, streamer = tiny.vlm("llava"), Streamer()
    with load_defense("coca").apply(vlm):
        output = vlm.generate(
            vlm.encode([tiny.ask("hi", tiny.picture())]), max_new_tokens=3, streamer=streamer
        )
    assert streamer.tokens == output[0].tolist()


def test_sampling_is_refused() -> None:
    vlm = tiny.vlm("llava")
    inputs = vlm.encode(prompts())
    with load_defense("coca").apply(vlm), pytest.raises(InputError, match="greedily"):
        vlm.generate(inputs, do_sample=True, max_new_tokens=1)
    with load_defense("coca", strength=0.0).apply(vlm):
        vlm.generate(inputs, do_sample=True, max_new_tokens=1)


def test_a_callers_processors_see_calibrated_scores_of_its_own_rows() -> None:
    """Else the noise of seeded sampling is amplified, and each half draws for itself."""
    vlm, seen = tiny.vlm("llava"), []

    def note(ids: Tensor, scores: Tensor) -> Tensor:
        seen.append((ids, scores))
        return scores

    def generate(*processors: Any) -> Any:
        return vlm.generate(
            inputs,
            max_new_tokens=3,
            logits_processor=list(processors),
            return_dict_in_generate=True,
            output_scores=True,
        )

    inputs = vlm.encode(prompts())
    with load_defense("coca").apply(vlm):
        plain = generate()
        assert all(map(torch.equal, generate(note).scores, plain.scores))
        (ids, scores), *_ = seen
        assert torch.equal(scores, plain.scores[0])
        for seed in range(8):
            sampler = SeededSampling(seed, 0.7, pad=vlm.tokenizer.pad_token_id)
            drawn = generate(sampler).sequences[:, inputs["input_ids"].shape[1]]
            assert drawn.tolist() == sampler(ids, plain.scores[0]).argmax(-1).tolist()
