"""A model in half precision learns what the same one in float32 does, up to rounding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from safesight.models import VLM
from safesight.training.run import TuningRun
from tests import tiny
from tests.training.helpers import fit
from tests.training.test_run import log_of

STEPS = 4
WHOLE: dict[str, dict[str, Any]] = {
    "full": {"parameters": "full", "learning_rate": 1e-3},
    "projector": {"projector": True, "learning_rate": 1e-3},
}


def in_dtype(family: str, dtype: torch.dtype) -> VLM:
    model, processor = tiny.fresh(family)
    return VLM.wrap(model.to(dtype), processor)


@pytest.mark.parametrize(("name", "term"), [("npo", "forget_shift"), ("rmu", "retain_loss")])
@pytest.mark.parametrize("way", WHOLE)
def test_the_base_model_and_the_trained_one_stay_apart(
    way: str, name: str, term: str, tmp_path: Path
) -> None:
    """Autocast would keep the weights of whichever computes first in a step, for both."""
    logs = {}
    for dtype in (torch.float32, torch.bfloat16):
        run = TuningRun(tmp_path / str(dtype))
        fit(name, in_dtype("llava", dtype), run, max_steps=STEPS, batch_size=1, **WHOLE[way])
        logs[dtype] = torch.tensor([step[term] for step in log_of(run.folder)])
    exact, half = logs[torch.float32], logs[torch.bfloat16]
    assert exact[1:].abs().min() > 0
    assert (half - exact)[1:].abs().mean() < 0.3 * exact[1:].abs().mean()


@pytest.mark.parametrize("family", ["smolvlm", "qwen3_vl", "gemma3"])
def test_embeddings_that_are_trained_take_pictures(family: str) -> None:
    fit("npo", in_dtype(family, torch.bfloat16), max_steps=1, parameters="full")
