"""Stress tests: how much of an artifact's effect survives further changes to the weights.

Unlearned knowledge may be hidden, not gone. Each test here takes an artifact of a method that
changes the weights and returns another of the same method, to be attached and measured like any
other: the arm "npo~int4" is `npo` after `int4`. Tests start from the merged weights, as anyone
with the checkpoint would. The model is restored afterwards.

int8, int4        the decoder's linear layers rounded to 8 or 4 bits, symmetric, one scale per row;
relearn_harmful   fine-tuned on a few harmful answers of the kind that should be forgotten;
relearn_benign    fine-tuned on equally few benign rows, which mention no harm;
untouched_harmful, untouched_benign   their controls: the same rows taught to the model before the
                  fit, to tell relearning from what any model loses;
ablate_direction  weights that write to the residual stream lose the direction RMU steers toward.

Sources: reviews of unlearning ask for relearning and quantization; projecting a direction out of
the weights that write to the residual stream is Arditi et al., "Refusal in Language Models Is
Mediated by a Single Direction", 2024, arXiv 2406.11717. Numbers of rows, steps and rates are ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from safesight import registry
from safesight.errors import ArtifactError, InputError
from safesight.fitting.artifact import Artifact
from safesight.fitting.data import FitData
from safesight.fitting.stored import Stored
from safesight.training.choice import Choice, choose
from safesight.training.config import TuningConfig
from safesight.training.passes import answer_term
from safesight.training.rows import load_dataset
from safesight.training.run import Fitting, Method, train
from safesight.training.weights import Weights, installed, tuned

if TYPE_CHECKING:
    from safesight.models import VLM
    from safesight.types import TuningSample, TuningSet

__all__ = [
    "ablate_direction",
    "int4",
    "int8",
    "relearn",
    "relearn_benign",
    "relearn_harmful",
    "rounded",
    "untouched_benign",
    "untouched_harmful",
]

ROWS = 20
"""Rows to relearn. Source: ours."""
_PLAIN = TuningConfig.model_validate({})
_ANSWERS = partial(answer_term, "rows", 1.0)
_RELEARN = TuningConfig.model_validate(
    {
        "learning_rate": 5e-4,
        "max_steps": 25,
        "lora_dropout": 0.0,
        "schedule": "constant",
    }
)
_SEED = 1000
"""Added to the seed, so that relearned rows are of the same kind as those of the fit but new."""
# Linear layers of a block that write to the residual stream, by their names in model families.
_WRITERS = re.compile(r"(?:^|\.)(?:o_proj|out_proj|down_proj|fc2|wo|w2|dense)$")


def rounded(weight: Tensor, bits: int) -> Tensor:
    """A matrix rounded to `bits` bits: symmetric, one scale per row (round to nearest).

        w' = s round(w / s),   s = max_row |w| / (2^(bits - 1) - 1)

    Args:
        weight: out x in.
        bits: 2 or more.

    Example:
        >>> rounded(torch.tensor([[1.0, 0.4, -0.1]]), 2)
        tensor([[1., 0., -0.]])
    """
    wide = weight.float()
    scale = wide.abs().amax(dim=1, keepdim=True) / (2 ** (bits - 1) - 1)
    grid = torch.where(scale > 0, (wide / scale.clamp(min=1e-30)).round() * scale, wide)
    return grid.to(weight.dtype)


def _quantised(vlm: VLM, artifact: Artifact, *, seed: int = 0, bits: int) -> Artifact:
    weights = _merged(vlm, artifact)
    maps = {f"{name}.weight" for name in choose(vlm, _PLAIN).lora}
    changed = {
        name: rounded(value, bits) if name in maps else value for name, value in weights.items()
    }
    return _of_weights(artifact, changed, f"int{bits}")


int8 = partial(_quantised, bits=8)
int4 = partial(_quantised, bits=4)


def ablate_direction(vlm: VLM, artifact: Artifact, *, seed: int = 0) -> Artifact:
    """W <- (I - v v^T) W for all linear layers that write to the residual stream.

    Raises:
        ArtifactError: the artifact has no direction.
    """
    if "direction" not in artifact.tensors:
        raise ArtifactError(
            f"The {artifact.defense} artifact has no direction to ablate. Use this test with rmu."
        )
    v = nn.functional.normalize(artifact.tensors["direction"].float().flatten(), dim=0)
    changed = _merged(vlm, artifact)
    for name in choose(vlm, _PLAIN).lora:
        key = f"{name}.weight"
        if _WRITERS.search(name) and len(changed[key]) == len(v):
            wide, along = changed[key].float(), v.to(changed[key].device)
            changed[key] = (wide - torch.outer(along, along @ wide)).to(changed[key].dtype)
    return _of_weights(artifact, changed, "ablate_direction")


def relearn(
    vlm: VLM,
    artifact: Artifact,
    rows: Sequence[TuningSample],
    *,
    seed: int = 0,
    name: str = "relearn",
) -> Artifact:
    """The weights after a short fine-tuning on rows, with LoRA adapters on all linear layers.

    Args:
        vlm: The artifact's model.
        artifact: An artifact of a method that changes the weights.
        rows: Questions with answers, taught as they are.
        seed: Seed of the fine-tuning.
        name: Recorded in the result.

    Raises:
        InputError: there are no rows, or one has no answer.
    """
    if not rows or any(not row.answer.strip() for row in rows):
        raise InputError("Relearning needs rows, each with an answer. Pass at least one.")
    merged = _of_weights(artifact, _merged(vlm, artifact), name)
    data = FitData((), (), tuning=list(rows))
    fitting = Fitting(artifact.defense, vlm, data, _RELEARN, seed, progress=False)
    with tuned(vlm, Weights.read(Stored(merged, vlm))):
        learnt = train(fitting, choose(vlm, _RELEARN), Method({"rows": list(rows)}, [_ANSWERS]))
        with installed(vlm, Choice.of(learnt)) as result:
            result.load(learnt.tensors)
            changed = {**merged.tensors, **_copies(result.merged())}
    return _of_weights(artifact, changed, name)


def _relearnt(
    vlm: VLM,
    artifact: Artifact,
    *,
    seed: int = 0,
    kind: TuningSet,
    name: str,
    untouched: bool = False,
) -> Artifact:
    """Relearn on rows of the data set used for the fit, or else of the model's own.

    If `untouched`, start from the model's own weights instead of the artifact's.

    Raises:
        InputError: neither data set exists.
    """
    source = dict(artifact.card["data"].get("tuning_source", {}))
    dataset = source.pop("dataset", vlm.name)
    if dataset not in registry.names("dataset"):
        raise InputError(
            f"{name} needs rows of the data set used for the fit or of the model's own, and "
            f"{vlm.name!r} has neither. In Python, safesight.training.stress.relearn takes any "
            "rows."
        )
    rows = load_dataset(dataset)(9 * ROWS, seed=_SEED + seed, **source)
    chosen = [row for row in rows if row.set == kind][:ROWS]
    begun = _of_weights(artifact, _own(vlm), name) if untouched else artifact
    return relearn(vlm, begun, chosen, seed=seed, name=name)


relearn_harmful = partial(_relearnt, kind="forget", name="relearn_harmful")
relearn_benign = partial(_relearnt, kind="retain", name="relearn_benign")
untouched_harmful = partial(_relearnt, kind="forget", name="untouched_harmful", untouched=True)
untouched_benign = partial(_relearnt, kind="retain", name="untouched_benign", untouched=True)


def _merged(vlm: VLM, artifact: Artifact) -> dict[str, Tensor]:
    """By name, all weights the artifact changes and all linear layers of the decoder's blocks."""
    artifact.check_model(vlm)
    own = _own(vlm)
    with tuned(vlm, Weights.read(Stored(artifact, vlm))) as result:
        return {**own, **_copies(result.merged())}


def _own(vlm: VLM) -> dict[str, Tensor]:
    """By name, all linear layers of the decoder's blocks with the model's own weights."""
    names = {f"{name}.weight" for name in choose(vlm, _PLAIN).lora}
    return _copies({name: p for name, p in vlm.model.named_parameters() if name in names})


def _copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in tensors.items()}


def _of_weights(artifact: Artifact, weights: Mapping[str, Tensor], stress: str) -> Artifact:
    """The artifact with these whole parameters in place of its own changes."""
    choice = Choice(whole=tuple(sorted(weights)))
    on_cpu = {name: value.cpu().contiguous() for name, value in weights.items()}
    fitted = {**choice.to_json(), "extra": [], "stress": stress}
    return Artifact(artifact.defense, artifact.config, fitted, on_cpu, artifact.card)
