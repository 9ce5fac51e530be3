"""The results file of a benchmark: where it is, how a stopped run resumes, how a row is written.

Not a benchmark. A benchmark writes to `runs/benchmarks/NAME.json`. What the documentation shows is
in `docs/results` and changes only when somebody publishes a finished run:

    python -m scripts.docs --publish runs/benchmarks/NAME.json

A run resumes from its file only under the same head (model, sizes, judge, settings, code). Under
any other head it stops and says what differs; `--fresh` starts over. `--summarise` counts the
rows of a finished file again, with today's statistics, and runs no model.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from safesight import records
from safesight.files import write_bytes, write_text

__all__ = [
    "RUNS",
    "add_output",
    "add_summarise",
    "code_hash",
    "finished",
    "measured",
    "opened",
    "saved",
    "summarised",
]

ROOT = Path(__file__).parents[1]
RUNS = ROOT / "runs" / "benchmarks"
_HELD: dict[Path, int] = {}
"""The entries that each file held when it was opened."""


def add_output(parser: argparse.ArgumentParser, name: str | None = None) -> None:
    """The options `--out`, by default `runs/benchmarks/NAME.json`, and `--fresh`."""
    parser.add_argument(
        "--out",
        type=Path,
        default=name and RUNS / f"{name}.json",
        help=f"results file (.json or .json.gz); default: runs/benchmarks/{name or 'NAME'}.json",
    )
    parser.add_argument(
        "--fresh", action="store_true", help="measure everything again and replace the file"
    )


def add_summarise(parser: argparse.ArgumentParser) -> None:
    """The option `--summarise`, of benchmarks that store one entry per sample."""
    parser.add_argument(
        "--summarise",
        action="store_true",
        help="count the rows of the results file again, without running a model",
    )


def summarised(path: Path, conclude: Callable[[dict[str, Any]], None]) -> None:
    """Count the rows of a results file again; it notes the code that did, beside the one that ran.

    Raises:
        SystemExit: there is no such file, or it is damaged.
    """
    if not path.is_file():
        raise SystemExit(f"{path} is missing. Name a results file with --out.")
    results = _read(path)
    conclude(results)
    saved(path, {**results, "summary_code": code_hash()})
    print(f"Counted again: {path}")


def code_hash() -> str:
    """Hash of the package's and the benchmarks' sources, 16 hex digits."""
    found = hashlib.sha256(records.code_hash().encode())
    for path in sorted((ROOT / "benchmarks").glob("*.py")):
        found.update(path.name.encode() + path.read_bytes())
    return found.hexdigest()[:16]


def opened(arguments: argparse.Namespace, head: dict[str, Any], **empty: Any) -> dict[str, Any]:
    """The results so far if they have this head; a new file begins with `empty` lists.

    Raises:
        SystemExit: the file is damaged, or holds a run under another head.
    """
    path: Path = arguments.out
    head = {**head, "code": code_hash()}
    begun = {**head, "seconds": 0, "rows": [], **empty}
    if arguments.fresh or not path.is_file():
        return begun
    found = _read(path)
    wanted = json.loads(json.dumps(head))
    if differs := [key for key in head if found.get(key) != wanted[key]]:
        raise SystemExit(
            f"{path} holds a run with another {', '.join(differs)}. Add --fresh to replace it, "
            "or --out to write another file."
        )
    _HELD[path] = _entries(found)
    print(f"Resuming {path}, which holds {len(found['rows'])} rows. --fresh measures them again.")
    return {**begun, **found}


def _read(path: Path) -> dict[str, Any]:
    try:
        data = path.read_bytes()
        found: dict[str, Any] = json.loads(gzip.decompress(data) if _packed(path) else data)
    except (ValueError, EOFError, gzip.BadGzipFile) as error:
        raise SystemExit(f"{path} is damaged ({error}). Repair or remove it.") from error
    return found


def measured(
    arguments: argparse.Namespace,
    results: dict[str, Any],
    parts: Iterable[tuple[str, Callable[[], None]]],
    conclude: Callable[[dict[str, Any]], None],
) -> None:
    """Measure part by part, and write the results after each.

    Args:
        arguments: Those of `add_output`.
        results: What `opened` gave.
        parts: The name of each missing part, and what adds its rows to the results.
        conclude: Adds the tables that are made from all rows.
    """
    begin = time.monotonic()
    for name, measure in parts:
        measure()
        results["seconds"] += round(time.monotonic() - begin)
        begin = time.monotonic()
        saved(arguments.out, results)
        print(f"{name}: {results['seconds']} s", flush=True)
    conclude(results)
    saved(arguments.out, results)
    finished(arguments, results)


def finished(arguments: argparse.Namespace, results: dict[str, Any]) -> None:
    """Say where the results are, or that this run had nothing left to measure."""
    if _HELD.get(arguments.out) == _entries(results):
        print(f"Nothing to do: {arguments.out} holds every row. --fresh measures them again.")
    else:
        print(f"Results: {arguments.out}")


def saved(path: Path, results: dict[str, Any]) -> None:
    """Write the whole file; each list entry, which may hold many verdicts, is on one line."""
    parts = [f" {json.dumps(key)}: {_body(value)}" for key, value in results.items()]
    text = "{\n" + ",\n".join(parts) + "\n}\n"
    if not _packed(path):
        write_text(path, text)
        return
    write_bytes(path, gzip.compress(text.encode(), mtime=0))  # the same bytes every time


def _entries(results: dict[str, Any]) -> int:
    return sum(len(results.get(key, ())) for key in ("rows", "sweeps", "summary"))


def _packed(path: Path) -> bool:
    return path.suffix == ".gz"


def _body(value: Any) -> str:
    if not isinstance(value, list) or not value:
        return json.dumps(value)
    entries = [json.dumps(entry, separators=(",", ":")) for entry in value]
    return "[\n  " + ",\n  ".join(entries) + "\n ]"
