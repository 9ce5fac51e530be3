"""The answers to one request while a host writes them, for a coroutine that passes them on.

The host calls from its own thread; everything here reaches the event loop through one queue. When
the coroutine stops waiting, for whatever reason, `leave` frees the places in the batch.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from safesight.errors import InputError
from safesight.hosting.requests import Generation, Request
from safesight.hosting.streams import Caller
from safesight.server.pictures import PictureRules, picture_of
from safesight.server.refusals import RequestError

if TYPE_CHECKING:
    from PIL import Image

    from safesight.hosting.hosts import Host

__all__ = ["Answering", "Event", "Places"]

_log = logging.getLogger("safesight")

Event = tuple[int, "str | Generation"]
"""The number of a choice, and a piece of its text or, at the end, the whole answer."""


class Places:
    """How many answers may be waited for at the same time, and how large their pictures may be.

    A small file may be a large picture, so a limit on bodies does not limit the memory.

    Args:
        most: The number of places.
        most_pixels: Maximum size of all pictures together, in pixels.

    Example:
        >>> places = Places(1)
        >>> places.take(1)
        >>> places.taken
        1
    """

    def __init__(self, most: int, most_pixels: int = 2**63) -> None:
        self.most, self.taken = most, 0
        self.most_pixels, self.pixels = most_pixels, 0
        self.waiting: set[Answering] = set()
        """The requests that have places."""
        self._closed = False

    def take(self, number: int) -> None:
        """Take places; each is given back with `give_back`.

        Raises:
            RequestError: there are not so many left, or none any more.
        """
        if self._closed:
            raise _closing()
        if self.taken + number > self.most:
            raise _busy(f"{self.taken} answers")
        self.taken += number

    def hold(self, pixels: int) -> None:
        """Count a picture; anyone who holds it subtracts it from `pixels` afterwards.

        Raises:
            RequestError: it is too much.
        """
        if self.pixels + pixels > self.most_pixels:
            raise _busy("large pictures")
        self.pixels += pixels

    def give_back(self) -> None:
        """Give back one place."""
        self.taken -= 1

    def close(self) -> None:
        """Give no more places, and break off what is waited for; call it in the event loop."""
        self._closed = True
        for each in tuple(self.waiting):
            each.break_off()


class Answering:
    """The choices of one request. Make it in the event loop, and call `leave` in the end.

    Args:
        host: Who answers.
        choices: How many answers.
        places: Where each choice takes a place, from now until its answer has ended.

    Raises:
        RequestError: no place is left.
    """

    def __init__(self, host: Host, choices: int, places: Places) -> None:
        places.take(choices)
        places.waiting.add(self)
        self._host, self._places, self._pixels = host, places, 0
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[tuple[int, Any]] = asyncio.Queue()
        self._callers = [Caller(partial(self._put, number)) for number in range(choices)]
        self._futures: list[Future[Generation]] = [Future() for _ in range(choices)]
        for number, future in enumerate(self._futures):
            future.add_done_callback(lambda _: self._call(places.give_back))
            future.add_done_callback(partial(self._call, self._ended, number))
        self._decided: Callable[[int, Generation], None] = lambda number, answer: None

    async def picture(self, url: str, rules: PictureRules) -> Image.Image:
        """A picture of the request, which counts as held until `leave`.

        Raises:
            InputError: as for `picture_of`.
            RequestError: this request, or all together, hold too many pixels.
        """
        found = await picture_of(url, rules)
        # Each choice is a row of its own, for which the picture is prepared again.
        pixels = found.width * found.height * len(self._futures)
        if self._pixels + pixels > self._places.most_pixels:
            raise RequestError(
                f"The pictures are too large for n = {len(self._futures)}. Send smaller ones, or "
                "ask for fewer answers.",
                param="n",
            )
        self._places.hold(pixels)
        self._pixels += pixels
        return found

    def begin(self, asked: Request, decided: Callable[[int, Generation], None]) -> None:
        """Ask the host.

        Args:
            asked: The request of the first choice; the seeds of the others count up from its own.
            decided: Called with the number of each choice that ends, and its answer, even if
                nobody waits for it any more.
        """
        self._decided = decided
        seed = asked.settings.seed
        for number, (caller, future) in enumerate(zip(self._callers, self._futures, strict=True)):
            settings = replace(asked.settings, seed=None if seed is None else seed + number)
            self._host.request(replace(asked, settings=settings, caller=caller, future=future))

    async def events(self) -> AsyncIterator[Event]:
        """Pieces and whole answers as they come, until every choice has ended.

        Raises:
            InputError: a prompt that the model or a defense cannot take.
            RequestError: anything else that kept a choice from being answered.
        """
        waiting = len(self._futures)
        while waiting:
            number, what = await self._queue.get()
            if isinstance(what, Future):
                waiting -= 1
                what = _result(what)
            elif isinstance(what, RequestError):
                raise what
            yield number, what

    async def results(self) -> Sequence[Generation]:
        """All answers, when the last has ended."""
        found: dict[int, Generation] = {}
        async for number, what in self.events():
            if isinstance(what, Generation):
                found[number] = what
        return [found[number] for number in range(len(self._futures))]

    def break_off(self) -> None:
        """Tell anyone who waits for the answers that there will be none; call it in the loop."""
        self._queue.put_nowait((0, _closing()))

    def leave(self) -> None:
        """Stop waiting: answers that are waited for are dropped, running ones end."""
        self._places.waiting.discard(self)
        self._places.pixels -= self._pixels
        self._pixels = 0
        for caller, future in zip(self._callers, self._futures, strict=True):
            caller.leave()
            future.cancel()

    def _put(self, number: int, what: Any) -> None:
        self._call(self._queue.put_nowait, (number, what))

    def _ended(self, number: int, future: Future[Generation]) -> None:
        self._queue.put_nowait((number, future))
        if not future.cancelled() and future.exception() is None:
            self._decided(number, future.result())

    def _call(self, function: Any, *args: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:  # the loop has been closed: nobody is there to hear it
            self.leave()


def _busy(what: str) -> RequestError:
    return RequestError(
        f"The server is busy with {what}. Try again later.",
        status=429,
        kind="rate_limit_error",
        code="server_busy",
    )


def _closing() -> RequestError:
    return RequestError("The server is shutting down.", status=503, kind="server_error")


def _result(future: Future[Generation]) -> Generation:
    """The answer, or an error that may be shown to the client."""
    if future.cancelled():
        raise _closing()
    error = future.exception()
    if error is None:
        return future.result()
    if isinstance(error, InputError):
        raise error
    _log.error("A request could not be answered: %s", error, exc_info=error)
    raise RequestError(
        "The model could not answer this request.", status=500, kind="server_error"
    ) from error
