"""Lets processors load where torchvision is not installed.

safesight uses PIL pictures and no videos, so it does not need torchvision. But in transformers
every video processor needs it, processors such as Qwen's require a video processor, and
Pixtral's imports torchvision for a function that also exists without it. If torchvision is
missing, stand-ins replace these while a processor is created. If it is installed, this module
does nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any, NoReturn
from unittest.mock import patch

from transformers.models.auto.video_processing_auto import AutoVideoProcessor
from transformers.processing_utils import transformers_module
from transformers.utils import is_torchvision_available
from transformers.video_processing_utils import VideoProcessorMixin

from safesight.errors import InputError

__all__ = ["NoVideo", "without_torchvision"]


class NoVideo(VideoProcessorMixin):  # type: ignore[misc]
    """Stand-in for a video processor; refuses videos."""

    model_input_names = ("pixel_values_videos",)
    # Settings that processors read although there is no video (MiniCPM-V, SmolVLM).
    slice_mode, downsample_mode, num_frames, fps = False, "16x", None, None

    def __init__(self) -> None:
        """Take no arguments."""

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse.

        Raises:
            InputError: always.
        """
        raise InputError("Videos need torchvision. Install it, or send pictures.")

    def to_dict(self) -> dict[str, Any]:
        """Return nothing to save."""
        return {}

    def save_pretrained(self, *args: Any, **kwargs: Any) -> list[str]:
        """Save nothing."""
        return []


@contextmanager
def without_torchvision() -> Iterator[None]:
    """Inside, processors can be created without torchvision; `NoVideo` handles videos."""
    if is_torchvision_available():
        yield
        return
    pixtral = import_module("transformers.models.pixtral")
    smolvlm = import_module("transformers.models.smolvlm.processing_smolvlm")
    load = classmethod(lambda cls, *args, **kwargs: NoVideo())
    with (
        patch.object(AutoVideoProcessor, "from_pretrained", load),
        patch.object(transformers_module, "VideoProcessorMixin", VideoProcessorMixin, create=True),
        patch.object(pixtral, "PixtralProcessor", _pixtral_processor()),
        # Which writes the length of a video in words with it.
        patch.object(smolvlm, "num2words", smolvlm.num2words or str),
    ):
        yield


def _pixtral_processor() -> Any:
    """The processor class, imported without its torchvision sibling."""
    home = "transformers.models.pixtral"
    sibling = ModuleType(f"{home}.image_processing_pixtral")
    twin = import_module(f"{home}.image_processing_pil_pixtral")
    sibling.__dict__["get_resize_output_image_size"] = twin.get_resize_output_image_size
    with patch.dict(sys.modules, {sibling.__name__: sibling}):
        return import_module(f"{home}.processing_pixtral").PixtralProcessor
