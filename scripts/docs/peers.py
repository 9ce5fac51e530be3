"""The tables of `docs/results/peers.json`: what safesight costs beside other tools.

Nothing is said until it was measured: then a table is empty, and no sentence is in its place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scripts.docs.results import Results, has

__all__ = ["facts", "peers", "render_peers", "render_shapes", "shapes"]

Line = Mapping[str, Any]


def peers(results: Results, page: str, name: str) -> str:
    """One row per pair of arms, and what was left out."""
    if not has(results.folder, name):
        return ""
    found = results.json(name, page)
    return "\n\n".join([render_peers(found["summary"]), *map(_left_out, found["left_out"])])


def shapes(results: Results, page: str, name: str) -> str:
    """One row per shape and defense."""
    lines = results.json(name, page)["shapes"] if has(results.folder, name) else []
    return render_shapes(lines) if lines else ""


def facts(results: Results, page: str, name: str) -> str:
    """A sentence on the memory of an evaluation."""
    found = results.json(name, page)["facts"] if has(results.folder, name) else []
    return " ".join(
        f"An evaluation adds {fact['mb_per_10000']:.0f} MB to the loaded model for 10,000 "
        f"samples ({fact['kb_per_sample']:.0f} kB each, by the difference "
        f"of runs of {fact['samples'][0]} and {fact['samples'][1]})."
        for fact in found
        if "mb_per_10000" in fact
    )


def render_peers(lines: Sequence[Line]) -> str:
    """One row per pair of arms; an arm that stands alone has no ratio.

    Example:
        >>> line = {"row": "start", "case": "import", "arm": "safesight", "ms": 30.0, "rounds": 7,
        ...         "over": "transformers", "ratio": 0.01, "ratio_low": 0.01, "ratio_high": 0.02,
        ...         "most": 1.0, "met": True}
        >>> print(render_peers([line]).splitlines()[-1])
        | start | import | safesight | 30 | transformers | 0.01 (0.01 to 0.02) | 7 | ≤ 1: met |
    """
    heads = ["what", "of", "with", "ms", "against", "ratio", "rounds", "aim"]
    rows = [_row(heads), _row(["---", "---", "---", "--:", "---", "--:", "--:", "---"])]
    for line in lines:
        ratio = ["", "", "", ""]
        if "ratio" in line:
            span = f"{line['ratio_low']:.2f} to {line['ratio_high']:.2f}"
            ratio = [line["over"], f"{line['ratio']:.2f} ({span})", str(line["rounds"]), ""]
        if "most" in line:
            ratio[3] = f"≤ {line['most']:g}: {'met' if line['met'] else 'missed'}"
        rows.append(_row([line["row"], line["case"], line["arm"], f"{line['ms']:.4g}", *ratio]))
    return "\n".join(rows)


def render_shapes(lines: Sequence[Line]) -> str:
    """One row per shape and defense: shares in per cent, by time and by FLOPs, and memory."""
    heads = [
        *("model", "defense", "of a prefill", "by FLOPs", "of an answer", "by FLOPs"),
        *("fit, GB", "use, GB", "undefended, GB", "blocks run"),
    ]
    rows = [_row(heads), _row(["---", "---", *["--:"] * 8])]
    for line in lines:
        cells = [
            _share(line["prefill"]),
            f"{100 * line['prefill_flops']:.2g}%",
            _share(line["answer"]),
            f"{100 * line['answer_flops']:.2g}%",
            *(f"{line[key]:.2f}" for key in ("fit_gb", "apply_gb", "bare_gb")),
            str(line["layers"]),
        ]
        rows.append(_row([line["shape"], line["defense"], *cells]))
    return "\n".join(rows)


def _share(values: Sequence[float]) -> str:
    median, low, high = (100 * value for value in values)
    return f"{median:.1f}% ({low:.1f} to {high:.1f})"


def _left_out(sentence: str) -> str:
    return f"Not measured: {sentence}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
