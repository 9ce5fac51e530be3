"""Answers requests from any thread in batches, in one thread.

Knows nothing about models: a batch is a list of payloads passed to a function. Requests with
the same key may share a batch. A batch starts when it is full, or when no new request has
arrived for a moment. The oldest request is batched with those of similar size, so that little
of a batch is padding and no request waits forever.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

__all__ = ["Batcher"]

_CALM, _MOST_CALM = 8, 1024
"""How many full batches must succeed before larger ones are tried again, at first and at most."""

Payload = TypeVar("Payload")
Result = TypeVar("Result")
Found = TypeVar("Found")

_log = logging.getLogger("safesight")


@dataclass
class _Request(Generic[Payload, Result]):
    key: Hashable
    payload: Payload
    size: int
    future: Future[Result]
    since: float = field(default_factory=time.monotonic)


class Batcher(Generic[Payload, Result]):
    """Collects requests and runs them in batches, one batch at a time.

    Args:
        run: Takes a key and the payloads of one batch; returns for each, in order, its result
            or an error that concerns only this request.
        idle: Called in the same thread whenever nothing is waiting.
        max_batch: Maximum batch size; `shrink` lowers it for a while.
        quiet: Seconds without a new request after which a partial batch starts.
        patience: Seconds for which full batches of one key may keep another request waiting.

    Example:
        >>> batcher = Batcher(lambda key, words: [key + word for word in words], max_batch=2)
        >>> futures = [batcher.submit("a ", word, size=1) for word in ("cat", "dog", "owl")]
        >>> [future.result() for future in futures]
        ['a cat', 'a dog', 'a owl']
        >>> batcher.close()
    """

    def __init__(
        self,
        run: Callable[[Hashable, list[Payload]], Sequence[Result | Exception]],
        *,
        idle: Callable[[], None] = lambda: None,
        max_batch: int = 32,
        quiet: float = 0.05,
        patience: float = 60.0,
    ) -> None:
        self.max_batch = max_batch
        self.quiet, self.patience = quiet, patience
        self._limit, self._calm, self._needed = max_batch, 0, _CALM
        self.began: Callable[[int], None] = lambda size: None
        """Called with the size of each batch that starts."""
        self._run, self._idle = run, idle
        self._waiting: list[_Request[Payload, Result]] = []
        self._changed = threading.Condition()
        self._closed = False
        self._resting = True
        self._key: Hashable = None
        self._thread: threading.Thread | None = None

    @property
    def size(self) -> int:
        """Up to how many requests share a batch now."""
        return min(self._limit, self.max_batch)

    def shrink(self, size: int) -> None:
        """Run smaller batches; called by `run` if one was too large.

        After some full batches that succeed, they are doubled again, up to `max_batch`. Each time
        that turns out to be too much, it takes twice as many.

        Args:
            size: Up to how many requests share a batch from now on.
        """
        self._limit = max(1, min(size, self.size))

    @property
    def waiting(self) -> int:
        """The number of requests whose batch has not started."""
        return len(self._waiting)

    def submit(
        self, key: Hashable, payload: Payload, size: int, future: Future[Result] | None = None
    ) -> Future[Result]:
        """Request one result; the future holds it, or the error of its batch.

        Args:
            key: Requests with the same key may share a batch.
            payload: What `run` gets.
            size: Requests of similar size are batched.
            future: Where to put the result, by default a new one. `run` may settle it before its
                batch has ended; what it returns for this request is then ignored.
        """
        request = _Request(key, payload, size, Future() if future is None else future)
        with self._changed:
            if self._closed:
                raise RuntimeError("The batcher is closed.")
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="safesight", daemon=True)
                self._thread.start()
                # A thread that still computes when the interpreter ends would abort the process.
                atexit.register(self._leave)
            self._waiting.append(request)
            self._changed.notify_all()
        request.future.add_done_callback(lambda _: self._drop(request))
        return request.future

    def close(self) -> None:
        """Finish all waiting requests, then stop the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()
            atexit.unregister(self._leave)

    def cancel(self) -> None:
        """Cancel all waiting requests, and return once the running batch has ended."""
        with self._changed:
            dropped, self._waiting = self._waiting, []
            self._changed.notify_all()
        for request in dropped:
            request.future.cancel()
        with self._changed:
            self._changed.wait_for(lambda: self._resting)

    def _drop(self, request: _Request[Payload, Result]) -> None:
        """Keep nothing of a request that was canceled before its batch."""
        if request.future.cancelled():
            with self._changed:
                self._waiting = [each for each in self._waiting if each is not request]

    def _leave(self) -> None:
        self.cancel()
        self.close()

    def _serve(self) -> None:
        try:
            while self._serve_batch():
                pass
        finally:
            with self._changed:
                self._resting = True
                self._changed.notify_all()

    def _serve_batch(self) -> bool:
        """Answer one batch, or nothing if the requests were canceled; False at the end."""
        if not self._waiting:
            if isinstance(failure := _caught(self._idle), Exception):
                _log.error("The model could not be left as it was.", exc_info=failure)
            self._rest()
        with self._changed:
            if not self._waiting:
                return not self._closed
            self._key = self._next_key(self._key)
            self._wait_until_quiet(self._key)
            batch = self._take(self._key)
        if batch:
            before = self.size
            self.began(len(batch))
            whole = self._answer(self._key, batch)
            if self.size < before:
                self._calm, self._needed = 0, min(2 * self._needed, _MOST_CALM)
            elif whole and len(batch) >= before:
                self._grow()
        return True

    def _grow(self) -> None:
        """Try larger batches again, once enough full ones have succeeded."""
        self._calm += 1
        if self._calm >= self._needed and self._limit < self.max_batch:
            self._limit, self._calm = 2 * self._limit, 0

    def _rest(self) -> None:
        """Wait for a request, or for the end."""
        with self._changed:
            self._resting = True
            self._changed.notify_all()
            while not self._waiting and not self._closed:
                self._changed.wait()
            self._resting = False

    def _next_key(self, last: Hashable) -> Hashable:
        """The last key while it can fill a batch, to avoid a switch; else the oldest request's."""
        oldest = self._waiting[0]
        patient = time.monotonic() - oldest.since < self.patience
        alike = sum(request.key == last for request in self._waiting)
        return last if patient and alike >= self.size else oldest.key

    def _wait_until_quiet(self, key: Hashable) -> None:
        def count() -> int:
            return sum(request.key == key for request in self._waiting)

        deadline = time.monotonic() + self.quiet
        seen = count()
        while seen < self.size and not self._closed:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return
            self._changed.wait(remaining)
            if count() > seen:
                seen, deadline = count(), time.monotonic() + self.quiet

    def _take(self, key: Hashable) -> list[_Request[Payload, Result]]:
        """The oldest request with this key and those closest to it in size."""
        same = [request for request in self._waiting if request.key == key]
        nearest = sorted(same, key=lambda request: abs(request.size - same[0].size))
        batch = nearest[: self.size]
        taken = {id(request) for request in batch}
        self._waiting = [request for request in self._waiting if id(request) not in taken]
        return [request for request in batch if request.future.set_running_or_notify_cancel()]

    def _answer(self, key: Hashable, batch: list[_Request[Payload, Result]]) -> bool:
        """Run a batch; whether every request of it was answered."""
        found = _caught(lambda: self._run(key, [request.payload for request in batch]))
        # The caller waiting for a result gets the error instead.
        results = [found] * len(batch) if isinstance(found, Exception) else found
        whole = not any(isinstance(result, Exception) for result in results)
        for request, result in zip(batch, results, strict=True):
            if request.future.done():
                continue
            if isinstance(result, Exception):
                request.future.set_exception(result)
            else:
                request.future.set_result(result)
        return whole


def _caught(call: Callable[[], Found]) -> Found | Exception:
    """What a call returns or raises: nothing may end the thread, on which others wait."""
    try:
        return call()
    except Exception as error:
        return error
