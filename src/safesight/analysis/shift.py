"""Does a vector, such as the shift caused by an image-tool call, point towards refusal?

    cos_l = <s_l, r_l> / (||s_l|| ||r_l||)

for the shift `s` and the text-derived unsafe direction `r` at layer l. Two random directions in d
dimensions have a cosine of about 0 with a standard deviation of 1 / sqrt(d).
"""

from __future__ import annotations

from torch import Tensor

from safesight.activations import cosine, unit
from safesight.analysis.results import Shift
from safesight.errors import InputError

__all__ = ["shift_alignment"]


def shift_alignment(shift: Tensor, direction: Tensor, *, source: str = "") -> Shift:
    """Cosines of two layers x d tensors, layer by layer.

    Args:
        shift: One vector per layer.
        direction: One direction per layer.
        source: Where the shift comes from; stored in the result.

    Raises:
        InputError: the shapes differ, or a vector is zero.

    Example:
        >>> import torch
        >>> shift_alignment(torch.eye(2), torch.tensor([[2.0, 0.0], [1.0, 0.0]])).cosines
        [1.0, 0.0]
    """
    if shift.shape != direction.shape:
        raise InputError(
            f"The vector has the shape {tuple(shift.shape)}, but this model has "
            f"{direction.shape[0]} layers of width {direction.shape[1]}. "
            "Use a vector from this model."
        )
    return Shift(source=source, cosines=cosine(unit(shift), unit(direction)).tolist())
