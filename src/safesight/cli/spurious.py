"""`safesight spurious`: which words predict refusals in a data set, and how a model reacts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from safesight.cli.options import (
    DataOptions,
    JsonFile,
    Judge,
    Loading,
    Seed,
    check_names,
    check_output,
    loads_model,
    names_of,
    values_of,
)
from safesight.cli.show import examples, print_json, print_sentence
from safesight.console import stdout, steps, waiting
from safesight.errors import InputError
from safesight.grid import Column, Grid, print_grid

if TYPE_CHECKING:
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
        Path | None, typer.Option(metavar="DIR", help="Folder with the files of the data set.")
    ] = None,
    rho: Annotated[
        float | None, typer.Option(min=0, max=1, help="Correlation of cue and label (mirage only).")
    ] = None,
    data_options: DataOptions = None,
    n: Annotated[
        int | None, typer.Option("--n", min=2, help="Rows per split. Default: all.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Words to show per label.")] = 8,
    least: Annotated[int, typer.Option(min=1, help="Minimum number of rows with a word.")] = 10,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Model to ask with the first word replaced.")
    ] = None,
    words: Annotated[
        str, typer.Option(help="First words to try, comma-separated.")
    ] = "what,how,can,describe,share",
    limit: Annotated[int, typer.Option(min=1, help="Test rows per label to ask the model.")] = 100,
    judge: Judge = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Maximum batch size.")] = 16,
    seed: Seed = 0,
    json: JsonFile = None,
) -> None:
    """Find words that predict refusals, and ask a model again with the first word replaced."""
    check_names("dataset", [dataset])
    from safesight.grammar import BUNDLED
    from safesight.judges.scope import judge_for

    chosen = judge_for(model or BUNDLED, dataset, judge, kind="dataset")
    if model is None and loading:
        raise InputError(f"{_spelled(loading)} says how a model is loaded. Name one with --model.")
    first = names_of(words)
    check_output(json, data)
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
            asked = _asker(vlm, chosen, batch_size, advance)
            found = flips(samples, first, asked, seed=seed)
        report = report.model_copy(update={"model": model, "flips": found})
    _write(report, top, json)


def _spelled(loading: Loading) -> str:
    """The first of the options that were given, as on the command line."""
    name = next(iter(loading)).removesuffix("_config")
    return f"--{name.replace('_', '-')}"


def _options(
    dataset: str, data: Path | None, rho: float | None, more: dict[str, Any]
) -> dict[str, Any]:
    """The options for the loader of the data set.

    Raises:
        InputError: the data set does not take an option, or an option is given twice.
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
    from safesight.training.rows import load_dataset

    return load_dataset(dataset)(n, seed=seed, split=split, **options)


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
    """The first rows of each label as requests, without a known right answer."""
    from safesight.types import Sample

    return [
        Sample(row.id, row.question, row.label, "", row.image, facts=_about(row))
        for label in ("harmful", "benign")
        for row in [row for row in rows if row.label == label][:limit]
    ]


def _about(row: TuningSample) -> dict[str, str]:
    return {} if row.group is None else {"group": row.group}


def _asker(
    vlm: Any, judge: str, batch_size: int, advance: Callable[[], None]
) -> Callable[[Sequence[Sample]], list[Verdict]]:
    from safesight.analysis.outcomes import outcomes
    from safesight.grammar import load_judge

    instrument = load_judge(judge)

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
    print_sentence(_sentence(report), console, "bold")
    console.print()
    print_grid(console, _odds_table("First words", report.first_words, top))
    print_grid(console, _odds_table("Words anywhere", report.any_words, top))
    print_grid(console, _probe_table(report))
    if report.flips:
        print_grid(console, _flip_table(report))
    sizes = [f"{split['harmful']} and {split['benign']}" for split in (report.train, report.test)]
    print_sentence(
        f"{sizes[0]} harmful and benign rows to count and fit on, {sizes[1]} to score; "
        "95% intervals.",
        console,
        "dim",
    )


def _sentence(report: SpuriousReport) -> str:
    first, mark = report.probes
    return (
        f"In {report.dataset}, the first word alone tells {100 * first.accuracy.value:.1f}% of "
        f"the labels, the question mark alone {100 * mark.accuracy.value:.1f}% "
        f"(chance {100 * first.chance:.1f}%)."
    )


def _odds_table(title: str, found: Sequence[WordOdds], top: int) -> Grid:
    """The words most typical of refusals, then those most typical of answers."""
    shown = list(found) if len(found) <= 2 * top else [*found[:top], *found[-top:]]
    columns = [
        Column(("harmful",), [(str(each.harmful),) for each in shown]),
        Column(("benign",), [(str(each.benign),) for each in shown]),
        Column(("log-odds of refusal",), [_signed(each.odds, "+.2f") for each in shown]),
    ]
    return Grid(title, [each.word for each in shown], columns, corner=("word",))


def _probe_table(report: SpuriousReport) -> Grid:
    probes = report.probes
    columns = [
        Column(("right",), [_percent(probe.accuracy) for probe in probes]),
        Column(("harmful found",), [(_share(probe.true_positive_rate),) for probe in probes]),
        Column(
            ("benign taken for harmful",),
            [(_share(probe.false_positive_rate),) for probe in probes],
        ),
    ]
    labels = [probe.probe for probe in probes]
    return Grid("Probes, percent", labels, columns, corner=("probe",))


def _flip_table(report: SpuriousReport) -> Grid:
    """Refusals by the first word, with the number of answers that could not be judged."""
    flips = report.flips
    columns = [
        Column(("requests",), [(flip.label,) for flip in flips]),
        Column(("refused",), [_percent(flip.refused) for flip in flips]),
        Column(
            ("change, points",),
            [
                ("–",) if flip.change is None else _signed(flip.change, "+.1f", 100)
                for flip in flips
            ],
        ),
        Column(("n",), [(str(flip.n),) for flip in flips]),
        Column(("invalid",), [(str(flip.invalid),) for flip in flips]),
    ]
    title = f"Refused by {report.model} with another first word, percent"
    labels = [flip.word or "unchanged" for flip in flips]
    return Grid(title, labels, columns, corner=("first word",))


def _signed(band: Band, form: str, scale: int = 1) -> tuple[str, str]:
    low, high = (format(scale * bound, form) for bound in (band.low, band.high))
    return format(scale * band.value, form), f"{low},{high}"


def _percent(band: Band | None) -> tuple[str, ...]:
    if band is None:
        return ("none judged",)
    return _share(band.value), f"{100 * band.low:.1f}–{100 * band.high:.1f}"


def _share(value: float) -> str:
    return f"{100 * value:.1f}"
