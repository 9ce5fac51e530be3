"""Command line of the generator: write the pages, or list the stale ones."""

from __future__ import annotations

import argparse
import sys

from scripts.docs.pages import generate, stale, write


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.docs", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if stale")
    arguments = parser.parse_args()
    generated = generate()
    changed = stale(generated.pages)
    for missing in generated.missing:
        print(f"not measured yet: {missing}", file=sys.stderr)
    if arguments.check:
        for path in changed:
            print(f"stale: {path}; run `make docs`", file=sys.stderr)
        return int(bool(changed or generated.missing))
    write(generated.pages)
    print(f"{len(generated.pages)} pages, {len(changed)} changed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
