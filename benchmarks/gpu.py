"""The rows of `peers.py` that need no engine, on a GPU.

    python benchmarks/gpu.py                       # under 8 minutes on one GPU
    python benchmarks/gpu.py --rows "adding" --out FILE

On a machine without one it says so and ends. Of an evaluation the bare loop and safesight are
measured, since lmms-eval has an environment of its own; of adding a vector what is installed beside
safesight; of a step of NPO open-unlearning's if a checkout is named. Models of real shapes have
all their blocks. Everything runs in this process.

Writes `runs/benchmarks/gpu.json`, as `peers.py` does.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import peers_edit
import peers_eval
import peers_npo
import peers_shapes
import torch
from peers import add_options, head_of, measure_rows
from peers_rounds import Arms, Row, Unavailable
from provider_overhead import large_model
from results_file import add_output

sys.path.insert(0, str(Path(__file__).parents[1]))  # tests/tiny.py, which peers_models.py uses

EDIT_LIBRARIES = ("steering_vectors", "nnsight")


def main() -> None:
    """Measure what is missing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_options(parser)
    parser.add_argument("--open-unlearning", type=Path, help="checkout of open-unlearning")
    add_output(parser, "gpu")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("There is no CUDA device here, so nothing was measured.")
        return
    name = torch.cuda.get_device_name()
    measure_rows(arguments, ROWS, {**head_of(arguments), "gpu": name})


@contextmanager
def _edits(arguments: Any, case: str) -> Iterator[Arms]:
    if missing := [name for name in EDIT_LIBRARIES if find_spec(name) is None]:
        raise Unavailable(f"{missing[0]} is not installed. {peers_edit.HOW}.")
    vlm = _loaded("cuda")
    blocks = next(name for name, part in vlm.model.named_modules() if part is vlm.layers)
    with torch.no_grad():
        yield peers_edit.edit_arms(vlm.model, vlm.layers, blocks, "cuda", 50)


def _loaded(device: str) -> Any:
    from safesight import VLM

    return VLM.load(_wide(), device=device, dtype="float32")


def _wide() -> str:
    if not _FOLDER:
        _FOLDER.append(tempfile.TemporaryDirectory())
        large_model(Path(_FOLDER[0].name))
    return _FOLDER[0].name


_FOLDER: list[tempfile.TemporaryDirectory[str]] = []
"""That of the wide model, once it is made; removed at the end."""


@contextmanager
def _step(arguments: Any, case: str) -> Iterator[Arms]:
    if arguments.open_unlearning is None:
        raise Unavailable(f"There is no checkout of open-unlearning. {peers_npo.CHECKOUT}.")
    yield peers_npo.npo_arms(_wide(), 16, 8, arguments.open_unlearning, "cuda")


@contextmanager
def _evaluation(arguments: Any, case: str) -> Iterator[Arms]:
    counts = dict.fromkeys(peers_eval.COUNTS, 8 if arguments.small else 128)
    yield peers_eval.our_arms({"model": _wide(), "counts": counts, "tokens": peers_eval.TOKENS})


@contextmanager
def _shapes(arguments: Any, case: str) -> Iterator[Arms]:
    layers = 4 if arguments.small else None
    with ExitStack() as stack:
        stack.callback(torch.cuda.empty_cache)
        yield peers_shapes.shape_arms(case, "cuda", layers, peers_shapes.PROMPT)


ROWS: tuple[Row, ...] = (
    replace(peers_eval.ROW, start=_evaluation, rounds=3),
    replace(peers_edit.ROW, cases=("wide",), start=_edits),
    replace(peers_npo.ROW, cases=("wide",), start=_step),
    replace(
        peers_shapes.ROW, cases=("Qwen2.5-VL-3B", "Qwen2.5-VL-7B", "LLaVA-1.5-7B"), start=_shapes
    ),
)

if __name__ == "__main__":
    main()
