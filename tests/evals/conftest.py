"""The fake model as `safesight/fake`, and its benchmarks and defense in the registry."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from inspect_ai.model import _model

from safesight import registry
from safesight.evals import tasks
from safesight.hosting import hosts
from safesight.registry import Entry
from tests.evals import fake
from tests.evals.fake import FakeVLM


def know_the_fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the fakes into the registry, and their benchmarks among the tasks of Inspect."""
    known = registry._table
    extra: dict[str, dict[str, Entry]] = {
        "benchmark": {
            "pictures": Entry("tests.evals.fake:pictures", "Pictures."),
            "talks": Entry("tests.evals.fake:talks", "Conversations."),
            "words": Entry("tests.evals.fake:words", "Words."),
        },
        "defense": {
            "picky": Entry("tests.evals.fake:Picky", "Refuses some."),
            "seal": Entry("tests.evals.fake:Seal", "Stamps too."),
            "stamp": Entry("tests.evals.fake:Stamp", "Stamps."),
        },
    }

    def table(kind: registry.Kind) -> dict[str, Entry]:
        return {**known(kind), **extra.get(kind, {})}

    monkeypatch.setattr(registry, "_table", table)
    for name in extra["benchmark"]:
        tasks._register(name)


@pytest.fixture
def fake_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry knows the fakes too."""
    know_the_fakes(monkeypatch)
    fake.RENDERED.clear()


@pytest.fixture
def fakes(fake_names: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, FakeVLM]]:
    """Hosts by model name; every name loads a fake, another dtype another one."""
    loaded: dict[str, FakeVLM] = {}
    made: dict[tuple[str, str], hosts.Host] = {}

    def load(name: str, loading: str) -> hosts.Host:
        key, dtype = (name, loading), json.loads(loading).get("dtype")
        if key not in made:
            vlm = loaded.setdefault(name if dtype is None else f"{name} {dtype}", FakeVLM())
            if dtype is not None:
                vlm.identity = f"fake {dtype}"
            made[key] = hosts.Host(vlm)  # type: ignore[arg-type]
        return made[key]

    monkeypatch.setattr(hosts, "_load", load)
    monkeypatch.setattr(_model, "_models", {})  # Inspect keeps models for later evaluations
    yield loaded
    for host in made.values():
        host.batcher.close()
