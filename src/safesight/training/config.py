"""Settings shared by every method that changes the weights: what is trained, and for how long."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, FiniteFloat

from safesight.fitting.config import DefenseConfig

__all__ = ["TuningConfig"]


class TuningConfig(DefenseConfig):
    """Which parts of the model are trained, and the schedule of the run.

    "Authors' code" is OPTML-Group/VLM-Safety-Unlearn at 1f89239.
    """

    parameters: Literal["lora", "full"] = "lora"
    """LoRA adapters (PEFT), or the weights themselves. Source: ours; the authors' code has scripts
    for both."""
    layers: tuple[int, ...] | None = None
    """The decoder blocks to train; None for all of them. Source: authors' code."""
    modules: tuple[str, ...] | None = None
    """Which linear layers of a block to train, such as mlp.down_proj. None for all of them and,
    with full weights, the decoder's embeddings, norms and head as well. Source: authors' code."""
    projector: bool = False
    """Whether to train the projector as well, in full. Source: ours: off, so that the result is a
    plain adapter; the authors' code trains it."""
    rank: int = Field(16, ge=1)
    """Rank of the adapters. Source: ours, for small models; authors' code 128."""
    lora_alpha: float = Field(32, gt=0)
    """The adapters' output is scaled by this over the rank. Source: ours, twice the rank as in the
    authors' code."""
    lora_dropout: float = Field(0.05, ge=0, lt=1)
    """Dropout on the adapters' input in training. Source: authors' code."""
    learning_rate: FiniteFloat = Field(1e-4, gt=0)
    """The peak learning rate. Source: ours, for adapters of rank 16."""
    projector_learning_rate: FiniteFloat | None = Field(None, gt=0)
    """The peak learning rate of a trained projector; None for the same. Source: authors' code."""
    epochs: FiniteFloat = Field(1.0, gt=0)
    """Passes over the forget set. Source: authors' code."""
    max_steps: int | None = Field(None, ge=1)
    """Optimizer steps; overrides epochs. Source: ours."""
    batch_size: int = Field(8, ge=1)
    """Rows of each set per batch and device. Source: authors' code, for adapters."""
    accumulate: int = Field(1, ge=1)
    """Batches of accumulated gradients per step. Source: authors' code."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """How the learning rate decays. Source: authors' code."""
    warmup: float = Field(0.03, ge=0, le=1)
    """Fraction of the steps in which the learning rate rises first. Source: authors' code."""
    weight_decay: float = Field(0.0, ge=0)
    """Weight decay of the optimizer, AdamW. Source: authors' code."""
    max_grad_norm: float = Field(1.0, ge=0)
    """Gradients are clipped to this norm; 0 turns clipping off. Source: authors' code."""
