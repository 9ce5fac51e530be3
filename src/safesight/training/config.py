"""Settings that every method that changes the weights has in common: what learns, how long."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, FiniteFloat

from safesight.fitting.config import DefenseConfig

__all__ = ["TuningConfig"]


class TuningConfig(DefenseConfig):
    """What of the model learns, and the schedule of the run.

    "Authors' code" is OPTML-Group/VLM-Safety-Unlearn at 1f89239.
    """

    parameters: Literal["lora", "full"] = "lora"
    """Small matrices beside the weights (PEFT), or the weights themselves. Source: ours; the
    authors' code has scripts for both."""
    layers: tuple[int, ...] | None = None
    """The decoder blocks that learn; None is all of them. Source: authors' code."""
    modules: tuple[str, ...] | None = None
    """Which linear maps of a block learn, such as mlp.down_proj; None is all of them, and with
    full weights the decoder's embeddings, norms and head as well. Source: authors' code."""
    projector: bool = False
    """Whether the projector learns as well, in full. Source: ours, so that the result is a plain
    adapter; the authors' code trains it."""
    rank: int = Field(16, ge=1)
    """Of the small matrices. Source: ours, for small models; authors' code 128."""
    lora_alpha: float = Field(32, gt=0)
    """Their product is scaled by this over the rank. Source: ours, twice the rank as in the
    authors' code."""
    lora_dropout: float = Field(0.05, ge=0, lt=1)
    """On their input, in training. Source: authors' code."""
    learning_rate: FiniteFloat = Field(1e-4, gt=0)
    """The largest. Source: ours, for small matrices of rank 16."""
    projector_learning_rate: FiniteFloat | None = Field(None, gt=0)
    """The projector's, if it learns; None is the same. Source: authors' code."""
    epochs: FiniteFloat = Field(1.0, gt=0)
    """Passes over the forget set. Source: authors' code."""
    max_steps: int | None = Field(None, ge=1)
    """Optimizer steps, whatever the epochs say. Source: ours."""
    batch_size: int = Field(8, ge=1)
    """Rows of each set in a step, on each device. Source: authors' code, for small matrices."""
    accumulate: int = Field(1, ge=1)
    """Batches whose gradients are added up before a step. Source: authors' code."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """How the learning rate goes down. Source: authors' code."""
    warmup: float = Field(0.03, ge=0, le=1)
    """The share of the steps in which it rises first. Source: authors' code."""
    weight_decay: float = Field(0.0, ge=0)
    """Of the optimizer, AdamW. Source: authors' code."""
    max_grad_norm: float = Field(1.0, ge=0)
    """Longer gradients are cut to this length; 0 cuts none. Source: authors' code."""
