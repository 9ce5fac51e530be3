"""No defense: the model as it is, the first row of every comparison.

It has no parts, so the model runs its own `generate` on unchanged inputs. It is also the
smallest example of a defense file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from safesight.defenses.base import Defense, DefenseConfig, Parts

if TYPE_CHECKING:
    from safesight.models import VLM

__all__ = ["NoDefense"]


@final
class NoDefense(Defense[DefenseConfig, None]):
    """The undefended model."""

    name = "none"
    kind = "input"
    paper = "none"

    def parts(self, vlm: VLM, config: DefenseConfig, fitted: None) -> Parts:
        """No parts."""
        return Parts()
