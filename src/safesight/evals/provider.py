"""`safesight/<model>`: the Inspect provider for a local VLM, defended or not, in batches.

Concurrent `generate` calls of an evaluation share one queue and are answered in batches (see
`hosting`). All arms in one process share one copy of the weights. The provider only translates
messages, settings and errors.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import sniffio

# Inspect prints this error as a sentence and all others with a traceback. It has no public name,
# and the public alternatives (a click error, a sys hook) would only help on its command line.
from inspect_ai._util.error import PrerequisiteError
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    ChatMessageAssistant,
    GenerateConfig,
    ModelAPI,
    ModelOutput,
    ModelUsage,
)
from inspect_ai.tool import ToolChoice, ToolInfo
from rich.markup import escape

from safesight.errors import InputError, SafesightError
from safesight.evals.endpoint import CONNECTIONS, Endpoint
from safesight.evals.messages import hf_messages, settings_of
from safesight.evals.session import refused
from safesight.hosting.requests import Generation
from safesight.hosting.served import serve
from safesight.judges.spoken import opened_before
from safesight.types import Messages

if TYPE_CHECKING:
    from safesight.models import VLM

__all__ = ["SafesightAPI"]

_TAIL = 16
"""Tokens at the end of a prompt in which a tag would be."""


class SafesightAPI(ModelAPI):
    """A model of `transformers` with an optional defense, behind Inspect's `ModelAPI`.

    `inspect eval safesight/image_harm --model safesight/testbed -M defense=sasa`

    Args:
        model_name: "testbed", a folder, or a hub id.
        base_url: Not used; Inspect passes it.
        api_key: Not used; Inspect passes it.
        config: Generation settings of the model. A temperature and a length are part of the arm's
            identity.
        defense: Registered defenses joined by "+".
        artifact: Folder of the defense's artifact, or several folders (on the command line with
            commas between them); by default the bundled one.
        dtype: "float32", "bfloat16" or "float16"; by default depends on the device.
        device: "cpu", "cuda", "cuda:1"; by default a GPU if there is one.
        batch_size: Maximum batch size.
        endpoint: The same arm at another engine, which answers instead.
        **settings: `device_map`, `quantization_config`, `attn_implementation`, `revision` and
            `trust_remote_code` as for `VLM.load`; everything else goes to the defense.

    Raises:
        PrerequisiteError: the model, the defense or the artifact cannot be used. Its cause is the
            `SafesightError` that says why.
    """

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig = GenerateConfig(),  # noqa: B008 (Inspect's own default; frozen here)
        defense: str = "none",
        artifact: str | Path | Sequence[str | Path] = (),
        dtype: str | None = None,
        device: str | None = None,
        batch_size: int | None = None,
        endpoint: Endpoint | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(model_name, base_url, api_key, [], config)
        self.config = config
        try:
            served = serve(
                model_name,
                defense=defense,
                artifact=artifact,
                dtype=dtype,
                device=device,
                batch_size=batch_size,
                **settings,
            )
            self._opened = _opened_by(served.host.vlm)
        except SafesightError as error:
            raise PrerequisiteError(escape(str(error))) from error
        self.host, self.arm, self._endpoint = served.host, served.arm, endpoint
        self.model_identity = self._of_engine(self.host.vlm.identity)
        identity = self._of_engine(self.arm.identity)
        self.arm = replace(self.arm, identity=decoded_as(identity, config))
        # Part of the key of Inspect's answer cache (`--cache`), so that answers are not shared
        # between different artifacts, dtypes or defenses.
        self.base_url = f"safesight:{self.arm.identity}"

    def max_connections(self) -> int:
        """Two batches: one is answered while the next is prepared."""
        if self._endpoint is not None:
            return CONNECTIONS
        return 2 * self.host.batcher.max_batch

    def connection_key(self) -> str:
        """The same for all arms of one model: they queue for the same thread."""
        return str(id(self.host if self._endpoint is None else self._endpoint.server))

    async def generate(
        self,
        input: list[ChatMessage],
        tools: list[ToolInfo],
        tool_choice: ToolChoice,
        config: GenerateConfig,
    ) -> ModelOutput:
        """Answer one conversation, in a batch with others.

        Raises:
            SafesightError: a setting, a tool or content that local generation does not support.
        """
        try:
            return await self._answered(input, tools, config)
        except SafesightError as error:
            refused(error)
            raise

    async def _answered(
        self, input: list[ChatMessage], tools: list[ToolInfo], config: GenerateConfig
    ) -> ModelOutput:
        if tools:
            raise InputError(
                f"safesight models do not take tools ({tools[0].name!r}). "
                "Describe them in the system message."
            )
        settings = settings_of(config, self.host.default_max_tokens)
        if self._endpoint is not None:
            output = await self._endpoint.ask(self.host.vlm, input, settings)
            output.metadata = self._about()
        else:
            future = self.host.submit(self.arm, settings, hf_messages(input))
            output = self._output(await _result(future))
        if output.stop_reason == "max_tokens" and input[-1].role != "assistant":
            output.completion = self._opened + output.completion  # cut off, perhaps in reasoning
        return output

    def _output(self, generation: Generation) -> ModelOutput:
        message = ChatMessageAssistant(
            content=generation.text, model=self.model_name, source="generate"
        )
        return ModelOutput(
            model=self.model_name,
            choices=[ChatCompletionChoice(message=message, stop_reason=generation.stop_reason)],
            usage=ModelUsage(
                input_tokens=generation.input_tokens,
                output_tokens=generation.output_tokens,
                total_tokens=generation.input_tokens + generation.output_tokens,
            ),
            metadata=self._metadata(generation),
        )

    def _metadata(self, generation: Generation) -> dict[str, Any]:
        metadata = self._about()
        if generation.refused is not None:
            metadata["refused_by_detector"] = generation.refused
            metadata["decisions"] = {
                # JSON has no NaN, the score of a detector that failed
                name: {key: _json(value) for key, value in decision.items()}
                for name, decision in generation.decisions.items()
            }
        return metadata

    def _about(self) -> dict[str, Any]:
        return {"defense": self.arm.name, "identity": self.arm.identity}

    def _of_engine(self, identity: str) -> str:
        """The identity of what another engine computes, which is not ours to the last bit."""
        if self._endpoint is None:
            return identity
        return hashlib.sha256(f"{identity} {self._endpoint.server.engine}".encode()).hexdigest()


def _opened_by(vlm: VLM) -> str:
    """What a chat template says of an answer before the model does: an opened reasoning."""
    asked: Messages = [{"role": "user", "content": [{"type": "text", "text": "?"}]}]
    ids = vlm.encode([asked])["input_ids"][0, -_TAIL:].tolist()
    return opened_before(str(vlm.tokenizer.decode(ids)))


def decoded_as(identity: str, config: GenerateConfig) -> str:
    """The identity of an arm whose answers are drawn at a temperature, or end at a length.

    Example:
        >>> decoded_as("abc", GenerateConfig())
        'abc'
    """
    for name in ("temperature", "max_tokens"):
        if value := getattr(config, name):
            identity = hashlib.sha256(f"{identity} {name} {value!r}".encode()).hexdigest()
    return identity


def _json(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


async def _result(future: Future[Generation]) -> Generation:
    """Wait for another thread without blocking the event loop, asyncio's or trio's."""
    if sniffio.current_async_library() == "asyncio":
        return await asyncio.wrap_future(future)
    return await anyio.to_thread.run_sync(future.result, abandon_on_cancel=True)
