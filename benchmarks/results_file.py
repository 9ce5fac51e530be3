"""The results file of a benchmark: where it is, how a stopped run resumes, how a row is written.

Not a benchmark. A benchmark writes to `runs/benchmarks/NAME.json`. What the documentation shows is
in `docs/results` and changes only when somebody publishes a finished run:

    python -m scripts.docs --publish runs/benchmarks/NAME.json

A run resumes from its file only under the same head (model, sizes, judge, settings); under any
other head the benchmark starts over.
"""

from __future__ import annotations

import argparse
import gzip
import json
from pathlib import Path
from typing import Any

from safesight.files import write_bytes, write_text

__all__ = ["RUNS", "add_output", "opened", "saved"]

RUNS = Path(__file__).parents[1] / "runs" / "benchmarks"


def add_output(parser: argparse.ArgumentParser, name: str) -> None:
    """The option `--out`, by default `runs/benchmarks/NAME.json`."""
    parser.add_argument(
        "--out",
        type=Path,
        default=RUNS / f"{name}.json",
        help=f"results file (.json or .json.gz); default: runs/benchmarks/{name}.json",
    )


def opened(path: Path, head: dict[str, Any], **empty: Any) -> dict[str, Any]:
    """The results so far if they have this head, else the head with `empty` lists."""
    begun = {**head, "seconds": 0, "rows": [], **empty}
    if not path.is_file():
        return begun
    try:
        data = path.read_bytes()
        found: dict[str, Any] = json.loads(gzip.decompress(data) if _packed(path) else data)
    except (ValueError, EOFError, gzip.BadGzipFile) as error:
        raise SystemExit(f"{path} is damaged ({error}). Repair or remove it.") from error
    same = {key: found.get(key) for key in head} == json.loads(json.dumps(head))
    return {**begun, **found} if same else begun


def saved(path: Path, results: dict[str, Any]) -> None:
    """Write the whole file; each list entry, which may hold many verdicts, is on one line."""
    parts = [f" {json.dumps(key)}: {_body(value)}" for key, value in results.items()]
    text = "{\n" + ",\n".join(parts) + "\n}\n"
    if not _packed(path):
        write_text(path, text)
        return
    write_bytes(path, gzip.compress(text.encode(), mtime=0))  # the same bytes every time


def _packed(path: Path) -> bool:
    return path.suffix == ".gz"


def _body(value: Any) -> str:
    if not isinstance(value, list) or not value:
        return json.dumps(value)
    entries = [json.dumps(entry, separators=(",", ":")) for entry in value]
    return "[\n  " + ",\n  ".join(entries) + "\n ]"
