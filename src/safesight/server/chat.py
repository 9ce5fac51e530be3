"""`/v1/chat/completions`: from a body to an answer, whole or in pieces.

Every answer comes from the host with the defenses of its request attached; there is no other way
to one. Whatever goes wrong, no part of an answer leaves that the detectors have not passed.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from starlette.requests import Request as HTTPRequest
from starlette.responses import JSONResponse, Response, StreamingResponse

from safesight.errors import InputError
from safesight.hosting.requests import Generation, Request
from safesight.server.answering import Answering, Event, Places
from safesight.server.chat_request import ChatRequest, chat_request
from safesight.server.completions import Completions
from safesight.server.conversation import (
    conversation,
    count_parts,
    count_pictures,
    texts_of,
)
from safesight.server.gone import Unsent, unless_gone
from safesight.server.json_bodies import read_json
from safesight.server.prompt_lengths import PromptLengths
from safesight.server.refusals import RequestError, failure
from safesight.server.workers import TEXTS

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from safesight.hosting.arms import Arm
    from safesight.hosting.hosts import Host
    from safesight.models.control_tokens import ControlTokens
    from safesight.server.choices import Choices
    from safesight.server.record import Note, Record
    from safesight.server.settings import ServerSettings

__all__ = ["Chat"]


class Chat:
    """Answers requests for chat completions.

    Args:
        host: Who answers.
        choices: Which defenses may.
        rules: The server's.
        record: Where decisions are noted.
    """

    def __init__(self, host: Host, choices: Choices, rules: ServerSettings, record: Record) -> None:
        self.host, self.choices, self.rules, self.record = host, choices, rules, record
        # As many pixels as two requests may have.
        most_pixels = 2 * rules.limits.max_pictures * rules.pictures.max_pixels
        self.places = Places(rules.limits.max_waiting, most_pixels)
        template = str(getattr(host.vlm.processor, "chat_template", ""))
        self._lengths = PromptLengths(host.vlm)
        self._offers_tools = "tools" in template

    async def respond(self, http: HTTPRequest) -> Response:
        """Answer one request.

        Raises:
            RequestError: it cannot be answered.
        """
        begin = time.monotonic()
        asked, arm = await TEXTS.run(self._read, await http.body())
        answering = Answering(self.host, asked.choices, self.places)
        response: Response | None = None
        try:
            answer = self._answer(asked, arm, answering, begin)
            response = await unless_gone(http.receive, answer)
        finally:
            if not isinstance(response, _Stream):
                answering.leave()
        return Unsent() if response is None else response

    async def _answer(
        self, asked: ChatRequest, arm: Arm, answering: Answering, begin: float
    ) -> Response:
        until = begin + self.rules.limits.seconds
        async with _in_time(until):
            picture = partial(answering.picture, rules=self.rules.pictures)
            messages = await conversation(asked.messages, picture, self._plain)
        forms = Completions(self.rules.name, arm.name, asked.tools)
        note = self.record.of(forms.id, arm, messages, begin)
        answering.begin(Request(arm, asked.settings, messages, tools=asked.tools), note.decided)
        if not asked.stream:
            async with _in_time(until):
                answers = await answering.results()
            note.answered(answers)
            return JSONResponse(forms.whole(answers), headers=_headers(arm.name, answers))
        events = _limited(answering.events(), until)
        first = [await anext(events)]
        note.began()
        # The headers tell of every choice, and choices may be judged in different batches.
        judged = any(defense.kind == "detector" for defense, _ in arm.defenses)
        while judged and len({number for number, _ in first}) < asked.choices:
            first.append(await anext(events))
        ended = [what for _, what in first if isinstance(what, Generation)]
        pieces = self._pieces(_after(first, events), asked, forms, note)
        return _Stream(pieces, answering, _headers(arm.name, ended))

    def _read(self, body: bytes) -> tuple[ChatRequest, Arm]:
        try:
            given = read_json(body)
        except InputError as error:
            raise RequestError(str(error)) from error
        asked = chat_request(given, self.rules, self.host.default_max_tokens)
        pictures, most = count_pictures(asked.messages), self.rules.limits.max_pictures
        if pictures > most:
            raise RequestError(
                f"The request has {pictures} pictures; up to {most} are taken.", param="messages"
            )
        most = self.rules.limits.max_parts
        if count_parts(asked.messages) > most:
            raise RequestError(
                f"The request has more than {most} messages and parts.", param="messages"
            )
        self.check_texts([*texts_of(asked.messages), *map(json.dumps, asked.tools or ())])
        if asked.tools and not self._offers_tools:
            raise RequestError(
                f"The chat template of {self.rules.name!r} offers no tools. Leave them out.",
                param="tools",
            )
        return asked, self.choices.chosen(asked.defense)

    def check_texts(self, texts: Sequence[str]) -> None:
        """Refuse texts that are too long, before they are encoded in the thread that generates.

        Args:
            texts: All texts of a request.

        Raises:
            RequestError: they have too many characters.
            LengthError: they have far more tokens than the model was made for.
        """
        most = self.rules.limits.max_text
        if sum(map(len, texts)) > most:
            raise RequestError(f"The texts have more than {most} characters.", param="messages")
        self._lengths.check(texts)

    def _plain(self, role: str, text: str) -> str:
        tokens: ControlTokens = self.host.vlm.control_tokens
        return tokens.plain_turn(role, text)

    async def _pieces(
        self,
        events: AsyncIterator[Event],
        asked: ChatRequest,
        forms: Completions,
        note: Note,
    ) -> AsyncIterator[str]:
        """The chunks of a stream, as events of the server."""
        answers: dict[int, Generation] = {}
        sent = [""] * asked.choices
        try:
            for number in range(asked.choices):
                yield _event(forms.begun(number))
            async for number, what in events:
                if isinstance(what, str):
                    # With tools on offer, what is a call is known only at the end.
                    if not asked.tools:
                        sent[number] += what
                        yield _event(forms.piece(number, what))
                    continue
                answers[number] = what
                content = forms.content(what)
                if not content.startswith(sent[number]):
                    raise RequestError("The answer broke off.", status=500, kind="server_error")
                if rest := content[len(sent[number]) :]:
                    yield _event(forms.piece(number, rest))
                yield _event(forms.ended(number, what))
            whole = [answers[number] for number in range(asked.choices)]
            note.answered(whole)
            if asked.include_usage:
                yield _event(forms.used(whole))
            yield "data: [DONE]\n\n"
        except (RequestError, InputError) as error:
            yield _event(failure(error)[1])


class _Stream(StreamingResponse):
    """A stream of events; however it ends, nothing goes on being written."""

    def __init__(
        self, pieces: AsyncIterator[str], answering: Answering, headers: dict[str, str]
    ) -> None:
        headers = {"cache-control": "no-store", **headers}
        super().__init__(pieces, media_type="text/event-stream", headers=headers)
        self._answering = answering

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._answering.leave()


def _headers(defense: str, answers: Sequence[Generation]) -> dict[str, str]:
    """What a client or a proxy can read without the body.

    Args:
        defense: The defenses of the request.
        answers: Those that are there; any other has begun, and so no detector refused it.
    """
    refused = any(answer.refused for answer in answers)
    found = {"x-safesight-defense": defense, "x-safesight-refused": str(refused).lower()}
    if refused:
        decisions = [pair for answer in answers for pair in answer.decisions.items()]
        acted = dict.fromkeys(name for name, decision in decisions if decision["refuse"])
        found["x-safesight-detector"] = "+".join(acted)
    return found


def _late() -> RequestError:
    return RequestError(
        "The answer took too long. Ask for fewer tokens, or try again later.",
        status=504,
        kind="server_error",
        code="timeout",
    )


def _event(body: dict[str, Any]) -> str:
    return f"data: {json.dumps(body)}\n\n"


async def _after(first: Sequence[Event], rest: AsyncIterator[Event]) -> AsyncIterator[Event]:
    """All events, of which some were taken already."""
    for event in first:
        yield event
    async for event in rest:
        yield event


async def _limited(events: AsyncIterator[Event], until: float) -> AsyncIterator[Event]:
    """The events that come in time.

    Raises:
        RequestError: the next does not.
    """
    while True:
        try:
            async with _in_time(until):
                event = await anext(events)
        except StopAsyncIteration:
            return
        yield event


@asynccontextmanager
async def _in_time(until: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(max(until - time.monotonic(), 0)):
            yield
    except TimeoutError:
        raise _late() from None
