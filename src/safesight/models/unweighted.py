"""A model without weights, which encodes prompts and nothing else.

It shows what a chat template makes of a conversation where another engine has the weights.
"""

from __future__ import annotations

import torch
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from safesight.errors import ModelError, reason_of
from safesight.models.loading import place_of
from safesight.models.no_torchvision import without_torchvision
from safesight.models.vlm import VLM

__all__ = ["load_unweighted"]


class _Unweighted(VLM):
    """Its inputs stay on the CPU, as nothing computes with them."""

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")


def load_unweighted(
    name: str,
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
    template: str | None = None,
) -> VLM:
    """Read the config and the processor of a model.

    Args:
        name: A bundled model, a folder, or a model of the hub.
        revision: Branch, tag or commit of a hub model.
        trust_remote_code: Run code that comes with the checkpoint.
        template: A chat template in the place of its own.

    Raises:
        ModelError: they cannot be read, or it has no chat template.
    """
    more = {"revision": revision, "trust_remote_code": trust_remote_code}
    folder = place_of(name)
    try:
        config = AutoConfig.from_pretrained(folder, **more)
        with torch.device("meta"):
            model = AutoModelForImageTextToText.from_config(
                config, trust_remote_code=trust_remote_code
            )
        with without_torchvision():
            processor = AutoProcessor.from_pretrained(folder, **more)
    except (OSError, ValueError, ImportError) as error:
        raise ModelError(
            f"The prompts of {name!r} cannot be written ({reason_of(error)}). Check the "
            "model's folder or name."
        ) from error
    if template is not None:
        processor.chat_template = template
    return _Unweighted(model, processor, name)
