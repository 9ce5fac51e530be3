"""The comparison at start, in the dtypes that engines usually run in.

Numbers of 8 or 11 significant bits are rounded at every step, and vLLM and transformers round in
other places. So states differ, and the tolerance has to be above that and below what another model
does.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from safesight.defenses import load_defense
from safesight.defenses.reference import with_reference
from safesight.models import VLM
from safesight.models.built import bundled_folder
from safesight.vllm.gate import TOLERANCE
from tests.contracts import defense_helpers as helpers
from tests.vllm import checkpoints, engines
from tests.vllm.engines import Job

MEASURED = {"bfloat16": 0.04, "float16": 0.007}
"""What was seen, rounded up; a change of either engine that doubles it is worth a look."""


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    with engines.process() as started:
        yield started


@pytest.fixture(scope="module", params=["bundled", "tiny"])
def checkpoint(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if request.param == "bundled":
        return Path(bundled_folder("testbed"))
    return checkpoints.write("llava", tmp_path_factory.mktemp("model"))


def started(job: Job) -> tuple[str | None, list[float]]:
    """The error of a start, if there is one, and how far each prompt's states were off."""
    from unittest.mock import patch

    from safesight.vllm import gate

    seen: list[float] = []

    def near(plain: Any, name: str, runner: Any, states: Any, expected: Any) -> float:
        seen.append(float(gate.relative_error(states, expected).max()))
        return float(plain(name, runner, states, expected))

    with patch.object(gate, "_near", partial(near, gate._near)):
        return engines.run(job).error, seen


def fitted(vlm: VLM, folder: Path) -> Path:
    defense = load_defense("probe")
    artifact = defense.fit(vlm, helpers.fit_data(), seed=0, progress=False)
    return with_reference(vlm, defense, artifact).save(folder)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_states_differ_by_rounding_and_another_model_by_more(
    dtype: str, checkpoint: Path, pool: ProcessPoolExecutor, tmp_path: Path
) -> None:
    vlm = VLM.load(str(checkpoint), dtype=dtype, device="cpu")
    entry = {"name": "probe", "artifact": str(fitted(vlm, tmp_path / "probe"))}
    job = Job(checkpoint, [entry], options={"dtype": dtype})
    error, seen = pool.submit(started, job).result()
    assert error is None
    assert len(seen) == 4
    print(f"{checkpoint.name} {dtype}: {[f'{each:.2e}' for each in seen]}")
    assert max(seen) <= MEASURED[dtype] < TOLERANCE[getattr(torch, dtype)]

    with torch.no_grad():  # fitted on a model that is a little other than the one that is served
        for weight in vlm.model.parameters():
            weight.mul_(1 + 0.2 * torch.randn_like(weight))
    other = VLM(vlm.model, vlm.processor, str(checkpoint), None)
    entry["artifact"] = str(fitted(other, tmp_path / "other"))
    error, _ = pool.submit(started, Job(checkpoint, [entry], options={"dtype": dtype})).result()
    assert "off those that the probe artifact was fitted on" in str(error)
