"""Where hooks act: in the thread that installed them, and in code that was compiled before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
from torch import Tensor

from safesight.activations import (
    add,
    capture,
    edit,
    record_calls,
    resid_post,
    resid_pre,
    silence_head,
)
from tests.activations.blocks import Cache, Decoder, hooks_of
from tests.house.source import sources

OTHERS, OURS = torch.full((3, 5, 3), 2.0), torch.ones(1, 2, 3)
ONE = torch.ones(3)

READERS: dict[str, Callable[[Decoder], AbstractContextManager[Any]]] = {
    "capture": lambda m: capture(m.layers, [resid_pre(1), resid_post(2)]),
    "record_calls": lambda m: record_calls(m.layers, 1),
}
EDITORS: dict[str, Callable[[Decoder], AbstractContextManager[Any]]] = {
    "edit": lambda m: edit(m.layers, {resid_pre(1): add(ONE), resid_post(2): add(ONE)}),
    "prefill": lambda m: edit(m.layers, {resid_post(2): add(ONE)}, prefill_only=True),
    "silence_head": lambda m: silence_head(m.layers[1].linear, head=0, heads=3),
}


def elsewhere(run: Callable[[], Tensor]) -> Tensor:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result()


@pytest.mark.parametrize("reader", READERS)
def test_readers_do_not_take_the_passes_of_another_thread(reader: str) -> None:
    model = Decoder()
    with READERS[reader](model) as expected:
        model(OURS, mask=torch.ones(1, 2))
    with READERS[reader](model) as found:
        elsewhere(lambda: model(OTHERS, mask=torch.ones(3, 5)))
        model(OURS, mask=torch.ones(1, 2))
        elsewhere(lambda: model(OTHERS, Cache()))
    assert repr(found) == repr(expected)
    assert found


@pytest.mark.parametrize("editor", EDITORS)
def test_edits_do_not_reach_the_passes_of_another_thread(editor: str) -> None:
    model = Decoder()
    plain = model(OTHERS)
    with EDITORS[editor](model):
        edited = model(OURS)
        assert torch.equal(elsewhere(lambda: model(OTHERS)), plain)
        assert torch.equal(model(OURS), edited)
    assert not torch.equal(edited, model(OURS))


def test_another_thread_does_not_change_what_counts_as_a_prefill() -> None:
    model, cache = Decoder(), Cache()
    with EDITORS["prefill"](model):
        model(OURS, cache)
        plain = elsewhere(lambda: model(OURS))
        assert torch.equal(model(OURS, cache), plain), "a decoding step, which is not edited"


def _forward(model: Decoder) -> Decoder:
    model.forward = torch.compile(model.forward, backend="eager")
    return model


def _itself(model: Decoder) -> Decoder:
    model.compile(backend="eager")
    return model


def _blocks(model: Decoder) -> Decoder:
    for block in model.layers:
        block.compile(backend="eager")
    return model


COMPILERS: dict[str, Callable[[Decoder], Any]] = {
    "forward": _forward,
    "compile()": _itself,
    "blocks": _blocks,
    "torch.compile": lambda model: torch.compile(model, backend="eager"),
}


@pytest.fixture
def _compiler() -> Iterator[None]:
    yield
    torch.compiler.reset()


@pytest.mark.usefixtures("_compiler")
@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("how", COMPILERS)
def test_compiled_code_is_read_and_edited(how: str, before: bool) -> None:
    model, twin = Decoder(), Decoder()
    compiled = COMPILERS[how](model)
    if before:
        compiled(OURS)
    for each in (*READERS, *EDITORS):
        context = {**READERS, **EDITORS}[each]
        with context(twin) as expected:
            wanted = twin(OURS)
        with context(model) as found:
            assert torch.equal(compiled(OURS), wanted), each
            assert repr(found) == repr(expected), each
        assert torch.equal(compiled(OURS), twin(OURS)), each
    assert hooks_of(model) == 0


@pytest.mark.usefixtures("_compiler")
def test_compiled_code_runs_compiled_again_after_the_last_hook() -> None:
    traced: list[Any] = []

    def backend(graph: Any, _: Any) -> Any:
        traced.append(graph)
        return graph.forward

    model = torch.compile(Decoder(), backend=backend)
    with READERS["capture"](model), READERS["capture"](model):
        model(OURS)
    assert not traced
    model(OURS)
    assert traced


def test_hooks_are_installed_in_one_place() -> None:
    """The testbed's recipe trains a model of its own, which nobody else runs; in an engine of
    vLLM, one thread runs the model, and hooks stay as long as it."""
    users = {source.module for source in sources() if "register_forward" in source.text}
    apart = ("safesight.testbed.", "safesight.vllm.")
    ours = {name for name in users if not name.startswith(apart)}
    assert ours == {"safesight.activations.hooks"}
