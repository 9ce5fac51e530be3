"""What is left of changed weights when someone works on them: stress tests of an artifact.

Safety that was unlearned may be hidden and not gone. Each test here takes an artifact of a method
that changes the weights and returns another of the same method, to be attached and measured as
any: an arm "npo~int4" is `npo` after `int4`. Tests start from the merged weights, as anyone would
who has the checkpoint. The model is given back as it was.

int8, int4        the decoder's linear maps rounded to 8 or 4 bits, symmetric, one scale a row;
relearn_harmful   fine-tuned on a few harmful answers of the kind that was to be forgotten;
relearn_benign    fine-tuned on as few benign rows, which mention no harm;
untouched_harmful, untouched_benign   their controls: the same rows taught to the model as it was
                  before the fit, so that what is relearnt can be told from what any model loses;
ablate_direction  what writes into the residual stream loses the direction that RMU drives to.

Sources: relearning and quantisation are what reviews of unlearning ask for; projecting a direction
out of the writing maps is Arditi et al., "Refusal in Language Models Is Mediated by a Single
Direction", 2024, arXiv 2406.11717. Numbers of rows, steps and rates are ours.
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
from safesight.training.config import TuningConfig
from safesight.training.passes import answer_term
from safesight.training.run import Fitting, Method, train
from safesight.training.weights import Choice, Weights, choose, installed, tuned

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
"""Rows that are relearnt. Source: ours."""
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
"""Added to the seed of relearnt rows: of the same kind as those of the fit, and not the same."""
# Linear maps of a block that write into the residual stream, by the names families give them.
_WRITERS = re.compile(r"(?:^|\.)(?:o_proj|out_proj|down_proj|fc2|wo|w2|dense)$")


def rounded(weight: Tensor, bits: int) -> Tensor:
    """A matrix on the grid of `bits` bits: symmetric, one scale a row (round to nearest).

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
    """W <- (I - v v^T) W for all maps that write into the residual stream.

    Raises:
        ArtifactError: the artifact has no direction.
    """
    if "direction" not in artifact.tensors:
        raise ArtifactError(
            f"{artifact.defense} drives hidden states to no direction that could be ablated. Use "
            "this test with rmu."
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
    """The weights after a short fine-tuning on rows, with small matrices beside all linear maps.

    Args:
        vlm: The model that the artifact is of.
        artifact: Of a method that changes the weights.
        rows: Questions with answers, each taught as it stands.
        seed: Of the fine-tuning.
        name: Noted in the result.

    Raises:
        InputError: there are no rows, or one has no answer.
    """
    if not rows or any(not row.answer.strip() for row in rows):
        raise InputError("Relearning needs rows, each with an answer. Give some.")
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
    """With rows of the data set that was fitted on, or else of the model's own.

    The model's own weights take the place of the artifact's if `untouched`.

    Raises:
        InputError: there is neither.
    """
    source = dict(artifact.card["data"].get("tuning_source", {}))
    dataset = source.pop("dataset", vlm.name)
    if dataset not in registry.names("dataset"):
        raise InputError(
            f"{name} takes rows of the data set that was fitted on, or of the model's own, and "
            f"there is neither for {vlm.name!r}. In Python, safesight.training.stress.relearn "
            "takes any rows."
        )
    rows = registry.load("dataset", dataset)(9 * ROWS, seed=_SEED + seed, **source)
    chosen = [row for row in rows if row.set == kind][:ROWS]
    begun = _of_weights(artifact, _own(vlm), name) if untouched else artifact
    return relearn(vlm, begun, chosen, seed=seed, name=name)


relearn_harmful = partial(_relearnt, kind="forget", name="relearn_harmful")
relearn_benign = partial(_relearnt, kind="retain", name="relearn_benign")
untouched_harmful = partial(_relearnt, kind="forget", name="untouched_harmful", untouched=True)
untouched_benign = partial(_relearnt, kind="retain", name="untouched_benign", untouched=True)


def _merged(vlm: VLM, artifact: Artifact) -> dict[str, Tensor]:
    """By name, all that the artifact changes, and all linear maps of the decoder's blocks."""
    artifact.check_model(vlm)
    own = _own(vlm)
    with tuned(vlm, Weights.read(Stored(artifact, vlm))) as result:
        return {**own, **_copies(result.merged())}


def _own(vlm: VLM) -> dict[str, Tensor]:
    """By name, all linear maps of the decoder's blocks as the model has them."""
    names = {f"{name}.weight" for name in choose(vlm, _PLAIN).lora}
    return _copies({name: p for name, p in vlm.model.named_parameters() if name in names})


def _copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in tensors.items()}


def _of_weights(artifact: Artifact, weights: Mapping[str, Tensor], stress: str) -> Artifact:
    """The artifact with these whole parameters in the place of what it had."""
    choice = Choice(whole=tuple(sorted(weights)))
    on_cpu = {name: value.cpu().contiguous() for name, value in weights.items()}
    fitted = {**choice.to_json(), "extra": [], "stress": stress}
    return Artifact(artifact.defense, artifact.config, fitted, on_cpu, artifact.card)
