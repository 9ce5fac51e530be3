"""Settings of RAI."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from safesight.defenses.rai.prototypes import Prototypes
from safesight.fitting.config import DefenseConfig

__all__ = ["RAIConfig"]

Word = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]
Block = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Push = Annotated[float, Field(ge=0, le=10_000, allow_inf_nan=False)]


class RAIConfig(DefenseConfig):
    """Settings of RAI."""

    at_use: ClassVar[frozenset[str]] = frozenset({"enabled", "strength", "tau", "top_k"})

    words: tuple[Word, ...] | None = Field(None, min_length=1, max_length=1000)
    """K words; None takes the list of the registry for this model, else a generic list of nine.
    Source: ours, the paper's list could not be found."""
    prototypes: Prototypes = "words"
    """Word embeddings, or the words' states at the tapped layer ("contextual").
    Source: secondary."""
    layer: Block | Literal["embed", "auto"] = "embed"
    """The input of block 0 ("embed"), the output of a block, or chosen by the fit ("auto").
    Source: ours, where a secondary source says "layer 0"."""
    centered: bool = False
    """Subtract mean token and mean word before the cosine. Source: ours."""
    ratio: Share | Literal["auto"] = 0.01
    """Share of visual tokens that pass, on average over the fit's pictures. Source: secondary,
    the upper end of its 0.01% to 1%."""
    tau: Annotated[float, Field(ge=-2, le=2)] | None = None
    """A threshold that replaces the calibrated one; above 1 nothing passes. Source: ours."""
    top_k: Annotated[int, Field(ge=1)] | None = None
    """Tokens of each prompt that pass, in place of a threshold. Source: ours."""
    strength: Push | Literal["auto"] = 1.0
    """Of the injection, gamma in eq. 3; 0 changes nothing. Source: secondary, whose formula has no
    factor."""
    norm_matched: bool = False
    """Multiply the injection by the token's norm. Source: ours."""
    pictures: int = Field(200, ge=1)
    """Pictures that tau is calibrated on. Source: ours."""
    search: int = Field(100, ge=1)
    """Samples of each kind that "auto" asks for every setting. Source: ours."""
    max_benign_loss: Share = 0.02
    """Rise of benign answers refused, broken or no longer right that "auto" accepts.
    Source: ours."""
    judge: str = "exact"
    """Whose verdicts "auto" goes by. Source: ours."""
    batch_size: int = Field(16, ge=1)
    """Prompts a forward during a fit. Source: ours."""
    max_new_tokens: int = Field(48, ge=1)
    """Where answers are cut during a fit. Source: ours."""

    @model_validator(mode="after")
    def _one_gate(self) -> Self:
        if self.tau is not None and self.top_k is not None:
            raise ValueError("give tau or top_k, not both")
        return self
