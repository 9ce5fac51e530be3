"""What `safesight demo` prints, made from the committed scorecards: demo.txt and demo_all.txt."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from safesight.cli.demo_screen import print_all, print_screen
from scripts.docs.results import Results

REPORT = Path("runs/demo/report.html")
SCREEN_WIDTH, ALL_WIDTH = 80, 100


def render(results: Results) -> dict[str, str]:
    """Name of the file to its text; only those whose scorecards are there."""
    card = results.scorecard("demo", "docs/results/demo.txt")
    beside = results.scorecard("one_word", "docs/results/demo_all.txt")
    texts = {}
    if card is not None:
        texts["demo.txt"] = _printed(SCREEN_WIDTH, lambda to: print_screen(card, REPORT, to))
    if card is not None and beside is not None:
        texts["demo_all.txt"] = _printed(ALL_WIDTH, lambda to: print_all(card, beside, REPORT, to))
    return texts


def _printed(width: int, show: Callable[[Console], None]) -> str:
    """The plain text of what a function prints, without spaces at the ends of lines."""
    file = io.StringIO()
    show(Console(file=file, width=width, highlight=False, color_system=None))
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()).strip("\n") + "\n"
