"""`safesight spurious`: what of a refusal data set hangs on words, and what a model made of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from safesight.cli.options import (
    DataOptions,
    Judge,
    Loading,
    Seed,
    check_names,
    loads_model,
    names_of,
    values_of,
)
from safesight.cli.show import examples, print_json, stdout
from safesight.console import steps, waiting
from safesight.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from safesight.analysis.results import Band
    from safesight.analysis.spurious import SpuriousReport, WordOdds
    from safesight.types import Sample, TuningSample, Verdict

__all__ = ["EXAMPLES", "spurious"]

EXAMPLES = examples(
    "safesight spurious mirage --rho 0.95 --data-option harm=ruled",
    "safesight spurious vlguard --data ./VLGuard --json spurious.json",
    "safesight spurious mirage --model ./tuned --words what,share,how,list --limit 100",
)


@loads_model
def spurious(
    loading: Loading,
    dataset: Annotated[str, typer.Argument(help="See `safesight list datasets`.")],
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where the files of the set are.")
    ] = None,
    rho: Annotated[
        float | None, typer.Option(min=0, max=1, help="Correlation of cue and label, of mirage.")
    ] = None,
    data_options: DataOptions = None,
    n: Annotated[
        int | None, typer.Option("--n", min=2, help="Rows of each split; all if not given.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Words shown of each label.")] = 8,
    least: Annotated[int, typer.Option(min=1, help="Rows that a word must be in.")] = 10,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Ask it with the first word exchanged.")
    ] = None,
    words: Annotated[str, typer.Option(help="Words to put first.")] = "what,how,can,describe,share",
    limit: Annotated[int, typer.Option(min=1, help="Test rows of each label it is asked.")] = 100,
    judge: Judge = "exact",
    batch_size: Annotated[int, typer.Option(min=1, help="Most answers in one batch.")] = 16,
    seed: Seed = 0,
    json: Annotated[
        str | None,
        typer.Option("--json", metavar="FILE", help="Write JSON too; - prints nothing else."),
    ] = None,
) -> None:
    """Find words that give refusals away, and what a model does when the first one is exchanged."""
    check_names("dataset", [dataset])
    check_names("judge", [judge])
    first = names_of(words)
    options = _options(dataset, data, rho, values_of(data_options or [], "--data-option"))
    with waiting(f"Reading {dataset}"):
        train, test = (_rows(dataset, n, seed, split, options) for split in ("train", "test"))
        report = _report(dataset, train, test, options, least, seed)
    if model is not None:
        with waiting(f"Loading {model}"):
            from safesight.analysis.spurious import flips
            from safesight.models import VLM

            vlm = VLM.load(model, **loading)
        samples = _samples(test, limit)
        with steps("asking", (1 + len(first)) * len(samples)) as advance:
            asked = _asker(vlm, judge, batch_size, advance)
            found = flips(samples, first, asked, seed=seed)
        report = report.model_copy(update={"model": model, "flips": found})
    _write(report, top, json)


def _options(
    dataset: str, data: Path | None, rho: float | None, more: dict[str, Any]
) -> dict[str, Any]:
    """What was said of the set and goes to its loader.

    Raises:
        InputError: it was said of a set that does not take it, or said twice.
    """
    import inspect

    from safesight import registry
    from safesight.workflows.artifacts import check_options

    given = {"folder": data, "rho": rho}
    named = {name: value for name, value in given.items() if value is not None}
    known = inspect.signature(registry.load("dataset", dataset)).parameters
    for name in named:
        option = {"folder": "--data", "rho": "--rho"}[name]
        if name not in known:
            raise InputError(f"The data set {dataset!r} does not take {option}. Leave it out.")
        if name in more:
            raise InputError(f"{option} and --data-option {name} say the same. Give one of them.")
    check_options(dataset, more)
    return named | more


def _rows(
    dataset: str, n: int | None, seed: int, split: str, options: dict[str, Any]
) -> list[TuningSample]:
    from safesight import registry

    found: list[TuningSample] = registry.load("dataset", dataset)(
        n, seed=seed, split=split, **options
    )
    return found


def _report(
    dataset: str,
    train: Sequence[TuningSample],
    test: Sequence[TuningSample],
    options: dict[str, Any],
    least: int,
    seed: int,
) -> SpuriousReport:
    from safesight.analysis.spurious import (
        SpuriousReport,
        any_word_odds,
        first_word_odds,
        probes,
    )

    return SpuriousReport(
        dataset=dataset,
        settings={**{name: str(value) for name, value in options.items()}, "seed": seed},
        train=Counter(row.label for row in train),
        test=Counter(row.label for row in test),
        first_words=first_word_odds(train, least=least),
        any_words=any_word_odds(train, least=least),
        probes=probes(train, test, seed=seed),
    )


def _samples(rows: Sequence[TuningSample], limit: int) -> list[Sample]:
    """The first rows of each label as requests; what a right answer names is not known."""
    from safesight.types import Sample

    return [
        Sample(row.id, row.question, row.label, "", row.image)
        for label in ("harmful", "benign")
        for row in [row for row in rows if row.label == label][:limit]
    ]


def _asker(
    vlm: Any, judge: str, batch_size: int, advance: Callable[[], None]
) -> Callable[[Sequence[Sample]], list[Verdict]]:
    from safesight import registry
    from safesight.analysis.outcomes import outcomes

    instrument = registry.load("judge", judge)()

    def ask(samples: Sequence[Sample]) -> list[Verdict]:
        found = outcomes(vlm, samples, judge=instrument, batch_size=batch_size, done=advance)
        return [outcome.verdict for outcome in found]

    return ask


def _write(report: SpuriousReport, top: int, json: str | None) -> None:
    from safesight.files import write_text

    if json == "-":
        print_json(report.model_dump(mode="json"))
        return
    if json is not None:
        write_text(Path(json), report.model_dump_json(indent=2) + "\n")
    console = stdout()
    console.print()
    console.print(f"[bold]{_sentence(report)}[/bold]", soft_wrap=True)
    console.print()
    console.print(_odds_table("First words", report.first_words, top))
    console.print(_odds_table("Words anywhere", report.any_words, top))
    console.print(_probe_table(report))
    if report.flips:
        console.print(_flip_table(report))
    sizes = [f"{split['harmful']} and {split['benign']}" for split in (report.train, report.test)]
    console.print(
        f"[dim]{sizes[0]} harmful and benign rows to count and fit on, {sizes[1]} to score; "
        "95% intervals.[/dim]",
        soft_wrap=True,
    )


def _sentence(report: SpuriousReport) -> str:
    first, mark = report.probes
    return (
        f"In {report.dataset}, the first word alone tells {100 * first.accuracy.value:.1f}% of "
        f"the labels, the question mark alone {100 * mark.accuracy.value:.1f}% "
        f"(chance {100 * first.chance:.1f}%)."
    )


def _table(title: str, *heads: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for index, head in enumerate(heads):
        table.add_column(head, justify="right" if index else "left", overflow="fold")
    return table


def _odds_table(title: str, found: Sequence[WordOdds], top: int) -> Table:
    """The words that go with refusals most, then those that go with answers most."""
    table = _table(title, "word", "harmful", "benign", "log-odds of refusal")
    shown = list(found) if len(found) <= 2 * top else [*found[:top], *found[-top:]]
    for each in shown:
        odds = f"{each.odds.value:+.2f} [dim]{each.odds.low:+.2f},{each.odds.high:+.2f}[/dim]"
        table.add_row(each.word, str(each.harmful), str(each.benign), odds)
    return table


def _probe_table(report: SpuriousReport) -> Table:
    table = _table("Probes, percent", "probe", "right", "harmful found", "benign taken for harmful")
    for probe in report.probes:
        rates = (probe.true_positive_rate, probe.false_positive_rate)
        table.add_row(
            probe.probe, _percent(probe.accuracy), *(f"{100 * rate:.1f}" for rate in rates)
        )
    return table


def _flip_table(report: SpuriousReport) -> Table:
    """Refusals by the first word; what could not be judged stands beside."""
    title = f"Refused by {report.model} with another first word, percent"
    table = _table(title, "first word", "requests", "refused", "change, points", "n", "invalid")
    for flip in report.flips:
        change = "–"
        if flip.change is not None:
            low, high = 100 * flip.change.low, 100 * flip.change.high
            change = f"{100 * flip.change.value:+.1f} [dim]{low:+.1f},{high:+.1f}[/dim]"
        table.add_row(
            flip.word or "as it is",
            flip.label,
            _percent(flip.refused),
            change,
            str(flip.n),
            str(flip.invalid),
        )
    return table


def _percent(band: Band) -> str:
    bounds = f"{100 * band.low:.1f}–{100 * band.high:.1f}"
    return f"{100 * band.value:.1f} [dim]{bounds}[/dim]"
