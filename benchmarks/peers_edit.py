"""Adding a vector after one block: with safesight, steering-vectors and nnsight, and not at all.

Not a benchmark; a row of `peers.py` and of `gpu.py`. One forward pass over a text, each time with
everything the library needs to change it: hooks set and removed, or a trace. All libraries run in
one process on one model, and what they make of it is compared before anything is timed.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from peers_rounds import Arms, Entry, Pair, Row, Unavailable
from peers_worker import Worker, answering, python_of, work
from torch import Tensor

__all__ = ["ROW", "edit_arms"]

REPEATS = {"bundled": 20, "wide": 3}
TOKENS = 256
STRENGTH = 2.0
BARE = "bare forward"
HOW = (
    "Make an environment with safesight, and install into it: pip install --no-deps nnsight "
    "steering-vectors greenlet websocket-client zstandard cloudpickle"
)


def edit_arms(model: Any, layers: Any, blocks: str, device: str, repeats: int) -> Arms:
    """The arms on one model.

    Args:
        model: Of transformers.
        layers: Its decoder blocks.
        blocks: Where they are, such as "model.language_model.layers".
        device: Where the model is.
        repeats: Number of passes per measurement.

    Raises:
        Unavailable: the libraries disagree, so that times say nothing.
    """
    ids = torch.arange(TOKENS)[None] % 500 + 10
    inputs = {"input_ids": ids.to(device), "attention_mask": torch.ones_like(ids).to(device)}
    layer, width = len(layers) // 2, model.config.get_text_config().hidden_size
    vector = torch.randn(width, generator=torch.Generator().manual_seed(0)).to(device)
    ways = {
        BARE: lambda: model(**inputs, use_cache=False).logits,
        "safesight": _ours(model, layers, inputs, layer, vector),
        "steering-vectors": _steering(model, blocks, inputs, layer, vector),
        "nnsight": _nnsight(model, blocks, inputs, layer, vector),
    }
    _compare({name: way() for name, way in ways.items()})
    return {name: _timed(way, repeats) for name, way in ways.items()}


def _compare(made: dict[str, Tensor]) -> None:
    bare, ours = made.pop(BARE), made.pop("safesight")
    scale = ours.float().abs().max()
    if (ours - bare).abs().max() < 1e-3 * scale:
        raise Unavailable("The vector changes nothing, so there is nothing to compare.")
    for name, theirs in made.items():
        if (ours - theirs).abs().max() > 1e-2 * scale:
            raise Unavailable(f"{name} changes the model otherwise than safesight does.")


def _timed(way: Callable[[], Tensor], repeats: int) -> Callable[[], Entry]:
    def measure() -> Entry:
        with torch.no_grad():
            now = _now()
            for _ in range(repeats):
                way()
            return {"seconds": _now() - now, "n": repeats}

    return measure


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def _ours(
    model: Any, layers: Any, inputs: dict[str, Tensor], layer: int, vector: Tensor
) -> Callable[[], Tensor]:
    from safesight.activations import add, edit, resid_post

    edits = {resid_post(layer): add(vector, STRENGTH)}

    def forward() -> Tensor:
        with edit(layers, edits):
            return model(**inputs, use_cache=False).logits

    return forward


def _steering(
    model: Any, blocks: str, inputs: dict[str, Tensor], layer: int, vector: Tensor
) -> Callable[[], Tensor]:
    from steering_vectors import SteeringVector

    steering = SteeringVector({layer: vector})
    where: Any = {"decoder_block": f"{blocks}.{{num}}"}

    def forward() -> Tensor:
        with steering.apply(model, layer_config=where, multiplier=STRENGTH):
            return model(**inputs, use_cache=False).logits

    return forward


def _nnsight(
    model: Any, blocks: str, inputs: dict[str, Tensor], layer: int, vector: Tensor
) -> Callable[[], Tensor]:
    from nnsight import NNsight

    traced: Any = NNsight(model)
    block: Any = traced
    for part in blocks.split("."):
        block = getattr(block, part)
    block = block[layer]

    def forward() -> Tensor:
        with traced.trace(**inputs, use_cache=False):
            block.output[:] += STRENGTH * vector
            logits = traced.output.logits.save()
        return logits

    return forward


def _made(told: dict[str, Any]) -> Arms:
    """In the worker: the arms on a model that is loaded as safesight loads it."""
    try:
        import nnsight  # noqa: F401
        import steering_vectors  # noqa: F401
    except ImportError as error:
        raise Unavailable(f"{error}. {HOW}.") from error
    from safesight import VLM

    torch.manual_seed(0)
    vlm = VLM.load(told["model"])
    blocks = next(name for name, part in vlm.model.named_modules() if part is vlm.layers)
    with torch.no_grad():
        return edit_arms(vlm.model, vlm.layers, blocks, str(vlm.device), told["repeats"])


@contextmanager
def _started(arguments: Any, case: str) -> Iterator[Arms]:
    from provider_overhead import large_model

    python = python_of(arguments.edit_python, "steering", HOW)
    with ExitStack() as stack:
        model = "testbed"
        if case == "wide":
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            model = large_model(Path(folder))
        told = {"model": model, "repeats": 1 if arguments.small else REPEATS[case]}
        yield stack.enter_context(answering(lambda: Worker(python, __file__, told)))


def _pairs(case: str, arms: Any) -> list[Pair]:
    peers = ("steering-vectors", "nnsight")
    return [
        *(Pair("safesight", peer, most=1.0) for peer in peers),
        *(Pair(name, BARE) for name in ("safesight", *peers)),
    ]


ROW = Row("adding a vector", tuple(REPEATS), _started, _pairs, rounds=9)

if __name__ == "__main__":
    work(_made)
