"""LiteLLM's Generic Guardrail API: a gateway asks for a verdict, and nothing is generated.

The gateway sends the texts and pictures of a request before it goes to any model. One call is one
verdict, on all texts and pictures together: that is how the model behind the gateway will see them,
and judged one by one a request could be split over parts that are each harmless. Arguments of tool
calls are judged as texts. Definitions of tools are not judged.

What cannot be judged is blocked: a picture that cannot be read, a part that is neither text nor
picture, a detector that fails. The answer is then a verdict and not an HTTP error, since a gateway
may be set to let requests through when a guardrail reports errors.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, ValidationError

from safesight.errors import InputError, SafesightError
from safesight.server.errors import error_body
from safesight.server.json_bodies import read_json
from safesight.server.workers import TEXTS

__all__ = [
    "PATH",
    "GuardrailRequest",
    "GuardrailResponse",
    "Judge",
    "Kind",
    "Verdict",
    "guardrail_router",
    "response_to",
]

PATH = "/beta/litellm_basic_guardrail_api"
"""What LiteLLM appends to the address of a guardrail."""

Kind = Literal["request", "response"]
_JUDGED_PARTS = frozenset({"text", "image_url", "refusal"})
"""Parts whose content LiteLLM hands over as texts and images; a refusal is the model's own."""


@dataclass(frozen=True)
class Verdict:
    """What the detectors decided about one call."""

    refused: bool
    reason: str = "The request was refused by a safety detector."
    """What the user of the gateway is told if it was refused."""
    texts: list[str] | None = None
    """Texts to put in place of the ones judged, one for each; None to leave them."""


Judge = Callable[[list[str], list[str], Kind], Awaitable[Verdict]]
"""Judges texts and the URLs of pictures; raises `SafesightError` for what it cannot judge."""


class GuardrailRequest(BaseModel):
    """What LiteLLM sends; fields that no verdict depends on are ignored."""

    model_config = ConfigDict(extra="ignore")

    input_type: Kind
    texts: list[str] | None = None
    images: list[str] | None = None
    tool_calls: list[dict[str, Any]] | None = None
    structured_messages: list[dict[str, Any]] | None = None


class GuardrailResponse(BaseModel):
    """What LiteLLM expects."""

    action: Literal["BLOCKED", "NONE", "GUARDRAIL_INTERVENED"]
    blocked_reason: str | None = None
    texts: list[str] | None = None


def response_to(verdict: Verdict) -> GuardrailResponse:
    """The answer that a verdict turns into.

    Example:
        >>> response_to(Verdict(refused=False)).action
        'NONE'
    """
    if verdict.refused:
        return GuardrailResponse(action="BLOCKED", blocked_reason=verdict.reason)
    if verdict.texts is not None:
        return GuardrailResponse(action="GUARDRAIL_INTERVENED", texts=verdict.texts)
    return GuardrailResponse(action="NONE")


def guardrail_router(judge: Judge) -> APIRouter:
    """A router with the one endpoint of the API.

    Args:
        judge: Runs the detectors on the prompt that texts and pictures make.
    """
    router = APIRouter()
    schema = {"application/json": {"schema": GuardrailRequest.model_json_schema()}}

    @router.post(
        PATH,
        response_model=GuardrailResponse,
        response_model_exclude_none=True,
        openapi_extra={"requestBody": {"required": True, "content": schema}},
        responses={400: {"description": "The body is not a guardrail request."}},
        summary="Judge a request to another model",
    )
    async def judged(request: Request) -> GuardrailResponse | JSONResponse:
        try:
            asked = await TEXTS.run(_read, await request.body())
        except InputError as error:
            return JSONResponse(error_body(str(error)), 400)
        return response_to(await _verdict(asked, judge))

    return router


@dataclass(frozen=True)
class _Asked:
    """A request, what of it is judged as text, and the verdict if there is nothing to judge."""

    request: GuardrailRequest
    texts: list[str]
    verdict: Verdict | None


def _read(body: bytes) -> _Asked:
    try:
        request = GuardrailRequest.model_validate(read_json(body))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))[:200]
        raise InputError(f"The field {place!r} is wrong: {first['msg']}.") from None
    texts = [*(request.texts or []), *_arguments(request.tool_calls or [])]
    messages = request.structured_messages or []
    verdict = None
    if not all(isinstance(part, str) and part in _JUDGED_PARTS for part in _parts(messages)):
        verdict = Verdict(True, "The request has a part that is neither text nor picture.")
    elif not texts and not request.images:
        verdict = Verdict(bool(messages), "The request has nothing that can be judged.")
    return _Asked(request, texts, verdict)


async def _verdict(asked: _Asked, judge: Judge) -> Verdict:
    if asked.verdict is not None:
        return asked.verdict
    request = asked.request
    try:
        verdict = await judge(asked.texts, request.images or [], request.input_type)
    except SafesightError as error:
        return Verdict(True, f"The request could not be judged. {error}")
    # Rewritten arguments have no place in the answer: it holds texts of messages.
    kept = verdict.texts and verdict.texts[: len(request.texts or [])]
    return Verdict(verdict.refused, verdict.reason, kept)


def _arguments(calls: list[dict[str, Any]]) -> Iterator[str]:
    for call in calls:
        function = call.get("function")
        arguments = function.get("arguments") if isinstance(function, Mapping) else None
        yield arguments if isinstance(arguments, str) else str(call)


def _parts(messages: list[dict[str, Any]]) -> Iterator[Any]:
    """The types of the parts of all messages whose content is a list."""
    for message in messages:
        content = message.get("content")
        if isinstance(content, list):
            yield from (part.get("type") if isinstance(part, Mapping) else None for part in content)
