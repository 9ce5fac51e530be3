"""What a caller hands to `generate` for each row of a batch, narrowed to some of the rows.

A pipeline may ask the model again about some of the rows. A logits processor or a stopping
criterion that holds something for each row, such as a seed or a length, says what it is for some of
them through a method `for_rows`. Any other takes whatever rows there are and is passed on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

if TYPE_CHECKING:
    from safesight.generation.call_types import Inputs

__all__ = ["PerRow", "allowed_in", "for_rows"]

_HOLDERS = ("logits_processor", "stopping_criteria")


@runtime_checkable
class PerRow(Protocol):
    """A logits processor or stopping criterion that holds something for each row of a batch."""

    def for_rows(self, rows: Sequence[int]) -> Self:
        """A fresh one for one more generation, about these rows in this order."""
        ...


def for_rows(inputs: Inputs, rows: Sequence[int]) -> Inputs:
    """The call with what it holds for each row reduced to some of them; prompts are left alone.

    Args:
        inputs: The arguments of the `generate` call; not changed.
        rows: The rows to keep, in the order of the result.
    """
    changed = dict(inputs)
    for name in _HOLDERS:
        if inputs.get(name):
            changed[name] = [
                each.for_rows(rows) if isinstance(each, PerRow) else each for each in inputs[name]
            ]
    return allowed_in(changed, rows)


def allowed_in(inputs: Inputs, rows: Sequence[int]) -> Inputs:
    """The call with a `prefix_allowed_tokens_fn` that knows these rows by their old numbers."""
    allowed: Callable[[int, Any], Any] | None = inputs.get("prefix_allowed_tokens_fn")
    if allowed is None:
        return inputs
    return {
        **inputs,
        "prefix_allowed_tokens_fn": lambda row, tokens: allowed(rows[row], tokens),
    }
