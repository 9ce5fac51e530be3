"""Lets processors of video-capable models load where torchvision is not installed.

In transformers every video processor needs torchvision, and processors such as
Qwen's insist on having one. safesight never gives a model a video, so where
torchvision is missing a stand-in takes that place, for the time of loading.
With torchvision installed nothing here does anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from transformers.models.auto.video_processing_auto import AutoVideoProcessor
from transformers.utils import is_torchvision_available
from transformers.video_processing_utils import VideoProcessorMixin

from safesight.errors import InputError

__all__ = ["NoVideo", "without_video"]


class NoVideo(VideoProcessorMixin):  # type: ignore[misc]
    """Stands where a video processor would; refuses videos."""

    model_input_names = ("pixel_values_videos",)
    merge_size = temporal_patch_size = num_frames = fps = None

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
def without_video() -> Iterator[None]:
    """Inside, video processors load as `NoVideo` if torchvision is missing."""
    if is_torchvision_available():
        yield
        return
    original = AutoVideoProcessor.__dict__["from_pretrained"]
    AutoVideoProcessor.from_pretrained = classmethod(lambda cls, *args, **kwargs: NoVideo())
    try:
        yield
    finally:
        AutoVideoProcessor.from_pretrained = original
