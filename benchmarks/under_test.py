"""The model that a benchmark measures: its options, and what a results file notes of it.

Not a benchmark.
"""

from __future__ import annotations

import argparse
from typing import Any

from safesight import VLM
from safesight.grammar import judge_of_model

__all__ = ["add_model", "head_of", "loaded"]

_DTYPE = "float32"


def add_model(parser: argparse.ArgumentParser) -> None:
    """The options `--model` and `--dtype`."""
    parser.add_argument("--model", default="testbed", help="a registered model, or a folder")
    parser.add_argument("--dtype", default=_DTYPE, help=f"weight type; default: {_DTYPE}")


def loaded(arguments: argparse.Namespace) -> VLM:
    """The model that the options name."""
    return VLM.load(arguments.model, dtype=arguments.dtype)


def head_of(arguments: argparse.Namespace, vlm: VLM) -> dict[str, Any]:
    """What must be the same for rows to stand in one file, of the model and its judge."""
    judge = judge_of_model(vlm.name)
    return {
        "model": arguments.model,
        "identity": vlm.identity,
        "dtype": arguments.dtype,
        "judge": f"{judge.name}/{judge.version}",
    }
