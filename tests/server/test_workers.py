"""Threads beside the event loop: there are only so many, and what may take long runs in them."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from typing import Any

import pytest

from safesight.models.control_tokens import ControlTokens
from safesight.server import chat, conversation, guardrail, pictures
from safesight.server.workers import Workers
from tests.server.serving import Serving, url
from tests.tiny import picture


class Slow:
    """A function that waits, and counts who calls it."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.running = self.most = self.calls = 0
        self._count = threading.Lock()

    def __call__(self, *_: object) -> None:
        with self._count:
            self.calls += 1
            self.running += 1
            self.most = max(self.most, self.running)
        try:
            assert self.open.wait(60)
        finally:
            with self._count:
                self.running -= 1


class Held:
    """Something large."""


def test_callers_who_leave_pile_up_neither_threads_nor_memory() -> None:
    slow, workers = Slow(), Workers("test", 2)

    async def leaving() -> None:
        for _ in range(3):
            given = [Held() for _ in range(5)]
            seen = [weakref.ref(each) for each in given]
            waiting = [asyncio.ensure_future(workers.run(slow, each)) for each in given]
            await asyncio.sleep(0.05)
            for each in waiting:
                each.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            del given, waiting, each
            await asyncio.sleep(0)
            gc.collect()
            assert sum(each() is not None for each in seen) <= 2, "those that run"
        assert slow.calls == 2
        slow.open.set()
        await workers.run(slow)

    asyncio.run(leaving())
    assert slow.most == 2
    assert slow.calls == 3, "what had not begun never does"


def test_pictures_of_clients_that_left_are_decoded_by_two_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slow = Slow()
    monkeypatch.setattr(pictures, "decode", slow)

    async def leaving() -> None:
        for _ in range(3):
            waiting = [
                asyncio.ensure_future(pictures.picture_of(url(picture(0)), pictures.PictureRules()))
                for _ in range(5)
            ]
            await asyncio.sleep(0.05)
            for each in waiting:
                each.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        slow.open.set()

    asyncio.run(leaving())
    assert slow.most == 2


def test_nothing_that_may_take_long_runs_in_the_event_loop(
    served: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: dict[str, set[str]] = {}

    def watch(place: Any, name: str) -> None:
        inner = getattr(place, name)

        def noted(*args: Any, **kwargs: Any) -> Any:
            names.setdefault(name, set()).add(threading.current_thread().name.rpartition("_")[0])
            return inner(*args, **kwargs)

        monkeypatch.setattr(place, name, noted)

    watch(pictures, "decode")
    watch(pictures, "from_data_uri")
    watch(conversation, "_call")
    watch(ControlTokens, "plain_turn")
    watch(chat, "read_json")
    watch(guardrail, "read_json")
    watch(guardrail, "_arguments")
    shown = {"type": "image_url", "image_url": {"url": url(picture(0))}}
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    turns = [
        {"role": "user", "content": [shown, {"type": "text", "text": "what is it?"}]},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "a", "content": "a cup"},
    ]
    assert served.ask(turns, max_tokens=1).choices
    pool = {"safesight-pictures"}
    assert names.pop("decode") == names.pop("from_data_uri") == pool
    watch(ControlTokens, "plain")
    body = {"input_type": "request", "texts": ["what is a cup?"], "tool_calls": [call]}
    assert served.post(body, guardrail.PATH).json() == {"action": "NONE"}
    assert names.keys() == {"_call", "plain_turn", "read_json", "_arguments", "plain"}
    assert set.union(*names.values()) == {"safesight-texts"}
