"""The batcher: who shares a batch, who waits, and who hears of errors."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import Future, wait

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safesight.hosting.batching import Batcher


class Gate:
    """A run function that records batches and can be held closed."""

    def __init__(self) -> None:
        self.batches: list[tuple[object, list[object]]] = []
        self.open = threading.Event()
        self.started = threading.Event()

    def __call__(self, key: object, payloads: list[object]) -> list[object]:
        self.started.set()
        assert self.open.wait(10)
        self.batches.append((key, payloads))
        return [(key, payload) for payload in payloads]


@pytest.fixture
def gate() -> Gate:
    return Gate()


def held(gate: Gate, **options: object) -> tuple[Batcher, Future]:
    """A batcher whose thread is busy with one request until the gate opens."""
    batcher = Batcher(gate, **options)  # type: ignore[arg-type]
    first = batcher.submit("first", 0, 0)
    assert gate.started.wait(10)
    return batcher, first


def test_requests_of_a_key_share_batches_of_at_most_the_maximum(gate: Gate) -> None:
    batcher, first = held(gate, max_batch=4)
    futures = [batcher.submit("a", i, 1) for i in range(10)]
    gate.open.set()
    assert [f.result(10) for f in futures] == [("a", i) for i in range(10)]
    assert [len(batch) for key, batch in gate.batches[1:]] == [4, 4, 2]
    assert first.result() == ("first", 0)
    batcher.close()


def test_keys_are_never_mixed_and_a_full_batch_of_the_last_key_goes_first(gate: Gate) -> None:
    batcher, _ = held(gate, max_batch=2)
    futures = [batcher.submit(key, i, 1) for i, key in enumerate("abababab")]
    gate.open.set()
    wait(futures, 10)
    assert [key for key, _ in gate.batches[1:]] == ["a", "a", "b", "b"]
    assert [batch for _, batch in gate.batches[1:]] == [[0, 2], [4, 6], [1, 3], [5, 7]]
    batcher.close()


def test_similar_sizes_go_together_around_the_oldest(gate: Gate) -> None:
    batcher, _ = held(gate, max_batch=3)
    sizes = [10, 100, 11, 101, 9, 99]
    futures = [batcher.submit("a", size, size) for size in sizes]
    gate.open.set()
    wait(futures, 10)
    assert [sorted(batch) for _, batch in gate.batches[1:]] == [[9, 10, 11], [99, 100, 101]]
    batcher.close()


def test_nobody_waits_for_ever_however_odd_the_size(gate: Gate) -> None:
    batcher, _ = held(gate, max_batch=2)
    odd = batcher.submit("a", "odd", 10_000)
    others = [batcher.submit("a", i, 1) for i in range(6)]
    gate.open.set()
    wait([odd, *others], 10)
    assert "odd" in gate.batches[1][1]
    batcher.close()


def test_a_batch_that_is_not_full_starts_when_nothing_more_comes() -> None:
    batcher: Batcher[int, int] = Batcher(lambda key, ps: ps, max_batch=100, quiet=0.02)
    start = time.monotonic()
    assert batcher.submit("a", 7, 1).result(10) == 7
    assert 0.015 <= time.monotonic() - start < 5
    batcher.close()


def test_a_failed_batch_tells_all_its_requests_and_the_next_one_runs() -> None:
    def run(key: object, payloads: list[int]) -> list[int]:
        if key == "bad":
            raise ValueError("no")
        return payloads

    batcher: Batcher[int, int] = Batcher(run, quiet=0.01)
    bad = [batcher.submit("bad", i, 1) for i in range(3)]
    for future in bad:
        with pytest.raises(ValueError, match="no"):
            future.result(10)
    assert batcher.submit("good", 1, 1).result(10) == 1
    batcher.close()


def test_an_error_may_be_the_result_of_one_request_only() -> None:
    batcher: Batcher[int, int] = Batcher(
        lambda key, ps: [ValueError(str(p)) if p == 1 else p for p in ps], quiet=0.01
    )
    good, bad = batcher.submit("a", 0, 1), batcher.submit("a", 1, 1)
    assert good.result(10) == 0
    with pytest.raises(ValueError, match="1"):
        bad.result(10)
    batcher.close()


def test_batches_that_were_shrunk_grow_again_and_more_slowly_each_time() -> None:
    """Only full batches that succeed say that more may fit."""
    sizes: list[int] = []
    fits = [4]

    def run(key: object, payloads: list[int]) -> list[int | Exception]:
        sizes.append(len(payloads))
        if len(payloads) > fits[0]:
            batcher.shrink(len(payloads) // 2)
        return [ValueError() if key == "bad" else each for each in payloads]

    batcher: Batcher[int, int] = Batcher(run, max_batch=8, quiet=0.05)

    def tried(key: str, number: int) -> int:
        wait([batcher.submit(key, i, 1) for i in range(number)], 10)
        return batcher.size

    assert tried("a", 8) == 4
    assert tried("bad", 4 * 40) == 4
    for _ in range(5):
        assert tried("a", 3) == 4
    assert tried("a", 4 * 15) == 4
    assert tried("a", 4) == 8
    assert tried("a", 8) == 4
    assert tried("a", 4 * 31) == 4
    fits[0] = 8
    assert tried("a", 4) == 8
    assert tried("a", 8 * 40) == 8
    assert max(sizes) == 8
    batcher.max_batch = 2
    assert tried("a", 2) == 2
    batcher.close()


def test_what_was_cancelled_is_not_run(gate: Gate) -> None:
    batcher, _ = held(gate)
    kept, dropped = batcher.submit("a", "kept", 1), batcher.submit("a", "dropped", 1)
    assert dropped.cancel()
    gate.open.set()
    assert kept.result(10) == ("a", "kept")
    assert [batch for _, batch in gate.batches[1:]] == [["kept"]]
    batcher.close()


def test_idle_is_called_in_the_same_thread_when_nothing_waits() -> None:
    threads: list[int] = []
    idle = threading.Event()

    def on_idle() -> None:
        threads.append(threading.get_ident())
        idle.set()

    def run(key: object, payloads: list[int]) -> list[int]:
        idle.clear()
        return [threading.get_ident() for _ in payloads]

    batcher: Batcher[int, int] = Batcher(run, idle=on_idle, quiet=0.01)
    answered = batcher.submit("a", 1, 1).result(10)
    assert idle.wait(10)
    assert threads[-1] == answered != threading.get_ident()
    batcher.close()


def test_closing_answers_what_waits_and_takes_nothing_more(gate: Gate) -> None:
    batcher, _ = held(gate)
    last = batcher.submit("a", 1, 1)
    gate.open.set()
    batcher.close()
    assert last.result(0) == ("a", 1)
    with pytest.raises(RuntimeError, match="closed"):
        batcher.submit("a", 2, 1)


@settings(max_examples=20, deadline=None)
@given(
    requests=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 50)), max_size=40),
    max_batch=st.integers(1, 9),
)
def test_everyone_gets_his_own_result(requests: list[tuple[str, int]], max_batch: int) -> None:
    sizes: list[int] = []

    def run(key: object, payloads: list[int]) -> list[tuple[object, int]]:
        sizes.append(len(payloads))
        return [(key, payload) for payload in payloads]

    batcher: Batcher[int, tuple[object, int]] = Batcher(run, max_batch=max_batch, quiet=0.001)
    futures = [batcher.submit(key, size, size) for key, size in requests]
    assert [future.result(10) for future in futures] == requests
    assert max(sizes, default=1) <= max_batch
    batcher.close()


def test_canceling_drops_what_waits_and_returns_when_the_batch_has_ended(gate: Gate) -> None:
    idle = threading.Event()
    batcher, first = held(gate, idle=idle.set, max_batch=1)
    idle.clear()
    waiting = [batcher.submit("a", i, 1) for i in range(3)]
    opener = threading.Timer(0.2, gate.open.set)
    opener.start()
    batcher.cancel()
    assert first.done()
    assert idle.is_set()
    assert [future.cancelled() for future in waiting] == [True] * 3
    assert len(gate.batches) == 1
    again = batcher.submit("a", 7, 1)  # it is still open
    assert again.result(10) == ("a", 7)
    batcher.close()
    batcher.cancel()


def test_a_process_ends_cleanly_while_a_batch_runs() -> None:
    """A thread that computes when the interpreter ends would abort the whole process."""
    code = """
import time, torch
from safesight.hosting.batching import Batcher
big = torch.rand(400, 400)
def run(key, payloads):
    end = time.monotonic() + 2
    while time.monotonic() < end:
        big @ big
    return payloads
batcher = Batcher(run)
batcher.submit("a", 1, 1), batcher.submit("b", 2, 1)
time.sleep(0.5)
raise SystemExit(3)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=300)
    assert (ended.returncode, ended.stderr) == (3, b"")
