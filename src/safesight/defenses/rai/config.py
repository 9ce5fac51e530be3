"""The settings of RAI."""

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
    """K words; None uses the registry's list for this model, or a generic list of nine.
    Source: ours, the paper's list could not be found."""
    prototypes: Prototypes = "words"
    """Word embeddings, or the words' hidden states at the chosen layer ("contextual").
    Source: secondary."""
    layer: Block | Literal["embed", "auto"] = "embed"
    """The input of block 0 ("embed"), a block's output, or the fit's choice ("auto").
    Source: ours, where a secondary source says "layer 0"."""
    centered: bool = False
    """Subtract the mean token and the mean word before the cosine. Source: ours."""
    ratio: Share | Literal["auto"] = 0.01
    """Share of visual tokens that pass, averaged over the fit's pictures. Source: secondary,
    the upper end of its 0.01% to 1%."""
    tau: Annotated[float, Field(ge=-2, le=2)] | None = None
    """A threshold that replaces the calibrated one; above 1 nothing passes. Source: ours."""
    top_k: Annotated[int, Field(ge=1)] | None = None
    """Number of tokens per prompt that pass, instead of a threshold. Source: ours."""
    strength: Push | Literal["auto"] = 1.0
    """Strength of the injection, gamma in eq. 3; 0 changes nothing. Source: secondary, whose
    formula has no factor."""
    norm_matched: bool = False
    """Multiply the injection by the token's norm. Source: ours."""
    pictures: int = Field(200, ge=1)
    """Maximum number of pictures used to calibrate tau. Source: ours."""
    search: int = Field(100, ge=1)
    """Harmful and benign samples, each, that "auto" tries per setting. Source: ours."""
    max_benign_loss: Share = 0.02
    """Maximum rise in the share of benign answers refused, broken or now wrong under "auto".
    Source: ours."""
    judge: str | None = None
    """Judge that labels the answers for "auto". None: `exact` for the
    bundled model, `rules` for any other. Source: ours."""
    batch_size: int = Field(16, ge=1)
    """Prompts per forward pass during a fit. Source: ours."""
    max_new_tokens: int = Field(48, ge=1)
    """Maximum length of answers during a fit. Source: ours."""

    @model_validator(mode="after")
    def _one_gate(self) -> Self:
        if self.tau is not None and self.top_k is not None:
            raise ValueError("give tau or top_k, not both")
        return self
