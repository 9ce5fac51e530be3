"""A protected model in several threads: who sees what, and when defenses may come and go."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from safesight.defenses import AnyDefense, protect, protection, unprotect
from safesight.defenses.none import NoDefense
from safesight.errors import InputError, ModelError
from safesight.models import VLM
from tests import tiny
from tests.contracts.defense_helpers import (
    CLASSES,
    answers,
    build,
    fingerprint,
    fitted,
    prompts,
    trimmed,
)
from tests.defenses.fakes import FakeDetector, FakeEdit, FakeWeights


@pytest.fixture
def vlm() -> Iterator[VLM]:
    vlm = tiny.vlm("llava")
    before = fingerprint(vlm.model)
    yield vlm
    unprotect(vlm)
    assert fingerprint(vlm.model) == before


@contextmanager
def calling(*work: Callable[[], Any]) -> Iterator[None]:
    """Other threads that do this again and again."""
    stop = threading.Event()

    def repeat(each: Callable[[], Any]) -> None:
        while not stop.is_set():
            each()

    with ThreadPoolExecutor(len(work)) as pool:
        running = [pool.submit(repeat, each) for each in work]
        try:
            yield
        finally:
            stop.set()
    for each in running:
        each.result()


INSIDE = [name for name in CLASSES if CLASSES[name].kind in ("detector", "activation")]


@pytest.mark.parametrize("name", INSIDE)
def test_other_threads_neither_mislead_a_defense_nor_feel_it(vlm: VLM, name: str) -> None:
    """While it generates: a plain forward, and the class's own generate, of other prompts."""
    mine = vlm.encode(prompts())
    other = dict(vlm.encode([tiny.ask("a much longer prompt, of another length", tiny.picture(9))]))
    length = mine["input_ids"].shape[1]

    def forward() -> Tensor:
        with torch.no_grad():
            return vlm.model(**other).logits

    def plainly() -> Tensor:
        return type(vlm.model).generate(vlm.model, **other, max_new_tokens=2, do_sample=False)

    wanted = forward(), plainly()
    wrong: list[str] = []

    def looking(run: Callable[[], Tensor], expected: Tensor) -> Callable[[], None]:
        return lambda: None if torch.equal(run(), expected) else wrong.append("felt it")

    with build(name).apply(vlm, fitted(name, "llava")):
        alone = vlm.generate(mine, max_new_tokens=5)
        with calling(looking(forward, wanted[0]), looking(plainly, wanted[1])):
            for _ in range(6):
                beside = vlm.generate(mine, max_new_tokens=5)
                assert [trimmed(vlm, row[length:]) for row in beside] == [
                    trimmed(vlm, row[length:]) for row in alone
                ]
    assert not wrong


class Paused:
    """A generation in a thread of its own that stands still after its first token."""

    def __init__(self, vlm: VLM, pool: ThreadPoolExecutor) -> None:
        self.begun, self.go = threading.Event(), threading.Event()
        self.future: Future[Any] = pool.submit(answers, vlm, prompts(), stopping_criteria=[self])

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        self.begun.set()
        self.go.wait(60)
        return torch.zeros(len(input_ids), dtype=torch.bool)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


@pytest.mark.parametrize("defense", [FakeWeights, FakeEdit, FakeDetector])
@pytest.mark.parametrize("change", ["unprotect", "leave", "attach"])
def test_a_change_of_defenses_waits_for_a_running_answer(
    vlm: VLM, pool: ThreadPoolExecutor, defense: type[AnyDefense], change: str
) -> None:
    block = protect(vlm, defense())
    block.__class__.__enter__(block)
    wanted = answers(vlm, prompts())
    leave = protect(vlm, "none").__class__.__exit__
    waiting: dict[str, Callable[[], Any]] = {
        "unprotect": lambda: unprotect(vlm),
        "leave": lambda: leave(vlm.model, None, None, None),
        "attach": lambda: protect(vlm, "safety_prompt"),
    }
    running = Paused(vlm, pool)
    assert running.begun.wait(60)
    changed = pool.submit(waiting[change])
    time.sleep(0.05)
    assert not changed.done()
    running.go.set()
    assert running.future.result() == wanted
    changed.result()


def test_a_call_that_waited_for_a_defense_now_removed_is_not_answered(
    vlm: VLM, pool: ThreadPoolExecutor
) -> None:
    protect(vlm, FakeDetector())
    first = Paused(vlm, pool)
    assert first.begun.wait(60)
    asked = threading.Event()
    handle = protection(vlm.model)
    monitored = handle._turn

    class Turn:
        def __enter__(self) -> None:
            asked.set()
            monitored.acquire()

        def __exit__(self, *_: Any) -> None:
            monitored.release()

    handle._turn = Turn()
    second = pool.submit(answers, vlm, prompts())
    assert asked.wait(60)
    # As if the removal had come to its turn first.
    handle._entries.clear()
    first.go.set()
    with pytest.raises(ModelError, match="fake_detector was removed while this call waited"):
        second.result()
    handle._turn = monitored
    handle._give_back()


def test_nothing_is_removed_attached_or_called_from_inside_a_call(vlm: VLM) -> None:
    said: list[str] = []

    def inside(input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        for what in (
            lambda: unprotect(vlm),
            lambda: protect(vlm, "safety_prompt"),
            lambda: vlm.answer(prompts()[:1]),
        ):
            with pytest.raises(ModelError) as error:
                what()
            said.append(str(error.value))
        return torch.ones(len(input_ids), dtype=torch.bool)

    protect(vlm, FakeDetector())
    answers(vlm, prompts(), stopping_criteria=[inside])
    for text, words in zip(said, ("removed", "attached", "twice"), strict=False):
        assert words in text
    assert protection(vlm.model).names == ["fake_detector"]


def test_each_thread_reads_the_decisions_on_its_own_call(
    vlm: VLM, pool: ThreadPoolExecutor
) -> None:
    protect(vlm, FakeDetector(0))
    met = threading.Barrier(2)

    def ask(count: int) -> int:
        answers(vlm, prompts()[:count])
        met.wait(60)
        return len(protection(vlm.model).last.refused)

    assert list(pool.map(ask, [1, 3])) == [1, 3]
    assert len(protection(vlm.model).last.refused) in (1, 3), "any, as this thread made no call"
    with pytest.raises(InputError):
        answers(vlm, prompts(), num_beams=2)
    assert protection(vlm.model).last is None


def test_two_threads_that_protect_at_once_share_one_protection(vlm: VLM) -> None:
    names = ("safety_prompt", "adashield", "none", "look_carefully")
    for _ in range(20):
        with ThreadPoolExecutor(len(names)) as pool:
            calls = [pool.submit(protect, vlm, name) for name in names]
        failed = [call.exception() for call in calls if call.exception() is not None]
        assert all("at the same moment" in str(error) for error in failed)
        assert len(protection(vlm.model).names) == len(names) - len(failed)
        unprotect(vlm)


class Streamer:
    def __init__(self) -> None:
        self.ended = 0

    def put(self, value: Tensor) -> None:
        pass

    def end(self) -> None:
        self.ended += 1


@pytest.mark.parametrize(
    "settings",
    [
        {"num_beams": 2},
        {"max_new_tokens": "three"},
        {"logits_processor": [lambda ids, scores: 1 / 0]},
    ],
)
@pytest.mark.parametrize("defense", [FakeDetector, FakeEdit, NoDefense])
def test_a_streamer_is_ended_whatever_stops_a_call(
    vlm: VLM, settings: dict[str, Any], defense: type[AnyDefense]
) -> None:
    streamer = Streamer()
    protect(vlm, defense())
    with pytest.raises(Exception):  # noqa: B017, PT011 - of whatever layer
        vlm.generate(vlm.encode(prompts()[:1]), streamer=streamer, **settings)
    assert streamer.ended == 1
