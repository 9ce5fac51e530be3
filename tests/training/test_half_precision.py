"""A model in half precision learns what the same one in float32 does, up to rounding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from safesight.defenses import load_defense
from safesight.models import VLM
from safesight.training.choice import choose
from safesight.training.passes import Passes
from safesight.training.run import TuningRun
from safesight.training.weights import installed
from tests import tiny
from tests.contracts.defense_helpers import prompts
from tests.training.helpers import fit
from tests.training.test_run import log_of

STEPS = 4
WHOLE: dict[str, dict[str, Any]] = {
    "full": {"parameters": "full"},
    "projector": {"projector": True},
}


def in_dtype(family: str, dtype: torch.dtype) -> VLM:
    model, processor = tiny.fresh(family)
    return VLM.wrap(model.to(dtype), processor)


@pytest.mark.parametrize("way", WHOLE)
def test_the_base_model_and_the_trained_one_stay_apart(way: str) -> None:
    """Autocast would keep the weights of whichever computes first in a step, for both."""
    vlm = in_dtype("llava", torch.bfloat16)
    inputs, config = vlm.encode(prompts()), load_defense("npo", **WHOLE[way]).config
    base = vlm.model(**inputs).logits
    with installed(vlm, choose(vlm, config), training=True) as result, torch.no_grad():
        passes = Passes(vlm, result)
        for parameter in result.whole.values():
            parameter.mul_(1.5)
        with passes.autocast():
            alone = vlm.model(**inputs).logits
        with passes.autocast():
            with passes.reference():
                first = vlm.model(**inputs).logits
            assert torch.equal(vlm.model(**inputs).logits, alone)
            with passes.reference():
                assert torch.equal(vlm.model(**inputs).logits, first)
    assert not torch.equal(alone, first)
    assert (first - base).abs().mean() < 0.1 * (alone - base).abs().mean()


@pytest.mark.parametrize(("name", "term"), [("npo", "forget_shift"), ("rmu", "retain_loss")])
@pytest.mark.parametrize("way", WHOLE)
def test_what_is_learnt_is_what_float32_learns(
    way: str, name: str, term: str, tmp_path: Path
) -> None:
    logs = {}
    for dtype in (torch.float32, torch.bfloat16):
        run = TuningRun(tmp_path / str(dtype))
        settings = {"max_steps": STEPS, "batch_size": 1, "learning_rate": 1e-3, **WHOLE[way]}
        fit(name, in_dtype("llava", dtype), run, **settings)
        logs[dtype] = torch.tensor([step[term] for step in log_of(run.folder)])
    exact, half = logs[torch.float32], logs[torch.bfloat16]
    assert exact[1:].abs().min() > 0
    assert (half - exact)[1:].abs().mean() < 0.3 * exact[1:].abs().mean()


@pytest.mark.parametrize("family", ["smolvlm", "qwen3_vl", "gemma3"])
def test_embeddings_that_are_trained_take_pictures(family: str) -> None:
    fit("npo", in_dtype(family, torch.bfloat16), max_steps=1, parameters="full")
