"""A step of NPO: ours, that of open-unlearning, and the passes that any of them needs.

Not a benchmark; a row of `peers.py` and of `gpu.py`. All train the same parameters of one model
(those of its decoder, in full) with AdamW, on the same batches of text, and with the same loss:
the sum over tokens, and cross-entropy on the rows to retain. Its value is compared before
anything is timed.

open-unlearning's loss is its own code, read from a checkout and run under this version of
`transformers`; `main` at 2025-10 asks for an older one, for parts that are not used here. Ours
looks up what the model said before training once it has seen a row, as it does from the second
epoch on; `first epoch` does not. open-unlearning runs a copy of the model for that in every step.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, TypedDict

import torch
from peers_rounds import Arms, Entry, Pair, Row, Unavailable
from peers_worker import Worker, answering, work
from torch import Tensor, nn

__all__ = ["ROW", "npo_arms"]

BARE = "bare forward and backward"
OURS, FIRST, THEIRS = "safesight", "safesight, first epoch", "open-unlearning"
BATCH = {"bundled": 16, "wide": 4}
STEPS = {"bundled": 4, "wide": 1}
BETA = 0.1
CHECKOUT = (
    "Name a checkout: git clone https://github.com/locuslab/open-unlearning, then "
    "--open-unlearning FOLDER"
)
FILES = ("trainer/utils.py", "trainer/unlearn/grad_diff.py", "trainer/unlearn/npo.py")


class Text(TypedDict):
    """Rows as open-unlearning takes them."""

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor


def npo_arms(model: str, batch: int, steps: int, checkout: Path, device: str | None) -> Arms:
    """The arms on one model.

    Args:
        model: A name or folder.
        batch: Rows of each set.
        steps: Number of steps per measurement.
        checkout: Of open-unlearning, a folder or a bare repository.
        device: Where to train; None for the default.

    Raises:
        Unavailable: the losses are not the same, or the checkout lacks a file.
    """
    from safesight import VLM, load_defense, registry
    from safesight.defenses.npo import _terms
    from safesight.training.batches import Collator
    from safesight.training.choice import choose
    from safesight.training.passes import Passes
    from safesight.training.weights import installed

    vlm = VLM.load(model, device=device, dtype="float32")
    theirs = _theirs(checkout, vlm.model)  # keeps a copy of the untrained model
    config = load_defense(
        "npo", parameters="full", reduction="sum", retain_alpha=0, beta=BETA
    ).config
    pool = registry.load("dataset", "testbed")(40 * batch, seed=0)
    text = [replace(row, image=None) for row in pool]
    collator = Collator(vlm)
    batches = {
        name: collator.rows([row for row in text if row.set == name][:batch])
        for name in ("forget", "retain")
    }
    stack = ExitStack()  # held open as long as the process lives
    trained = stack.enter_context(installed(vlm, choose(vlm, config), training=True))
    vlm.model.eval()  # no dropout, so that both see the same
    passes, terms = Passes(vlm, trained), _terms(config)
    parameters = list(trained.parameters.values())
    texts = {name: _text(rows) for name, rows in batches.items()}

    def ours() -> float:
        whole = 0.0
        for term in terms:
            loss = term(passes, batches)["loss"]
            loss.backward()
            whole += float(loss.detach())
        return whole

    def first() -> float:
        passes.memory.clear()
        return ours()

    def peers() -> float:
        loss = theirs.compute_loss(vlm.model, texts)
        loss.backward()
        return float(loss.detach())

    def bare() -> float:
        for each in texts.values():
            vlm.model(**each, use_cache=False).loss.backward()
        return 0.0

    _compare(ours(), peers())
    optimizer = torch.optim.AdamW(parameters, lr=1e-9)
    optimizer.zero_grad()
    ways = {BARE: bare, OURS: ours, FIRST: first, THEIRS: peers}
    return {name: _timed(way, optimizer, steps) for name, way in ways.items()}


def _compare(ours: float, theirs: float) -> None:
    if abs(ours - theirs) > 1e-3 * abs(theirs):
        raise Unavailable(
            f"The losses differ ({ours:.5f} and {theirs:.5f}), so their steps are not comparable."
        )


def _timed(
    way: Callable[[], float], optimizer: torch.optim.Optimizer, steps: int
) -> Callable[[], Entry]:
    def measure() -> Entry:
        now = _now()
        for _ in range(steps):
            way()
            optimizer.step()
            optimizer.zero_grad()
        return {"seconds": _now() - now, "n": steps}

    return measure


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def _text(rows: Any) -> Text:
    inputs = rows["inputs"]
    return Text(
        input_ids=inputs["input_ids"],
        attention_mask=inputs["attention_mask"],
        labels=rows["answer"],
    )


def _theirs(checkout: Path, model: nn.Module) -> Any:
    """open-unlearning's NPO around a model.

    Its classes extend a trainer of its own, which asks for packages of its evaluations;
    `compute_loss` uses nothing of it, so an empty class takes its place.
    """
    source = Path(tempfile.mkdtemp())
    for name in FILES:
        target = source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(_read(checkout, f"src/{name}"))
    for name in ("trainer", "trainer.unlearn"):
        package = ModuleType(name)
        package.__path__ = [str(source / name.replace(".", "/"))]
        sys.modules[name] = package
    base = ModuleType("trainer.unlearn.base")
    base.UnlearnTrainer = object  # type: ignore[attr-defined]
    sys.modules[base.__name__] = base
    found = import_module("trainer.unlearn.npo").NPO
    npo = found.__new__(found)
    npo.gamma, npo.alpha, npo.beta, npo.retain_loss_type = 1.0, 1.0, BETA, "NLL"
    npo.ref_model = deepcopy(model).eval()
    return npo


def _read(checkout: Path, name: str) -> bytes:
    """A file of a checkout; of a bare repository, as it is at HEAD."""
    if (checkout / name).is_file():
        return (checkout / name).read_bytes()
    shown = subprocess.run(
        ["git", "-C", str(checkout), "show", f"HEAD:{name}"], capture_output=True, check=False
    )
    if shown.returncode:
        raise Unavailable(f"{checkout} has no {name}. {CHECKOUT}.")
    return shown.stdout


def _made(told: dict[str, Any]) -> Arms:
    return npo_arms(told["model"], told["batch"], told["steps"], Path(told["checkout"]), None)


@contextmanager
def _started(arguments: Any, case: str) -> Iterator[Arms]:
    from provider_overhead import large_model

    if arguments.open_unlearning is None:
        raise Unavailable(f"There is no checkout of open-unlearning. {CHECKOUT}.")
    with ExitStack() as stack:
        model = "testbed"
        if case == "wide":
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            model = large_model(Path(folder))
        told = {
            "model": model,
            "batch": 2 if arguments.small else BATCH[case],
            "steps": 1 if arguments.small else STEPS[case],
            "checkout": str(arguments.open_unlearning),
        }
        yield stack.enter_context(answering(lambda: Worker(sys.executable, __file__, told)))


def _pairs(case: str, arms: Any) -> list[Pair]:
    return [
        Pair(OURS, THEIRS, most=1.0),
        Pair(FIRST, THEIRS),
        *(Pair(name, BARE) for name in (OURS, FIRST, THEIRS)),
    ]


ROW = Row("a step of NPO", tuple(BATCH), _started, _pairs, rounds=7)

if __name__ == "__main__":
    work(_made)
