"""A protected model in PyRIT: `SafesightTarget`, a target for its attacks and scorers.

PyRIT keeps the conversations and sends all of one with each message; nothing is stored here.
Messages that are sent at the same time are answered in batches.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pyrit.models import (
    ComponentIdentifier,
    Message,
    MessagePiece,
    construct_response_from_request,
)
from pyrit.prompt_target import PromptTarget, TargetCapabilities
from pyrit.prompt_target.common.target_configuration import TargetConfiguration

from safesight import types
from safesight.errors import InputError
from safesight.hosting.served import serve
from safesight.hosting.settings import Settings

__all__ = ["SafesightTarget"]

_TEXT, _PICTURE = "text", "image_path"


class SafesightTarget(PromptTarget):
    """A vision-language model of transformers, with safesight's defenses or without.

    It takes system prompts, several turns, and texts with several pictures in one message.

    Args:
        model: "testbed", a folder, or a hub id.
        defense: Registered defenses joined by "+".
        artifact: Folder of the defense's artifact, or several; by default the bundled one.
        max_new_tokens: The maximum length of an answer; by default the checkpoint's, or 256.
        temperature: Above 0, answers are sampled.
        seed: Makes sampled answers repeatable: the same conversation gets the same answer.
        **settings: `batch_size`, `dtype`, `device`, `device_map`, `quantization_config`,
            `attn_implementation`, `revision` and `trust_remote_code` as for `VLM.load`; everything
            else goes to the defense.

    Raises:
        SafesightError: the model, the defense or the artifact cannot be used.
    """

    _DEFAULT_CONFIGURATION = TargetConfiguration(
        capabilities=TargetCapabilities(
            supports_multi_turn=True,
            supports_multi_message_pieces=True,
            supports_system_prompt=True,
            supports_editable_history=True,
            input_modalities=frozenset(
                frozenset(kinds) for kinds in ({_TEXT}, {_PICTURE}, {_TEXT, _PICTURE})
            ),
            output_modalities=frozenset({frozenset({_TEXT})}),
        )
    )

    def __init__(
        self,
        *,
        model: str = "testbed",
        defense: str = "none",
        artifact: str | Path | Sequence[str | Path] = (),
        max_new_tokens: int | None = None,
        temperature: float = 0.0,
        seed: int | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(model_name=model)
        self._served = serve(model, defense=defense, artifact=artifact, **settings)
        length = max_new_tokens or self._served.host.default_max_tokens
        self._settings = Settings(length, temperature, seed=seed if temperature else None)

    def _build_identifier(self) -> ComponentIdentifier:
        """What PyRIT files its results under: everything that may change an answer."""
        arm, settings = self._served.arm, self._settings
        return self._create_identifier(
            params={
                "defense": arm.name,
                "identity": arm.identity,
                "max_new_tokens": settings.max_new_tokens,
                "temperature": settings.temperature,
                "seed": settings.seed,
            }
        )

    async def _send_prompt_to_target_async(
        self, *, normalized_conversation: list[Message]
    ) -> list[Message]:
        messages = [_turn(message) for message in normalized_conversation]
        found = await asyncio.wrap_future(self._served.ask(messages, self._settings))
        metadata = {"defense": self._served.arm.name}
        if found.refused is not None:
            metadata["refused_by_detector"] = str(found.refused)
        answer = construct_response_from_request(
            request=normalized_conversation[-1].message_pieces[0],
            response_text_pieces=[found.text],
            response_type="text" if found.text else "error",
            prompt_metadata=metadata,
            error="none" if found.text else "empty",
        )
        return [answer]


def _turn(message: Message) -> types.Message:
    pieces = message.message_pieces
    return {"role": pieces[0].api_role, "content": [_part(piece) for piece in pieces]}


def _part(piece: MessagePiece) -> dict[str, Any]:
    kind, value = piece.converted_value_data_type, piece.converted_value
    if kind == _PICTURE:
        return {"type": "image", "image": value}
    if kind in (_TEXT, "error"):  # an earlier turn without an answer
        return {"type": "text", "text": value or ""}
    raise InputError(f"safesight models take text and pictures, not {kind}.")
