"""Lets processors load where torchvision is not installed.

safesight never gives a model a video and its pictures are PIL pictures, so it
has no use for torchvision; but in transformers every video processor needs it,
processors such as Qwen's insist on having one, and Pixtral's imports it for a
function that exists without it too. Where torchvision is missing, stand-ins take
these places while a processor is made. With torchvision installed nothing here
does anything.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any, NoReturn
from unittest.mock import patch

import transformers
from transformers.models.auto.video_processing_auto import AutoVideoProcessor
from transformers.utils import is_torchvision_available
from transformers.video_processing_utils import VideoProcessorMixin

from safesight.errors import InputError

__all__ = ["NoVideo", "without_torchvision"]


class NoVideo(VideoProcessorMixin):  # type: ignore[misc]
    """Stands where a video processor would; refuses videos."""

    model_input_names = ("pixel_values_videos",)

    def __init__(self) -> None:
        """Needs nothing."""

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse.

        Raises:
            InputError: always.
        """
        raise InputError("Videos need torchvision: install it, or send pictures.")

    def to_dict(self) -> dict[str, Any]:
        """Nothing to save."""
        return {}

    def save_pretrained(self, *args: Any, **kwargs: Any) -> list[str]:
        """Nothing to save."""
        return []


@contextmanager
def without_torchvision() -> Iterator[None]:
    """Inside, processors can be made without torchvision, with `NoVideo` for videos."""
    if is_torchvision_available():
        yield
        return
    pixtral = import_module("transformers.models.pixtral")
    load = classmethod(lambda cls, *args, **kwargs: NoVideo())
    with (
        patch.object(AutoVideoProcessor, "from_pretrained", load),
        patch.object(transformers, "VideoProcessorMixin", VideoProcessorMixin, create=True),
        patch.object(pixtral, "PixtralProcessor", _pixtral_processor()),
    ):
        yield


def _pixtral_processor() -> Any:
    """The class itself, imported past its torchvision sibling."""
    home = "transformers.models.pixtral"
    sibling = ModuleType(f"{home}.image_processing_pixtral")
    twin = import_module(f"{home}.image_processing_pil_pixtral")
    sibling.__dict__["get_resize_output_image_size"] = twin.get_resize_output_image_size
    with patch.dict(sys.modules, {sibling.__name__: sibling}):
        return import_module(f"{home}.processing_pixtral").PixtralProcessor
