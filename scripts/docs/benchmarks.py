"""What the specs of the published benchmarks say, as tables."""

from __future__ import annotations

import os
import re
from pathlib import Path

from safesight import registry
from safesight.benchmarks import Benchmark, Spec

ROOT = Path(__file__).parents[2]
CARDS = ROOT / "docs/benchmarks"
NOT_PINNED = "not pinned: not verifiable offline; the log of a run holds what was read"


def benchmarks(results: object, page: str) -> str:
    """All published benchmarks, one row each, with links to their cards."""
    lines = [
        "| task | benchmark | measures | prompts | read from | licence | answers up to |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    cards = _cards()
    for spec in _specs():
        link = os.path.relpath(CARDS / cards[spec.name], (ROOT / page).parent)
        hub = f"hub: `{spec.hub}`" if spec.hub else "your folder"
        lines.append(
            f"| [{spec.name}]({link}) | {spec.title} | {spec.group} | {spec.size:,} | {hub} "
            f"| {spec.license} | {spec.max_new_tokens:,} tokens |"
        )
    return "\n".join(lines)


def benchmark(results: object, page: str, name: str) -> str:
    """The facts of one benchmark, as its spec states them."""
    spec = next(spec for spec in _specs() if spec.name == name)
    categories = ", ".join(f"{value} {count:,}" for value, count in spec.counts.items())
    rows = {
        "task": f"`{spec.name}`",
        "version": spec.version,
        "licence": spec.license,
        "gate": spec.gate or "none",
        "paper": _linked(spec.paper),
        "source": spec.source,
        "hub": f"`{spec.hub}`" if spec.hub else "not downloaded",
        "revision": f"`{spec.revision}`" if spec.revision else NOT_PINNED,
        "SHA-256": ", ".join(f"`{file}` `{sha256}`" for file, sha256 in spec.sha256.items())
        or NOT_PINNED,
        "folder": f"`$SAFESIGHT_DATA/{spec.folder}`: {spec.get}",
        "split": spec.split,
        "prompts": f"{spec.size:,}" if len(spec.counts) == 1 else f"{spec.size:,}: {categories}",
        "prompt": f"`{spec.prompt}`".replace("\n", "⏎").replace("|", "\\|"),
        "length, authors": spec.authors_length,
        "length, here": f"{spec.max_new_tokens:,} new tokens",
        "judge, authors": spec.authors_judge,
        "judge, here": f"`{spec.judge}`, unless one is named",
    }
    lines = ["| fact | value |", "| --- | --- |"]
    lines += [f"| {fact} | {value} |" for fact, value in rows.items()]
    lines += ["", "Deviations:", "", *(f"- {deviation}" for deviation in spec.deviations)]
    return "\n".join(lines)


def _linked(paper: str) -> str:
    return re.sub(r"arXiv (\d{4}\.\d{5})", r"[arXiv \1](https://arxiv.org/abs/\1)", paper)


def _specs() -> list[Spec]:
    found = (registry.load("benchmark", name) for name in registry.names("benchmark", builtin=True))
    return [each.spec for each in found if isinstance(each, Benchmark)]


def _cards() -> dict[str, str]:
    """The card of each benchmark, which holds its facts."""
    return {
        name: card.name
        for card in sorted(CARDS.glob("*.md"))
        for name in re.findall(r"<!-- fill: benchmark (\w+) -->", card.read_text(encoding="utf-8"))
    }
