"""The command: runs the kinds one after the other, prints and saves their counts."""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from safesight.files import write_text

TRIALS = {"kills": 40, "interrupts": 20, "pictures": 1000, "artifacts": 500, "commands": 500}
"""The kinds, and how many trials each makes unless told otherwise."""


def trial(kind: str, n: int, seed: int) -> dict[str, Any]:
    """The row of one kind."""
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=f"torture-{kind}-") as folder:
        counts = import_module(f"benchmarks.torture.{kind}").run(n, seed, Path(folder))
    return {
        "kind": kind,
        "n": n,
        "seed": seed,
        **counts,
        "seconds": round(time.monotonic() - begin),
    }


def save(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write the rows; those of kinds that did not run this time are kept."""
    found = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.is_file() else []
    known = {row["kind"]: row for row in (*found, *rows)}
    kept = [known[kind] for kind in TRIALS if kind in known]
    write_text(path, json.dumps({"rows": kept}, indent=1) + "\n")


def main() -> None:
    """Parse the command line and run; the exit code is 1 if anything is wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.torture", description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"default: {', '.join(TRIALS)}")
    parser.add_argument("--n", type=int, help="trials of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE", help="file to write the counts to")
    arguments = parser.parse_args()
    if unknown := set(arguments.kinds) - TRIALS.keys():
        parser.error(f"there is no kind {min(unknown)!r}; known: {', '.join(TRIALS)}")
    failed = False
    for kind in arguments.kinds or TRIALS:
        row = trial(kind, arguments.n or TRIALS[kind], arguments.seed)
        failed |= bool(row["faults"])
        counts = f"{row['tried']} tried, {row['right']} right, {row['refused']} refused"
        print(f"{kind}: {counts}, {len(row['faults'])} faults", flush=True)
        for fault in row["faults"]:
            print(f"  {fault}", flush=True)
        if arguments.json is not None:
            save(arguments.json, [row])
    raise SystemExit(failed)


if __name__ == "__main__":
    main()
