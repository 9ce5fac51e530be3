"""Verdicts without answers: the detectors' own pass over a request to another model."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import TYPE_CHECKING

from safesight.errors import InputError
from safesight.hosting.requests import Request
from safesight.hosting.settings import Settings
from safesight.server.answering import Answering
from safesight.server.guardrail import Judge, Kind, Verdict
from safesight.server.refusals import RequestError
from safesight.server.workers import TEXTS

if TYPE_CHECKING:
    from safesight.server.chat import Chat

__all__ = ["judge_of"]


def judge_of(chat: Chat) -> Judge:
    """A judge that shows texts and pictures to the detectors of a server.

    The detectors decide after the prefill. The first token, which comes from the same pass, is
    thrown away.
    """

    async def judge(texts: list[str], images: list[str], kind: Kind) -> Verdict:
        if kind != "request":
            raise InputError(
                "The detectors judge requests, not answers. Set mode: pre_call in the gateway."
            )
        limits = chat.rules.limits
        if len(images) > limits.max_pictures:
            raise InputError(
                f"It has {len(images)} pictures; up to {limits.max_pictures} are taken."
            )
        try:
            await TEXTS.run(chat.check_texts, texts)
            async with asyncio.timeout(limits.seconds):
                return await verdict(texts, images)
        except TimeoutError:
            raise InputError("The detectors took too long.") from None
        except RequestError as error:
            # Not an HTTP error: a gateway may let requests through when a guardrail has one.
            raise InputError(str(error)) from error

    async def verdict(texts: list[str], images: list[str]) -> Verdict:
        begin = time.monotonic()
        answering = Answering(chat.host, 1, chat.places)
        try:
            pictures = [await answering.picture(url, chat.rules.pictures) for url in images]
            shown = [{"type": "image", "image": picture} for picture in pictures]
            plain = chat.host.vlm.control_tokens.plain
            asked = await TEXTS.run(lambda: plain("\n".join(texts)))
            messages = [{"role": "user", "content": [*shown, {"type": "text", "text": asked}]}]
            arm = chat.choices.guard
            note = chat.record.of(f"guard-{uuid.uuid4().hex}", arm, messages, begin)
            answering.begin(Request(arm, Settings(max_new_tokens=1), messages), note.decided)
            answers = await answering.results()
        finally:
            answering.leave()
        note.answered(answers)
        return Verdict(refused=bool(answers[0].refused))

    return judge
