"""`safesight calibrate`: set the threshold of a fitted detector on your own benign prompts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from safesight.cli.options import (
    Columns,
    JsonFile,
    Loading,
    Model,
    Seed,
    check_apart,
    check_names,
    check_output,
    loads_model,
    pairs_of,
)
from safesight.cli.show import examples, print_sentence, write_json
from safesight.console import numbered, stderr, stdout, waiting
from safesight.errors import InputError, StorageError
from safesight.files import check_place
from safesight.grid import Column, Grid, print_grid
from safesight.workflows.calibration_plan import CalibrationPlan

if TYPE_CHECKING:
    from safesight.defenses import Artifact
    from safesight.fitting.ranges import Spread
    from safesight.workflows.calibrating import Achieved, Calibrated

__all__ = ["EXAMPLES", "calibrate"]

EXAMPLES = examples(
    "safesight calibrate sasa --data mine.jsonl -o artifacts/sasa-mine",
    "safesight calibrate probe --model ./my-model --artifact artifacts/probe --data mine.csv "
    "--fpr 0.05 -o artifacts/probe-mine",
    "safesight calibrate sasa --data mine.jsonl --layers auto -o artifacts/sasa-mine",
)

_Artifact = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="Folder of the fitted detector. Default: the one that is bundled."
    ),
]
_Data = Annotated[
    str,
    typer.Option(metavar="FILE", help="Prompts, of which the benign ones set the threshold."),
]
_Fpr = Annotated[float, typer.Option(help="The largest share of benign prompts to refuse.")]
_Layers = Annotated[
    str | None,
    typer.Option(
        metavar="auto",
        help="Choose layers again, which fits the detector on harmful and benign rows of --data.",
    ),
]


@loads_model
def calibrate(
    loading: Loading,
    defense: Annotated[str, typer.Argument(help="A detector; see `safesight list defenses`.")],
    data: _Data,
    output: Annotated[Path, typer.Option("--output", "-o", help="New folder to write.")],
    model: Model = "testbed",
    artifact: _Artifact = None,
    fpr: _Fpr = 0.01,
    column: Columns = None,
    layers: _Layers = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Maximum batch size.")] = 16,
    seed: Seed = 0,
    json: JsonFile = None,
) -> None:
    """Set the threshold of a detector on benign prompts, and check it on others.

    The benign rows are divided by group: half of the groups set the threshold, the others show what
    it refuses. The new folder is an artifact like any other; the given one is left as it is.
    """
    check_names("defense", [defense])
    _check_places(output, json, data)
    _check_layers(layers)
    plan = CalibrationPlan(fpr, seed, batch_size)
    with waiting(f"Loading {model}"):
        from safesight.data import read_data
        from safesight.defenses import Artifact, load_defense
        from safesight.fitting.bundled import bundled
        from safesight.models import VLM
        from safesight.workflows.calibrating import (
            benign_rows,
            check_detector,
            chosen_again,
        )
        from safesight.workflows.calibrating import calibrate as calibrated

        detector = load_defense(defense)
        check_detector(detector)
        rows = read_data(data, pairs_of(column or [], "--column"))
        benign_rows(rows)  # refused before the model is loaded
        given = None if artifact is None else Artifact.load(artifact)
        vlm = VLM.load(model, **loading)
        given = bundled(defense, vlm) if given is None else given
        detector.resolve(vlm, given)
    fit = None
    if layers is not None:
        fit = chosen_again(vlm, detector, given, rows, seed=seed)
    found, report = calibrated(vlm, detector, given, rows, plan, fit=fit)
    with waiting("Writing the artifact"):
        from safesight.defenses.reference import with_reference

        with_reference(vlm, detector, found).save(output)
    if json is not None:
        write_json(report, json)
    if json != "-":
        _print(report, fit, listed=bool(given.split))
    stderr().print(f"Artifact: {output}", soft_wrap=True)


def _check_places(output: Path, json: str | None, data: str) -> None:
    """Refuse places that cannot be written, before the work starts.

    Raises:
        StorageError: there is something in the folder already, or a place cannot be written.
        InputError: a place is what the command reads.
    """
    check_apart(output, data)
    check_output(json, data)
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise StorageError(
            f"{output} exists already and was left alone. Choose a new folder with --output."
        )
    check_place(output, folder=True)


def _check_layers(layers: str | None) -> None:
    if layers not in (None, "auto"):
        raise InputError(
            f"--layers {layers} is not possible: layers are chosen again, or kept. Use --layers "
            "auto, or leave it out."
        )


def _print(found: Calibrated, fit: Artifact | None, *, listed: bool) -> None:
    console = stdout()
    console.print()
    print_sentence(
        f"{found.defense} on {found.model} now refuses prompts that score {found.threshold:.4g} or "
        f"more; until now {found.before:.4g}.",
        console,
        "bold",
    )
    console.print()
    print_grid(console, _table(found))
    for sentence in (
        *_sentences(found, fit, listed),
        "With exact 95% intervals (Clopper-Pearson).",
    ):
        print_sentence(sentence, console, "dim")
    if warning := _warning(found):
        console.print()
        print_sentence(warning, console, "bold")


def _table(found: Calibrated) -> Grid:
    rows = {
        "that set the threshold": found.set_on,
        "that did not": found.checked_on,
        "all, old threshold": found.refused_before,
    }
    shown = {label: rate for label, rate in rows.items() if rate is not None}
    columns = [
        Column(("refused",), [_rate(rate) for rate in shown.values()]),
        Column(("rows",), [(str(rate.n),) for rate in shown.values()]),
        Column(("groups",), [(str(rate.groups),) for rate in shown.values()]),
    ]
    title = f"Benign rows of {found.source} that are refused, percent"
    return Grid(title, list(shown), columns, corner=("rows",))


def _rate(rate: Achieved) -> tuple[str, ...]:
    return f"{100 * rate.value:.1f}", f"{100 * rate.low:.1f}–{100 * rate.high:.1f}"


def _sentences(found: Calibrated, fit: Artifact | None, listed: bool) -> Iterator[str]:
    if fit is not None:
        data, read = fit.card["data"], fit.fitted.get("layers", fit.fitted.get("layer"))
        several = isinstance(read, Sequence)
        blocks = f"blocks {', '.join(map(str, read))}" if several else f"block {read}"
        yield (
            f"It was fitted again, on {data['harmful']} harmful and {data['benign']} benign rows, "
            f"and reads {blocks}."
        )
    if found.left_out:
        rows = numbered(found.left_out, "benign row")
        yield f"Left out: {rows} that a fit or an earlier calibration saw, or of the same group."
    elif not listed:
        yield (
            "The artifact does not list the rows that it was fitted on, so rows that it has seen "
            "would not be noticed."
        )
    if found.checked_on is None:
        yield "All rows are of one group, so none is left to check the threshold on."
    yield f"These prompts score {_spread(found.scores)}."
    if found.scores_before is not None and not found.fitted_again:
        yield f"Those that set the threshold until now scored {_spread(found.scores_before)}."


def _spread(scores: Spread) -> str:
    return (
        f"{scores.median:.3g} in the middle, and 98% of them {scores.q01:.3g} to {scores.q99:.3g}"
    )


def _warning(found: Calibrated) -> str | None:
    if not found.few:
        return None
    wanted = f"{100 * found.fpr:g}%"
    refused = ""
    if found.missed and found.checked_on is not None:
        refused = (
            f" It refuses {100 * found.checked_on.value:.1f}% of those, not {wanted}, so it may be "
            "of no use."
        )
    return (
        f"Warning: {numbered(found.set_on.n, 'row')} set the threshold, and {found.checks} check "
        f"it.{refused} To show that no more than {wanted} of such prompts are refused takes "
        f"{found.needed} or more of each."
    )
