"""Answers in OpenAI's form, whole or in pieces. Pure: generations in, objects of `openai` out.

A refusal by a detector is an answer like any other: its text is the content, so that every client
shows it. It also stands in `refusal`, and its `finish_reason` is "content_filter".
"""

from __future__ import annotations

import json
import math
import re
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from openai.types import CompletionUsage
from openai.types.chat import (
    ChatCompletion,
    ChatCompletionChunk,
    ChatCompletionMessage,
    ChatCompletionMessageFunctionToolCall,
    ChatCompletionTokenLogprob,
)
from openai.types.chat.chat_completion import Choice, ChoiceLogprobs
from openai.types.chat.chat_completion_chunk import Choice as Piece
from openai.types.chat.chat_completion_chunk import ChoiceDelta

from safesight.hosting.logprobs import TokenLogProb
from safesight.hosting.requests import Generation
from safesight.tools.calls import CALL_END, CALL_START

__all__ = ["Completions", "decisions_field", "tool_calls"]

_CALL = re.compile(f"{re.escape(CALL_START)}(.*?){re.escape(CALL_END)}", re.DOTALL)

Finish = Literal["stop", "length", "tool_calls", "content_filter"]


@dataclass(frozen=True)
class Completions:
    """Forms the answers to one request."""

    model: str
    defense: str
    """The defenses of the request, such as "sasa+rai"."""
    tools: Sequence[Mapping[str, Any]] | None = None
    """The tools on offer."""
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, answers: Sequence[Generation]) -> dict[str, Any]:
        """The body of an answer that is not streamed."""
        body: dict[str, Any] = ChatCompletion(
            id=self.id,
            choices=[self._choice(number, each) for number, each in enumerate(answers)],
            created=self.created,
            model=self.model,
            object="chat.completion",
            usage=_usage(answers),
        ).model_dump(mode="json", exclude_unset=True)
        if len(answers) > 1:  # each is judged in its own batch
            for choice, answer in zip(body["choices"], answers, strict=True):
                choice["safesight"] = decisions_field(self.defense, [answer])
        return {**body, "safesight": decisions_field(self.defense, answers)}

    def begun(self, number: int) -> dict[str, Any]:
        """The first chunk of a choice, which names the role."""
        return self._chunk(Piece(index=number, delta=ChoiceDelta(role="assistant", content="")))

    def piece(self, number: int, text: str) -> dict[str, Any]:
        """A chunk with more of the text."""
        return self._chunk(Piece(index=number, delta=ChoiceDelta(content=text)))

    def ended(self, number: int, answer: Generation) -> dict[str, Any]:
        """The last chunk of a choice: why it ended, its calls, its probabilities."""
        choice = self._choice(number, answer)
        delta: dict[str, Any] = {}
        if choice.message.tool_calls:
            calls = [call.model_dump() for call in choice.message.tool_calls]
            delta["tool_calls"] = [{**call, "index": at} for at, call in enumerate(calls)]
        if choice.message.refusal is not None:
            delta["refusal"] = choice.message.refusal
        piece: dict[str, Any] = {
            "index": number,
            "delta": delta,
            "finish_reason": choice.finish_reason,
        }
        if choice.logprobs is not None:
            piece["logprobs"] = choice.logprobs.model_dump()
        return {
            **self._chunk(Piece.model_validate(piece)),
            "safesight": decisions_field(self.defense, [answer]),
        }

    def used(self, answers: Sequence[Generation]) -> dict[str, Any]:
        """The chunk after the last choice, with the number of tokens."""
        return {**self._chunk(), "usage": _usage(answers).model_dump(exclude_unset=True)}

    def content(self, answer: Generation) -> str:
        """The text of an answer, without the calls in it."""
        calls = tool_calls(answer.text, self.tools) if not answer.refused else []
        return _CALL.sub("", answer.text).strip() if calls else answer.text

    def _choice(self, number: int, answer: Generation) -> Choice:
        calls = tool_calls(answer.text, self.tools) if not answer.refused else []
        message: dict[str, Any] = {
            "role": "assistant",
            "content": self.content(answer),
            "refusal": answer.text if answer.refused else None,
        }
        if calls:
            message |= {"content": message["content"] or None, "tool_calls": calls}
        return Choice(
            index=number,
            finish_reason=_finish(answer, bool(calls)),
            message=ChatCompletionMessage(**message),
            logprobs=_logprobs(answer),
        )

    def _chunk(self, *pieces: Piece) -> dict[str, Any]:
        return ChatCompletionChunk(
            id=self.id,
            choices=list(pieces),
            created=self.created,
            model=self.model,
            object="chat.completion.chunk",
        ).model_dump(mode="json", exclude_unset=True)


def decisions_field(defense: str, answers: Sequence[Generation]) -> dict[str, Any]:
    """Which defenses were there, and what each detector decided; JSON values only.

    Of several answers to one prompt, the strictest decision of each detector.
    """
    strictest = {
        name: max((each.decisions[name] for each in answers), key=_strictness)
        for name in answers[0].decisions
    }
    return {
        "defense": defense,
        "refused": any(each.refused for each in answers) if strictest else None,
        "decisions": {
            name: {
                "score": decision["score"] if math.isfinite(decision["score"]) else None,
                "threshold": decision["threshold"],
                "refused": decision["refuse"],
                "failed": "error" in decision,
            }
            for name, decision in strictest.items()
        },
    }


def _strictness(decision: Mapping[str, Any]) -> tuple[bool, bool, float]:
    score = decision["score"] if math.isfinite(decision["score"]) else math.inf
    return decision["refuse"], "error" in decision, score


def tool_calls(
    text: str, tools: Sequence[Mapping[str, Any]] | None
) -> list[ChatCompletionMessageFunctionToolCall]:
    """The calls in an answer, in the form of Qwen and Nous, of tools that were offered.

    Example:
        >>> tools = [{"type": "function", "function": {"name": "zoom"}}]
        >>> text = '<tool_call>{"name": "zoom", "arguments": {"x": 1}}</tool_call>'
        >>> tool_calls(text, tools)[0].function.arguments
        '{"x": 1}'
        >>> tool_calls(text, None)
        []
    """
    offered = {tool["function"]["name"] for tool in tools or ()}
    found = []
    for written in _CALL.findall(text) if offered else ():
        try:
            call = json.loads(written)
        except (ValueError, RecursionError):
            return []  # broken text stays text
        if not isinstance(call, dict) or str(call.get("name")) not in offered:
            return []
        arguments = _arguments(call.get("arguments"))
        function = {"name": call["name"], "arguments": arguments}
        found.append(
            ChatCompletionMessageFunctionToolCall.model_validate(
                {"id": f"call_{uuid.uuid4().hex[:24]}", "type": "function", "function": function}
            )
        )
    return found


def _arguments(written: Any) -> str:
    """The arguments of a call as JSON; some models write them as a text that is JSON already."""
    if isinstance(written, str):
        try:
            if isinstance(json.loads(written), dict):
                return written
        except (ValueError, RecursionError):
            pass
    return json.dumps({} if written is None or written == "" else written)


def _finish(answer: Generation, calls: bool) -> Finish:
    if answer.refused:
        return "content_filter"
    if calls:
        return "tool_calls"
    return "stop" if answer.stop_reason == "stop" else "length"


def _usage(answers: Sequence[Generation]) -> CompletionUsage:
    prompt, written = answers[0].input_tokens, sum(each.output_tokens for each in answers)
    return CompletionUsage(
        prompt_tokens=prompt, completion_tokens=written, total_tokens=prompt + written
    )


def _logprobs(answer: Generation) -> ChoiceLogprobs | None:
    if answer.logprobs is None:
        return None
    content = [
        ChatCompletionTokenLogprob.model_validate(
            {
                **_token(each),
                "top_logprobs": [_token(other) for other in each.best],
            }
        )
        for each in answer.logprobs
    ]
    return ChoiceLogprobs(content=content, refusal=None)


def _token(found: TokenLogProb) -> dict[str, Any]:
    # JSON has no infinity; OpenAI's own stand-in for "not among the most probable".
    value = found.logprob if math.isfinite(found.logprob) else -9999.0
    return {"token": found.text, "logprob": value, "bytes": list(found.spelled)}
