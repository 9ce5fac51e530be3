"""The results file of a resumable benchmark, written row by row.

Not a benchmark. A file is continued only if its head (model, sizes, judge, settings) is the same;
otherwise the benchmark starts over.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safesight.files import write_text

__all__ = ["RESULTS", "opened", "saved"]

RESULTS = Path(__file__).parents[1] / "docs" / "results"


def opened(path: Path, head: dict[str, Any], **empty: Any) -> dict[str, Any]:
    """The results so far if they have this head, else the head with `empty` lists."""
    begun = {**head, "seconds": 0, "rows": [], **empty}
    if not path.is_file():
        return begun
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SystemExit(f"{path} is damaged ({error}). Repair or remove it.") from error
    same = {key: found.get(key) for key in head} == json.loads(json.dumps(head))
    return {**begun, **found} if same else begun


def saved(path: Path, results: dict[str, Any]) -> None:
    """Write the whole file; each list entry, which may hold many verdicts, is on one line."""
    parts = [f" {json.dumps(key)}: {_body(value)}" for key, value in results.items()]
    write_text(path, "{\n" + ",\n".join(parts) + "\n}\n")


def _body(value: Any) -> str:
    if not isinstance(value, list) or not value:
        return json.dumps(value)
    entries = [json.dumps(entry, separators=(",", ":")) for entry in value]
    return "[\n  " + ",\n  ".join(entries) + "\n ]"
