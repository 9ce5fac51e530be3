"""Which defense works on which architecture: every pair, on tiny models with random weights.

    python -m benchmarks.matrix [--only FAMILY ...]

Each cell fits a defense on a dozen samples, attaches it, answers text alone, one picture, two
pictures and a mixture, and compares the model bit for bit with the undefended one at strength 0
and after the defense is gone. It works, is refused with a sentence, or fails. A stopped run
resumes; docs/reference/models.md shows the table.
"""

from __future__ import annotations

import argparse
import os
import time

import transformers
from benchmarks.results_file import add_output, opened, saved

from tests.contracts.matrix import DEFENSES, FAMILIES, cell


def main() -> None:
    """Run the cells that are missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_output(parser, "matrix")
    parser.add_argument("--only", nargs="+", default=FAMILIES, help="architectures to run")
    options = parser.parse_args()
    head = {
        "versions": {"transformers": transformers.__version__},
        "architectures": list(FAMILIES),
        "defenses": list(DEFENSES),
    }
    results = opened(options, head)
    done = {(row["architecture"], row["defense"]) for row in results["rows"]}
    for family in options.only:
        for defense in DEFENSES:
            if (family, defense) in done:
                continue
            start = time.monotonic()
            found = cell(defense, family)
            results["rows"].append({"architecture": family, "defense": defense, **vars(found)})
            results["seconds"] += round(time.monotonic() - start, 1)
            saved(options.out, results)
            print(family, defense, found.result, found.sentence, flush=True)


if __name__ == "__main__":
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    main()
