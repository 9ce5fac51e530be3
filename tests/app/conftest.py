"""One asker on the bundled model for all tests of the page."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from safesight.app.asking import Asker
from safesight.app.serving import server
from safesight.hosting.arms import build_arm
from safesight.hosting.hosts import Host, host
from safesight.hosting.ports import address_of, listening

ARMS = ("none", "sasa", "rai", "safety_prompt", "safety_prompt+sasa")


@pytest.fixture(scope="session")
def served() -> Host:
    return host("testbed")


@pytest.fixture(scope="session")
def asker(served: Host) -> Asker:
    arms = {name: build_arm(served.vlm, name) for name in ARMS}
    return Asker(served, arms, max_new_tokens=24, references=6)


@contextmanager
def online(asker: Asker, *, password: str | None = None) -> Iterator[str]:
    """The page on a free port of this machine; yields its address."""
    with (
        listening("127.0.0.1", 0) as door,
        server(asker, ["sasa", "rai"], local=True, password=password) as serving,
    ):
        thread = threading.Thread(target=serving.run, args=([door],))
        thread.start()
        try:
            yield address_of(door)
        finally:
            serving.should_exit = True
            thread.join(30)


@pytest.fixture(scope="session")
def site(asker: Asker) -> Iterator[str]:
    with online(asker) as address:
        yield address
