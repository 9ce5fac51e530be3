"""A change of a prompt's hidden states, declared apart from the engine that makes it.

Some defenses do nothing but change states while a prompt is read. They say here what is changed and
where; hooks on a `transformers` model or an engine of its own make the change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from safesight.activations import Site

__all__ = ["Change", "Edit", "LastTokenEdit", "Shift", "VisualTokenEdit"]

Change = Callable[[Tensor], Tensor]
"""Maps the states of some rows, R x d float32, to their replacements."""

Shift = Callable[[Tensor, Tensor], Tensor]
"""Maps states of visual tokens (M x d) and the row of each (M) to what is added to them
(M x d, float32). A token whose shift is zero is unchanged, bit for bit."""


@dataclass(frozen=True)
class LastTokenEdit:
    """Changes the state of a prompt's last token after some blocks, in the order of the blocks."""

    changes: Mapping[int, Change]
    """The change by block."""


@dataclass(frozen=True)
class VisualTokenEdit:
    """Shifts the states of a prompt's visual tokens at one site."""

    site: Site
    shift: Shift
    whole: bool = False
    """Whether the shift of one token depends on the others of its prompt, so that all of them have
    to be there at once."""


Edit = LastTokenEdit | VisualTokenEdit
