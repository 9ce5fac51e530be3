"""What defenses need to know of a model, told by vLLM's configuration and its weights.

The defenses know a `VLM`. Inside vLLM there is none, so these classes have those of its properties
that reading an artifact and judging a prefill take.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from safesight.errors import ModelError

if TYPE_CHECKING:
    from safesight.models import VLM

__all__ = ["Facts", "ServedModel", "as_vlm"]


class Facts:
    """Sizes and names, known before any weight is loaded.

    Args:
        model_config: vLLM's.
    """

    def __init__(self, model_config: Any) -> None:
        text = model_config.hf_text_config
        self.name = str(model_config.served_model_name or model_config.model)
        self.place = str(model_config.model)
        """Its folder, or its name on the hub."""
        self.num_layers: int = text.num_hidden_layers
        self.hidden_size: int = text.hidden_size
        self.vocab_size: int = text.vocab_size
        self.dtype: torch.dtype = model_config.dtype


class ServedModel(Facts):
    """The model of one worker.

    Args:
        model: vLLM's.
        model_config: vLLM's.

    Raises:
        ModelError: its decoder blocks are not where this version of vLLM keeps them.
    """

    def __init__(self, model: Any, model_config: Any) -> None:
        super().__init__(model_config)
        language = model.get_language_model()
        inner = getattr(language, "model", language)
        self._model, self._norm = model, getattr(inner, "norm", None)
        self.decoder: nn.Module = inner
        self.layers = list(getattr(inner, "layers", []))
        if len(self.layers) != self.num_layers or self._norm is None:
            raise ModelError(
                f"The decoder blocks of {self.name!r} were not found in vLLM's "
                f"{type(model).__name__}, so it cannot be defended there. Serve it with "
                "`safesight serve` on transformers."
            )

    def logits_of(self, hidden: Tensor) -> Tensor:
        """The logits for states after a block: ... x d to ... x vocabulary, on every rank."""
        from vllm.distributed import get_tensor_model_parallel_world_size as ranks

        rows = hidden.reshape(-1, hidden.shape[-1]).to(self.dtype)
        normed = cast(nn.Module, self._norm)(rows)
        logits = self._gathered(normed) if ranks() > 1 else self._model.compute_logits(normed)
        return cast(Tensor, logits).reshape(*hidden.shape[:-1], -1)

    def _gathered(self, normed: Tensor) -> Tensor:
        """Logits on all ranks, where vLLM's processor would give them to the first alone."""
        language = self._model.get_language_model()
        processor = language.logits_processor
        before, processor.use_all_gather = processor.use_all_gather, True
        try:
            return cast(Tensor, self._model.compute_logits(normed))
        finally:
            processor.use_all_gather = before


def as_vlm(facts: Facts) -> VLM:
    """The same object where a `VLM` is wanted of which no more than this is used."""
    return cast("VLM", facts)
