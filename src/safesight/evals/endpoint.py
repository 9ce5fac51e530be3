"""Answers of another engine, asked over HTTP through Inspect's own provider.

The arm, its identity and everything that a log says about it are those of `provider`; only the
answers come from elsewhere. Texts are cleaned as `VLM.encode` cleans them, so that the engine's
chat template sees what ours would.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from inspect_ai._util.error import PrerequisiteError
from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageUser,
    Content,
    ContentImage,
    ContentText,
    GenerateConfig,
    Model,
    ModelOutput,
    get_model,
)

from safesight.errors import InputError, ModelError, SafesightError, reason_of
from safesight.evals.messages import hf_messages

if TYPE_CHECKING:
    from safesight.hosting.settings import Settings
    from safesight.models import VLM

__all__ = ["Address", "Endpoint", "Server", "check_client"]

CONNECTIONS = 64
"""Samples that may run at a time: the engine batches them itself."""

_TURNS: Mapping[str, type[ChatMessageUser | ChatMessageAssistant | ChatMessageSystem]] = {
    "user": ChatMessageUser,
    "assistant": ChatMessageAssistant,
    "system": ChatMessageSystem,
}


@dataclass(frozen=True)
class Address:
    """Where a server is, and how it is asked."""

    url: str
    """Up to and with /v1."""
    key: str
    model: str
    """Its name there."""


class Server(Protocol):
    """Something that answers several arms, one after another."""

    @property
    def engine(self) -> str:
        """Name, version and options, as in "vllm 0.32.0 with --seed 1"; part of every identity."""

    @property
    def address(self) -> Address:
        """Where it is, while it is running."""

    def running(self) -> AbstractContextManager[None]:
        """Inside, it answers."""


@dataclass
class Endpoint:
    """One arm at a server."""

    server: Server
    body: Mapping[str, Any] = field(default_factory=dict)
    """Fields of every request that choose the arm."""
    _asked: dict[Address, Model] = field(default_factory=dict, repr=False)

    async def ask(self, vlm: VLM, input: Sequence[ChatMessage], settings: Settings) -> ModelOutput:
        """The answer to one conversation.

        Args:
            vlm: The model, which knows what a text may not hold.
            input: The conversation.
            settings: How to decode.

        Raises:
            InputError: the server does not take the request, or does not answer it.
        """
        api = self._model().api
        messages = _cleaned(vlm, input)
        body = dict(self.body)
        if messages[-1].role == "assistant":
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        config = GenerateConfig(
            max_tokens=settings.max_new_tokens,
            temperature=settings.temperature,
            top_p=settings.top_p,
            seed=settings.seed,
            stop_seqs=list(settings.stop) or None,
            extra_body=body if settings.top_k is None else {**body, "top_k": settings.top_k},
        )
        try:
            made = await api.generate(messages, [], "none", config)
        except Exception as error:  # its client's own: no connection, no time left, no access
            raise self._refused(error) from error
        output = made[0] if isinstance(made, tuple) else made
        if isinstance(output, Exception):
            raise self._refused(output)
        if output.error is not None or not output.choices:
            raise self._refused(ModelError(output.error or "no answer"))
        output.completion = output.choices[0].message.content = output.completion.strip()
        return output

    def _model(self) -> Model:
        where = self.server.address
        if where not in self._asked:
            self._asked[where] = _client(where)
        return self._asked[where]

    def _refused(self, error: Exception) -> SafesightError:
        where = self.server.address.url
        return InputError(
            f"The server at {where} gave no answer ({reason_of(error)[:300]}). Finished answers "
            "are kept: run the same command again to resume."
        )


def check_client() -> None:
    """Check that Inspect can ask a server of OpenAI's protocol.

    Raises:
        ModelError: it needs another version of OpenAI's client.
    """
    _client(Address("http://127.0.0.1/v1", "none", "none"))


def _client(where: Address) -> Model:
    try:
        return get_model(
            f"openai-api/vllm/{where.model}",
            base_url=where.url,
            api_key=where.key,
            memoize=False,
        )
    except PrerequisiteError as error:
        told = " ".join(str(error).split()).removeprefix("ERROR: ")
        raise ModelError(f"Inspect cannot ask another engine: {told}") from error


def _cleaned(vlm: VLM, input: Sequence[ChatMessage]) -> list[ChatMessage]:
    turns = hf_messages(input)
    conversation: list[dict[str, Any]] = [dict(turn) for turn in turns]
    vlm.control_tokens.clean(conversation, ())
    return [_turn(message, turn) for message, turn in zip(input, conversation, strict=True)]


def _turn(message: ChatMessage, turn: Mapping[str, Any]) -> ChatMessage:
    """A cleaned message, with the pictures as they came."""
    parts = [] if isinstance(message.content, str) else message.content
    pictures = iter([part for part in parts if isinstance(part, ContentImage)])
    content: list[Content] = [
        next(pictures) if part["type"] == "image" else ContentText(text=part["text"])
        for part in turn["content"]
    ]
    made = _TURNS.get(str(turn["role"]))
    if made is None:
        raise InputError(f"Another engine is not asked in the role {turn['role']!r}.")
    if all(isinstance(part, ContentText) for part in content) and len(content) == 1:
        return made(content=turn["content"][0]["text"])
    return made(content=content)
