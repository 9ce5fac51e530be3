"""All generated pages as one table from path to text, to write or to compare."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from scripts.docs import cli_pages, dose, figure, fills, reference
from scripts.docs.results import Results

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Generated:
    """The documentation as it should be now."""

    pages: Mapping[Path, str]
    missing: tuple[str, ...]
    """Results that a page needs but that are not committed."""


def markdown() -> list[Path]:
    """The hand-written pages that may contain markers."""
    generated = {ROOT / "docs/cli.md", ROOT / "docs/reference.md"}
    found = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    return sorted(path for path in found if path not in generated)


def generate() -> Generated:
    """Generate every page in memory."""
    results = Results(ROOT / "docs/results")
    pages = {
        ROOT / "docs/cli.md": cli_pages.render(),
        ROOT / "docs/reference.md": reference.render(ROOT / "src"),
    }
    for path in markdown():
        text = path.read_text(encoding="utf-8")
        pages[path] = fills.fill(text, results, str(path.relative_to(ROOT)))
    card = results.scorecard("demo", "docs/figures/demo.svg")
    if card is not None:
        pages[ROOT / "docs/figures/demo.svg"] = figure.render(card)
    if (results.folder / "mirage.json").is_file():
        summary = results.value("mirage", "summary", "docs/figures/mirage.svg")
        pages[ROOT / "docs/figures/mirage.svg"] = dose.render(summary)
    return Generated(pages, tuple(results.missing))


def stale(pages: Mapping[Path, str]) -> list[Path]:
    """The pages whose file differs."""
    return [
        path
        for path, text in pages.items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]


def write(pages: Mapping[Path, str]) -> None:
    for path, text in pages.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
