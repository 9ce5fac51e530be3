"""Verdicts without answers: the detectors' own pass over a request to another model."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import TYPE_CHECKING

from safesight.errors import InputError
from safesight.hosting.requests import Generation, Request
from safesight.hosting.settings import Settings
from safesight.server.answering import Answering
from safesight.server.guardrail import Judge, Kind, Verdict
from safesight.server.pictures import picture_of
from safesight.server.refusals import RequestError

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
        begin, limits = time.monotonic(), chat.rules.limits
        if len(images) > limits.max_pictures:
            raise InputError(
                f"It has {len(images)} pictures; up to {limits.max_pictures} are taken."
            )
        pictures = [await picture_of(url, chat.rules.pictures) for url in images]
        shown = [{"type": "image", "image": picture} for picture in pictures]
        asked = chat.host.vlm.control_tokens.plain("\n".join(texts))
        messages = [{"role": "user", "content": [*shown, {"type": "text", "text": asked}]}]
        arm = chat.choices.guard
        note = chat.record.of(f"guard-{uuid.uuid4().hex}", arm, messages, begin)
        answer = await _judged(chat, Request(arm, Settings(max_new_tokens=1), messages))
        note.answered([answer])
        return Verdict(refused=bool(answer.refused))

    return judge


async def _judged(chat: Chat, asked: Request) -> Generation:
    """The detectors' decision; raises only what a gateway takes for a block.

    Raises:
        InputError: there is no decision.
    """
    try:
        answering = Answering(chat.host, asked, 1, chat.places)
    except RequestError as error:
        raise InputError(str(error)) from error
    try:
        async with asyncio.timeout(chat.rules.limits.seconds):
            return (await answering.results())[0]
    except TimeoutError:
        raise InputError("The detectors took too long.") from None
    except RequestError as error:
        raise InputError(str(error)) from error
    finally:
        answering.leave()
