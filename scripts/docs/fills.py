"""Fills in the text between `<!-- fill: COMMAND ARGUMENTS -->` and `<!-- /fill -->`.

Commands on committed results (`docs/results/NAME.json`, a scorecard unless stated otherwise):

    rate NAME DEFENSE TASK METRIC      2.0% (0.9 to 4.3, n = 300)
    delta NAME DEFENSE TASK METRIC [AGAINST]    -98.0 points (-99.1 to -95.7, n = 300)
    ratio NAME DEFENSE COLUMN          1.04 (1.03 to 1.06, n = 40)
    value NAME PATH FORMAT             any value of any JSON file, as Python formats it
    beside NAME DEFENSE                undefended, defended and the change, one row per task
    scorecard NAME                     the four axes as a table, one row per defense
    overhead NAME                      times and memory as a table, one row per defense
    summary NAME [arms=A;B] KEY=HEADING ...  one row per arm, one column per key of a summary
    pivot NAME LIST KEYS TASK/METRIC=HEADING ...  rows by KEYS (one,two), rates or changes across
    axes NAME DEFENSE                  four cells: attack success | over-refusal | benign requests
                                       answered right | answer time, from cost.json
    cell NAME ARM KEY                  one rate or change of a benchmark's summary
    counts NAME                        trials, right results, refusals and faults, as torture counts
    peers NAME, shapes NAME, facts NAME    what `benchmarks/peers.py` measured; nothing before that
    output FILE                        a text file of docs/results, as a code block

`captions` writes the line below a table of results. A defense that a table names in its first
column is linked to its card.

Times come from `cost.json`, whatever scorecard a command names; `overhead` shows the named one's.

And on the source: `config NAME` (a defense's settings), `defenses` (all of them), `columns` (of a
file of prompts), `families`
(architectures, and which pass the whole suite), `matrix NAME` (which defense works on which, as
`benchmarks/matrix.py` writes it), `tree` (one caption per file), `code PATH` (a
Python file in full), `benchmarks` (the published ones), `benchmark NAME` (its facts), and
`count defenses|compared|architectures`.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path

from safesight import registry
from safesight.compare import Scorecard
from safesight.data import COLUMNS
from safesight.grammar import UNDEFENDED
from safesight.models.families import FAMILIES
from scripts.docs import source
from scripts.docs.benchmarks import benchmark, benchmarks
from scripts.docs.captions import caption
from scripts.docs.matrix import render_matrix
from scripts.docs.peers import facts, peers, shapes
from scripts.docs.results import COSTS, Results
from scripts.docs.tables import (
    render_beside,
    render_cell,
    render_counts,
    render_overhead,
    render_pivot,
    render_rate,
    render_ratio,
    render_summary,
    render_table,
)

ROOT = Path(__file__).parents[2]
NOT_MEASURED = "not measured yet"

_MARKED = re.compile(r"(<!-- fill: (.+?) -->)(.*?)(<!-- /fill -->)", re.DOTALL)


def fill(text: str, results: Results, page: str) -> str:
    """The page with everything between markers made again.

    Raises:
        ValueError: a marker is unknown, malformed or not closed.
    """
    if text.count("<!-- fill:") != len(_MARKED.findall(text)):
        raise ValueError(f"{page}: a fill marker is not closed")

    def replaced(match: re.Match[str]) -> str:
        made = _made(match.group(2), results, page)
        between = f"\n{made}\n" if "\n" in made or made.startswith("|") else made
        return f"{match.group(1)}{between}{match.group(4)}"

    return _MARKED.sub(replaced, text)


def _made(command: str, results: Results, page: str) -> str:
    name, *arguments = shlex.split(command)
    if name not in COMMANDS:
        raise ValueError(f"{page}: {name!r} is not one of {', '.join(COMMANDS)}")
    try:
        made = COMMANDS[name](results, page, *arguments)
    except TypeError as error:
        raise ValueError(f"{page}: {command!r} cannot be filled: {error}") from error
    if name not in TABLES:
        return made
    return _linked(made, page) + caption(results, page, name, *arguments)


def _linked(table: str, page: str) -> str:
    """A defense in the first column of a table, linked to its card; not on that card itself."""

    def link(match: re.Match[str]) -> str:
        name = match.group(1)
        card = f"docs/cards/{name}.md"
        known = name in registry.names("defense") and (ROOT / card).is_file()
        return f"| {_link(name, card, page)} |" if known and page != card else match.group()

    return re.sub(r"^\| (\w+) \|", link, table, flags=re.MULTILINE)


def _link(name: str, target: str, page: str) -> str:
    return f"[{name}]({os.path.relpath(target, Path(page).parent)})"


def rate(results: Results, page: str, name: str, defense: str, task: str, metric: str) -> str:
    card = results.scorecard(name, page)
    row = card and card.row(defense, task, metric)
    if not row:
        return _absent(results, page, f"{defense} {task} {metric}", name, card)
    return render_rate(row.value, f"{_range(row.low, row.high)}, n = {row.n}")


def delta(
    results: Results,
    page: str,
    name: str,
    defense: str,
    task: str,
    metric: str,
    against: str = "none",
) -> str:
    card = results.scorecard(name, page)
    row = card and card.delta(defense, task, metric, against)
    if not row:
        what = f"{defense} {task} {metric} against {against}"
        return _absent(results, page, what, name, card)
    return (
        f"{100 * row.delta:+.1f} points "
        f"({100 * row.low:+.1f} to {100 * row.high:+.1f}, n = {row.n})"
    )


def ratio(results: Results, page: str, name: str, defense: str, column: str) -> str:
    """`column` is prefill, answer, refused_answer or peak_memory."""
    card = results.timed(name, page)
    costs = [] if card is None else card.overhead
    row = next((row for row in costs if row.defense == defense), None)
    value = None if row is None else getattr(row, f"{column}_ratio")
    if row is None or value is None:
        return _absent(results, page, f"{defense} {column} ratio", COSTS, card)
    low, high = getattr(row, f"{column}_low"), getattr(row, f"{column}_high")
    counts = {"prefill": row.prefill_n, "answer": row.n, "refused_answer": row.refused_n}
    return render_ratio(value, low, high, counts.get(column, row.peak_memory_n))


def value(results: Results, page: str, name: str, path: str, form: str = "") -> str:
    found = results.value(name, path, page)
    return NOT_MEASURED if found is None else format(found, form)


def beside(results: Results, page: str, name: str, defense: str) -> str:
    card = results.timed(name, page)
    if card is None or defense not in card.defenses:
        return _absent(results, page, defense, name, card)
    return render_beside(card, defense)


def scorecard(results: Results, page: str, name: str) -> str:
    card = results.timed(name, page)
    return NOT_MEASURED if card is None else render_table(card)


def overhead(results: Results, page: str, name: str) -> str:
    card = results.scorecard(name, page)
    return NOT_MEASURED if card is None else render_overhead(card)


def summary(results: Results, page: str, name: str, *columns: str) -> str:
    """Columns are `KEY=HEADING`, where a key is a rate or a change; `arms=A;B` selects rows.

    Raises:
        ValueError: a selected arm was not measured.
    """
    rows = results.value(name, "summary", page)
    headings = dict(column.split("=", 1) for column in columns)
    arms = [arm for arm in headings.pop("arms", "").split(";") if arm]
    if rows is None:
        return NOT_MEASURED
    by_name = {row["arm"]: row for row in rows}
    if unknown := set(arms) - by_name.keys():
        raise ValueError(f"{page}: {name} has no arm {min(unknown)!r}")
    return render_summary([by_name[arm] for arm in arms] or rows, headings)


def pivot(results: Results, page: str, name: str, path: str, keys: str, *columns: str) -> str:
    """Each entry of the list at `path` is one cell and names its row, its task and its metric."""
    cells = results.value(name, path, page)
    headings = dict(column.split("=", 1) for column in columns)
    return NOT_MEASURED if cells is None else render_pivot(cells, keys.split(","), headings)


def axes(results: Results, page: str, name: str, defense: str) -> str:
    """Cells of a row whose page writes the rest of the table itself."""
    card = results.timed(name, page)
    metrics = ("attack_success_rate", "over_refusal_rate", "benign_utility")
    rows = [card and card.row(defense, "all", metric) for metric in metrics]
    if not card or not all(rows):
        return _absent(results, page, f"the axes of {defense}", name, card)
    rates = [render_rate(row.value, _range(row.low, row.high)) for row in rows if row]
    cost = next((cost for cost in card.overhead if cost.defense == defense), None)
    if cost is not None:
        time = render_ratio(cost.answer_ratio, cost.answer_low, cost.answer_high)
    elif defense == UNDEFENDED:
        time = "1"
    else:
        time = _absent(results, page, f"{defense} answer ratio", COSTS, card)
    return " | ".join([*rates, time])


def cell(results: Results, page: str, name: str, arm: str, key: str) -> str:
    rows = results.value(name, "summary", page)
    found = next((row[key] for row in rows or () if row["arm"] == arm and key in row), None)
    if rows is not None and found is None:
        results.miss(f"{page} wants {key} of {arm} of {name}.json")
    return NOT_MEASURED if found is None else render_cell(found)


def counts(results: Results, page: str, name: str) -> str:
    rows = results.value(name, "rows", page)
    return NOT_MEASURED if rows is None else render_counts(rows)


def _range(low: float, high: float) -> str:
    return f"{100 * low:.1f} to {100 * high:.1f}"


def output(results: Results, page: str, name: str) -> str:
    text = results.text(name, page)
    return NOT_MEASURED if text is None else f"```text\n{text.rstrip()}\n```"


def config(results: Results, page: str, name: str) -> str:
    """The settings of a defense, its own and inherited ones, from the source.

    A setting whose default is overridden appears once, with the new default.
    """
    rows: dict[str, tuple[str, str]] = {}
    for ancestor in reversed(registry.load("defense", name).Config.__mro__):
        if ancestor.__module__.startswith("safesight"):
            path = ROOT / "src" / Path(*ancestor.__module__.split(".")).with_suffix(".py")
            found = source.config_fields(path, ancestor.__name__)
            rows |= {field: (default, text) for field, default, text in found}
    lines = [
        "| setting | default | what it is | source of the default |",
        "| --- | --- | --- | --- |",
    ]
    for field, (default, text) in rows.items():
        what, _, origin = " ".join(text.split()).rpartition("Source: ")
        shown = default if len(default) < 60 else "see the source"
        lines.append(f"| `{field}` | `{shown}` | {what.strip() or 'its text'} | {origin} |")
    return "\n".join(lines)


def defenses(results: Results, page: str) -> str:
    """Every defense with its kind, its card and one sentence."""
    lines = ["| defense | kind | what it does |", "| --- | --- | --- |"]
    for name in registry.names("defense", builtin=True):
        kind = "" if name == "none" else registry.load("defense", name).kind
        link = name if name == "none" else _link(name, f"docs/cards/{name}.md", page)
        lines.append(f"| {link} | {kind} | {registry.describe('defense', name)} |")
    return "\n".join(lines)


def columns(results: Results, page: str) -> str:
    """Every column that a file of prompts may have."""
    rows = [f"| `{name}` | {meaning} |" for name, meaning in COLUMNS.items()]
    return "\n".join(["| column | what it holds |", "| --- | --- |", *rows])


def families(results: Results, page: str) -> str:
    """Every architecture of the table; tiny models of some run the whole suite, and vLLM's."""
    suite = _suite()
    served = source.keys_of(ROOT / "tests/vllm/checkpoints.py", "ARCHITECTURES")
    lines = ["| architecture | conformance suite | vLLM | note |", "| --- | --- | --- | --- |"]
    for name, family in FAMILIES.items():
        here = "passes" if name in suite else "places only"
        there = "passes" if name in served else ""
        lines.append(f"| {name} | {here} | {there} | {family.note} |")
    return "\n".join(lines)


def _suite() -> list[str]:
    files = (ROOT / "tests/tiny.py", ROOT / "tests/zoo/__init__.py")
    return [name for file in files for name in source.keys_of(file, "_MAKERS")]


def matrix(results: Results, page: str, name: str) -> str:
    """Which defense works on which architecture."""
    rows = results.value(name, "rows", page)
    return NOT_MEASURED if rows is None else render_matrix(list(FAMILIES), rows)


def count(results: Results, page: str, what: str) -> str:
    """How many there are: defenses, those compared in the demo, architectures of the suite."""
    if what == "defenses":
        return str(len(set(registry.names("defense")) - {"none"}))
    if what == "architectures":
        return str(len(_suite()))
    if what != "compared":
        raise ValueError(f"{page}: {what!r} cannot be counted")
    card = results.scorecard("demo", page)
    return NOT_MEASURED if card is None else str(len(card.defenses) - 1)


def tree(results: Results, page: str) -> str:
    """The package's files, each with the first sentence of its docstring."""
    top = ROOT / "src/safesight"
    paths = [path for path in sorted(top.rglob("*.py")) if path.name != "__init__.py"]
    rooms = sorted({path.parent for path in paths}, key=lambda room: (room != top, room))
    lines = ["```text"]
    for room in rooms:
        name = "src/safesight" if room == top else f"  {room.relative_to(top)}"
        lines.append(f"{name}/")
        indent = "  " if room == top else "    "
        for path in paths:
            if path.parent == room:
                caption = source.first_sentence(source.module_docstring(path)).rstrip(".:")
                lines.append(f"{indent}{path.name:<20} {caption}")
    return "\n".join([*lines, "```"])


def code(results: Results, page: str, path: str) -> str:
    """A Python file of the repository as a code block."""
    return f"```python\n{(ROOT / path).read_text(encoding='utf-8').rstrip()}\n```"


def _absent(results: Results, page: str, what: str, name: str, card: Scorecard | None) -> str:
    if card is not None:
        results.miss(f"{page} wants {what} of {name}.json")
    return NOT_MEASURED


TABLES = {"beside", "scorecard", "overhead", "summary", "pivot", "peers"}
"""Commands that turn a result, their first argument, into a table."""

COMMANDS: dict[str, Callable[..., str]] = {
    "rate": rate,
    "delta": delta,
    "ratio": ratio,
    "value": value,
    "beside": beside,
    "scorecard": scorecard,
    "overhead": overhead,
    "summary": summary,
    "pivot": pivot,
    "axes": axes,
    "cell": cell,
    "counts": counts,
    "peers": peers,
    "shapes": shapes,
    "facts": facts,
    "output": output,
    "config": config,
    "columns": columns,
    "defenses": defenses,
    "families": families,
    "matrix": matrix,
    "count": count,
    "tree": tree,
    "benchmark": benchmark,
    "benchmarks": benchmarks,
    "code": code,
}
