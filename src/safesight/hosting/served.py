"""A model with its defenses, ready to answer Inspect's provider or another tool.

All that is served in one process shares a copy of the weights; see `hosts`. Knows nothing about
Inspect or any other tool.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safesight.defenses import Artifact
from safesight.errors import InputError
from safesight.grammar import check_arm
from safesight.hosting.arms import Arm, build_arm
from safesight.hosting.hosts import Host, host
from safesight.hosting.requests import Generation
from safesight.hosting.settings import Settings
from safesight.types import Message, Messages

__all__ = ["Served", "serve"]

_LOADING = (
    "device_map",
    "quantization_config",
    "attn_implementation",
    "revision",
    "trust_remote_code",
)


@dataclass(frozen=True)
class Served:
    """An arm and the host that answers for it. Make one with `serve`."""

    host: Host
    arm: Arm

    def ask(self, messages: Messages, settings: Settings) -> Future[Generation]:
        """Request an answer, in a batch with others of equal settings.

        Texts of other tools' data sets and attacks may hold the model's image placeholder. It is
        taken apart, so that it is text like any other.
        """
        return self.host.submit(self.arm, settings, [self._plain(each) for each in messages])

    def _plain(self, message: Message) -> Message:
        plain, role = self.host.vlm.control_tokens.plain_turn, message["role"]
        parts = [
            {**part, "text": plain(role, part["text"])} if part["type"] == "text" else part
            for part in message["content"]
        ]
        return {**message, "content": parts}


def serve(
    model: str = "testbed",
    *,
    defense: str = "none",
    artifact: str | Path | Sequence[str | Path] = (),
    dtype: str | None = None,
    device: str | None = None,
    batch_size: int | None = None,
    **settings: Any,
) -> Served:
    """Load a model unless it is loaded, and build an arm of it.

    Args:
        model: "testbed", a folder, or a hub id.
        defense: Registered defenses joined by "+".
        artifact: The folder of the defense's artifact, or several; by default the bundled one.
        dtype: "float32", "bfloat16" or "float16"; by default depends on the device.
        device: "cpu", "cuda", "cuda:1"; by default a GPU if there is one.
        batch_size: Maximum batch size, of all arms of this model.
        **settings: `device_map`, `quantization_config`, `attn_implementation`, `revision` and
            `trust_remote_code` as for `VLM.load`; everything else goes to the defense.

    Raises:
        SafesightError: the model, the defense or the artifact cannot be used.
    """
    check_arm(defense)
    if batch_size is not None and batch_size < 1:
        raise InputError(f"A batch size of {batch_size} is not possible. Use 1 or more.")
    loading = {name: settings.pop(name) for name in _LOADING if name in settings}
    serving = host(model, dtype=dtype, device=device, **loading)
    arm = build_arm(serving.vlm, defense, _by_defense(artifact), **settings)
    if batch_size is not None:
        serving.batcher.max_batch = batch_size
    return Served(serving, arm)


def _by_defense(folders: str | Path | Sequence[str | Path]) -> dict[str, Artifact]:
    found: dict[str, Artifact] = {}
    for folder in [folders] if isinstance(folders, str | Path) else folders:
        artifact = Artifact.load(folder)
        if artifact.defense in found:
            raise InputError(f"{artifact.defense!r} was given two artifacts. Give it one.")
        found[artifact.defense] = artifact
    return found
