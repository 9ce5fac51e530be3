"""The effect of a tool call on hidden states: paired shifts at the last prompt token.

Pure functions that measure the shifts, and the prefills that provide the states. Everything is
float32 on the CPU; `N` is the number of decoder blocks, `n` of samples, `d` the width.
`tool_vector` decides which shift is used for what.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from safesight.activations import cosine, difference_of_means
from safesight.generation.last_token import last_states
from safesight.models.asking import by_batches
from safesight.tools import ToolSetup, condition
from safesight.types import Sample

if TYPE_CHECKING:
    from safesight.models import VLM

__all__ = ["explained", "refusal_vectors", "shift_report", "split_half", "states_under"]


def states_under(
    vlm: VLM,
    samples: Sequence[Sample],
    name: str,
    setup: ToolSetup,
    *,
    batch_size: int = 16,
    progress: bool = False,
) -> Tensor:
    """Every block's output at the last prompt token of every sample, under a condition.

    Args:
        vlm: The model; it is not changed, and attached defenses are bypassed.
        samples: n samples, with pictures unless the condition is "direct".
        name: The condition, from `safesight.tools.CONDITIONS`.
        setup: How tools are offered to the model.
        batch_size: Prompts per forward pass.
        progress: Show a progress bar.

    Returns:
        N x n x d.
    """

    def read(batch: Sequence[Sample]) -> Tensor:
        made = [condition(name, sample.messages(), setup) for sample in batch]
        asked = [each.messages for each in made]
        inputs = vlm.encode(asked, tools=made[0].offered, tags=setup.tags)
        return last_states(vlm, dict(inputs), range(vlm.num_layers)).cpu()

    found = list(by_batches(samples, batch_size, read, f"states, {name}", progress=progress))
    # In one piece, because sums over parts of a transposed tensor round otherwise.
    return torch.cat(found).transpose(0, 1).contiguous()


def refusal_vectors(harmful: Tensor, benign: Tensor) -> Tensor:
    """Per block, the mean of harmful minus the mean of benign text requests: N x d.

    Args:
        harmful: N x m x d.
        benign: N x n x d.
    """
    pairs = zip(harmful, benign, strict=True)
    return torch.stack([difference_of_means(h, b) for h, b in pairs])


def explained(differences: Tensor) -> Tensor:
    """The share of the paired differences' squared length that their mean explains.

        n ||v||^2 / sum_x ||h(x, tool) - h(x, direct)||^2        1: all samples shift alike

    Args:
        differences: N x n x d.

    Returns:
        N, from 0 to 1.

    Example:
        >>> explained(torch.tensor([[[1.0, 0.0], [1.0, 0.0]], [[1.0, 0.0], [-1.0, 0.0]]]))
        tensor([1., 0.])
    """
    total = differences.square().sum(dim=(1, 2))
    mean = differences.mean(dim=1).square().sum(dim=1) * differences.shape[1]
    return mean / total.clamp_min(torch.finfo(total.dtype).tiny)


def split_half(differences: Tensor) -> Tensor:
    """The cosine between the mean of every other sample and the mean of the rest: N.

    Example:
        >>> split_half(torch.ones(1, 4, 2)).round(decimals=3)
        tensor([1.])
    """
    return cosine(differences[:, ::2].mean(dim=1), differences[:, 1::2].mean(dim=1))


def shift_report(states: Mapping[str, Tensor], refusal: Tensor | None) -> list[dict[str, Any]]:
    """The length, reliability and direction of the shifts, per block.

    Args:
        states: "direct" and one entry per condition, N x n x d, with paired rows.
        refusal: N x d, or None if there were no text requests to compute it from.
    """
    direct = states["direct"]
    columns: dict[str, Tensor] = {"direct_norm": direct.norm(dim=-1).mean(dim=1)}
    vectors = {}
    for name, under in states.items():
        if name == "direct":
            continue
        differences = under - direct
        vectors[name] = differences.mean(dim=1)
        columns[f"{name}_norm"] = vectors[name].norm(dim=-1)
        columns[f"{name}_split_half"] = split_half(differences)
        columns[f"{name}_explained"] = explained(differences)
        if refusal is not None:
            columns[f"{name}_refusal_cosine"] = cosine(vectors[name], refusal)
    for name in vectors.keys() - {"tool"}:
        columns[f"{name}_tool_cosine"] = cosine(vectors[name], vectors["tool"])
    return [
        {"layer": layer, **{name: round(float(v[layer]), 6) for name, v in sorted(columns.items())}}
        for layer in range(len(direct))
    ]
