"""Did training change the model's disposition? The mean shift of hidden states, and steering by it.

Between a model and the same model with trained weights, at the last token of each prompt x,

    p_l = mean_x [ h_l(trained, x) - h_l(base, x) ]        the persona vector of block l

A method that claims to work by a disposition (VSFA) predicts that p is one vector (halves of the
prompts agree) and not just the refusal direction; that adding it to the base model lowers attack
success and subtracting it from the trained one raises it; and that random vectors of the same
length do neither.

Find the vector on other prompts than those used to judge steering. The sparse autoencoders with
which the paper selects features are not implemented.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from safesight.activations import cosine, unit
from safesight.analysis.states import states_before_answer
from safesight.defenses import Artifact, load_defense
from safesight.defenses.tool_vector.states import explained, split_half
from safesight.errors import InputError
from safesight.types import Sample

if TYPE_CHECKING:
    from safesight.models import VLM

__all__ = ["Persona", "persona", "random_like", "steering"]


@dataclass(frozen=True)
class Persona:
    """The shift caused by training, block by block."""

    vectors: Tensor
    """p: N x d."""
    lengths: Tensor
    """Mean |h| of the base model: N."""
    split_half: Tensor
    """Cosine of the means over two halves of the prompts: N."""
    explained: Tensor
    """Share of the shifts' squared length that p explains: N."""
    refusal_cosine: Tensor
    """Cosine of p with the direction from benign to harmful text requests: N."""
    projections: Mapping[str, Tensor]
    """Per kind of prompt: the mean shift along p, divided by the mean |h|: N."""

    def report(self) -> list[dict[str, Any]]:
        """One row per block; JSON values only."""
        relative = self.vectors.norm(dim=-1) / self.lengths
        columns = {
            "relative_length": relative,
            "split_half": self.split_half,
            "explained": self.explained,
            "refusal_cosine": self.refusal_cosine,
            **{f"along_p/{kind}": values for kind, values in self.projections.items()},
        }
        return [
            {"layer": n, **{name: round(float(values[n]), 4) for name, values in columns.items()}}
            for n in range(len(self.vectors))
        ]


def persona(
    vlm: VLM,
    trained: AbstractContextManager[Any],
    kinds: Mapping[str, Sequence[Sample]],
    refusal: Tensor,
    *,
    batch_size: int = 16,
) -> Persona:
    """The persona vector of trained weights, over prompts of several kinds.

    Args:
        vlm: The base model.
        trained: A context in which it has the trained weights, such as
            `defense.apply(vlm, artifact)`; entered once.
        kinds: Name to prompts; the vector is computed from all of them.
        refusal: The refusal direction found on text, N x d.
        batch_size: Prompts per forward pass.

    Raises:
        InputError: a kind has no prompts.
    """
    empty = [kind for kind, samples in kinds.items() if not samples]
    if empty or not kinds:
        raise InputError(f"A persona needs prompts of every kind, but {empty or kinds} has none.")
    samples = [sample for given in kinds.values() for sample in given]
    base = states_before_answer(vlm, samples, batch_size=batch_size).transpose(0, 1)
    after = states_before_answer(vlm, samples, defended=trained, batch_size=batch_size).transpose(
        0, 1
    )
    shifts, lengths = after - base, base.norm(dim=-1).mean(dim=1)
    vectors = shifts.mean(dim=1)
    along = torch.einsum("lnd,ld->ln", shifts, unit(vectors)) / lengths[:, None]
    sizes = [len(given) for given in kinds.values()]
    return Persona(
        vectors=vectors,
        lengths=lengths,
        split_half=split_half(shifts),
        explained=explained(shifts),
        refusal_cosine=cosine(vectors, refusal),
        projections={
            kind: part.mean(dim=1)
            for kind, part in zip(kinds, along.split(sizes, dim=1), strict=True)
        },
    )


def steering(
    vlm: VLM, layer: int, vector: Tensor, amount: float, length: float, card: Mapping[str, Any]
) -> AbstractContextManager[Any]:
    """A context in which h_l <- h_l + amount * length * v / |v| at the last prompt token.

    It works on a model that has other weights attached.

    Args:
        vlm: The model.
        layer: Index of the block.
        vector: v, d.
        amount: In units of `length`; a negative value reverses the direction.
        length: The mean |h| there.
        card: Card of an artifact fitted on this model, which names the model.
    """
    pushed = amount * length * unit(vector)
    artifact = Artifact(
        "refusal_direction",
        {},
        {"layer": layer, "gate_threshold": None},
        {"vector": pushed if amount else vector},
        {"model": card["model"]},
    )
    return load_defense("refusal_direction", strength=1.0 if amount else 0.0).apply(vlm, artifact)


def random_like(vector: Tensor, seed: int) -> Tensor:
    """A random vector of the same shape; only directions matter to `steering`."""
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(vector.shape, generator=rng)
