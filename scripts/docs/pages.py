"""All generated pages as one table from path to text, to write or to compare."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from scripts.docs import caps, cli_pages, demo_texts, dose, figure, fills, pairs, reference
from scripts.docs.results import Results, has

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs/results"
CLI = ROOT / "docs/reference/cli.md"
API = ROOT / "docs/reference/api.md"
SMOL_CARD = ROOT / "src/safesight/testbed/smol/weights/README.md"
_PAIRS = {"sasa": "testbed", "sasa_smol": "testbed-smol"}
"""Results with SASA's pairs, and the model of each."""


@dataclass(frozen=True)
class Generated:
    """The documentation as it should be now."""

    pages: Mapping[Path, str]
    missing: tuple[str, ...]
    """Results that a page needs but that are not committed."""


def markdown() -> list[Path]:
    """The hand-written pages that may hold markers."""
    found = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), SMOL_CARD]
    return sorted(path for path in found if path not in {CLI, API})


def generate() -> Generated:
    """Make every page in memory."""
    results = Results(RESULTS)
    results.made = demo_texts.render(results)
    pages = {
        **{results.folder / name: text for name, text in results.made.items()},
        CLI: cli_pages.render(),
        API: reference.render(ROOT / "src"),
    }
    for path in markdown():
        text = path.read_text(encoding="utf-8")
        pages[path] = fills.fill(text, results, str(path.relative_to(ROOT)))
    card = results.timed("demo", "docs/figures/demo.svg")
    if card is not None:
        pages[ROOT / "docs/figures/demo.svg"] = figure.render(card)
    if has(RESULTS, "mirage"):
        summary = results.value("mirage", "summary", "docs/figures/mirage.svg")
        pages[ROOT / "docs/figures/mirage.svg"] = dose.render(summary)
    if has(RESULTS, "dial"):
        effects = results.value("dial", "effects", "docs/figures/dial.svg")
        if effects:  # only the models that were trained have them
            pages[ROOT / "docs/figures/dial.svg"] = caps.render(effects)
    if all(has(RESULTS, name) for name in _PAIRS):
        place = "docs/figures/sasa_pairs.svg"
        tables = {model: results.value(name, "every", place) for name, model in _PAIRS.items()}
        pages[ROOT / place] = pairs.render(tables)
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
