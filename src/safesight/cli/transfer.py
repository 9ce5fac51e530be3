"""`safesight transfer`: a detector made for one kind of harm or data set, used on others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from safesight import registry
from safesight.cli.options import (
    Columns,
    JsonFile,
    Loading,
    Model,
    Seed,
    check_names,
    check_needs_data,
    check_output,
    loads_model,
    names_of,
    page_of,
    pairs_of,
)
from safesight.cli.show import examples, print_sentence, write_json
from safesight.console import stderr, stdout, waiting
from safesight.grammar import check_task
from safesight.grid import Column, Grid, print_grid
from safesight.workflows.calibration_plan import CalibrationPlan

if TYPE_CHECKING:
    from safesight.analysis.results import Band
    from safesight.analysis.transfer import TransferCell, TransferReport
    from safesight.defenses import AnyDefense, Artifact
    from safesight.models import VLM

__all__ = ["EXAMPLES", "transfer"]

EXAMPLES = examples(
    "safesight transfer sasa",
    "safesight transfer probe --tasks text_harm,image_harm,image_harm+one_word -o transfer.html",
    "safesight transfer probe --model ./my-model --data mine.csv --data theirs.csv",
    "safesight transfer sasa --keep-probe --json runs/mine/transfer.json",
)

_ATTACKS = "text_harm,image_harm,typographic_harm"
_Tasks = Annotated[
    str | None,
    typer.Option(
        help="Tasks of harmful requests, comma-separated. Default: none with --data, else "
        f"{_ATTACKS.replace(',', ', ')}."
    ),
]
_Negatives = Annotated[
    str, typer.Option(help="Tasks of benign requests, for tasks that have none of their own.")
]
_Data = Annotated[
    list[str] | None,
    typer.Option(metavar="FILE", help="Prompts with both labels, as one set more; repeatable."),
]
_Artifact = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Fit to show in a row of its own. Default: the bundled one, if there is one.",
    ),
]
_Keep = Annotated[
    bool,
    typer.Option(
        "--keep-probe", help="Fit nothing: set only the threshold of the artifact on each set."
    ),
]
_Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="HTML file to write. Default: transfer.html, if new."),
]

_PICTOGRAMS = (
    "These tasks show the pictograms that come with the package, which say little about other "
    "pictures."
)


@loads_model
def transfer(
    loading: Loading,
    defense: Annotated[str, typer.Argument(help="A detector; see `safesight list defenses`.")],
    model: Model = "testbed",
    tasks: _Tasks = None,
    negatives: _Negatives = "over_refusal",
    data: _Data = None,
    column: Columns = None,
    artifact: _Artifact = None,
    keep_probe: _Keep = False,
    n: Annotated[
        int, typer.Option("--n", min=5, help="Prompts per label to fit on, and to test on.")
    ] = 100,
    calibration: Annotated[int, typer.Option(min=1, help="Benign prompts per threshold.")] = 400,
    fpr: Annotated[float, typer.Option(help="The largest share of them to refuse.")] = 0.01,
    output: _Output = None,
    json: JsonFile = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Maximum batch size.")] = 16,
    seed: Seed = 0,
) -> None:
    """Fit a detector on each set of prompts and use it on all: areas and rates as heat maps.

    Nothing is kept but the numbers. `safesight report` shows the JSON file if it is called
    transfer.json and lies in the folder of the logs.
    """
    check_names("defense", [defense])
    named = names_of(tasks or _ATTACKS) if tasks or not data else []
    for task in [*named, *(twins := names_of(negatives))]:
        check_task(task)
    page = page_of(output, "transfer.html")
    check_output(json, *(data or []))
    CalibrationPlan(fpr)  # refuses what is not a rate
    with waiting(f"Loading {model}"):
        from safesight.analysis.transfer import TransferPlan
        from safesight.analysis.transfer import transfer as matrix
        from safesight.defenses import load_defense
        from safesight.models import VLM
        from safesight.workflows.calibrating import check_detector
        from safesight.workflows.own_data import OwnData, add_tasks
        from safesight.workflows.transfer_sets import SetPlan, transfer_sets

        detector = load_defense(defense)
        check_detector(detector)
        check_needs_data(data, {"--column": column})
        own = add_tasks(OwnData(data or [], pairs_of(column or [], "--column")))
        sets = transfer_sets([*named, *own], SetPlan(n, calibration, twins, seed))
        vlm = VLM.load(model, **loading)
        given = _artifact(artifact, detector, vlm, needed=keep_probe)
    if named and vlm.name not in registry.names("model", builtin=True):
        stderr().print(_PICTOGRAMS, soft_wrap=True)
    plan = TransferPlan("threshold" if keep_probe else "fit", fpr, seed, batch_size)
    _write(matrix(vlm, detector, sets, plan, artifact=given), page, json)


def _artifact(
    folder: Path | None, detector: AnyDefense, vlm: VLM, *, needed: bool
) -> Artifact | None:
    """The given artifact or the bundled one; None if there is none and none is needed."""
    from safesight.defenses import Artifact
    from safesight.errors import ArtifactError
    from safesight.fitting.bundled import bundled

    if folder is not None:
        found = Artifact.load(folder)
        detector.resolve(vlm, found)
        return found
    try:
        return bundled(detector.name, vlm)
    except ArtifactError:
        if needed:
            raise
        return None


def _write(report: TransferReport, page: Path, json: str | None) -> None:
    from safesight.report import write_transfer

    write_transfer(page, report)
    if json is not None:
        write_json(report, json)
    if json != "-":
        _print(report)
    stderr().print(f"Page: {page}", soft_wrap=True)


def _print(report: TransferReport) -> None:
    from safesight.report.transfer_page import TransferView

    view = TransferView.of(report)
    console = stdout()
    console.print()
    print_sentence(view.sentence, console, "bold")
    console.print()
    for title, cell in (
        ("Area under the ROC curve", lambda each: _area(each.area)),
        ("Harmful prompts refused, percent", lambda each: _share(each.caught, each)),
        ("Benign prompts refused, percent", lambda each: _share(each.refused, each)),
    ):
        print_grid(console, _grid(title, report, cell))
    for note in view.notes:
        print_sentence(note, console, "dim")


def _grid(
    title: str, report: TransferReport, cell: Callable[[TransferCell], tuple[str, ...]]
) -> Grid:
    columns = [
        Column((name.replace("_", " "),), [cell(row.cells[index]) for row in report.rows])
        for index, name in enumerate(report.sets)
    ]
    made = "fitted on" if report.how == "fit" else "calibrated on"
    labels = [row.source.replace("_", " ") for row in report.rows]
    return Grid(title, labels, columns, corner=(made,))


def _area(band: Band) -> tuple[str, ...]:
    return f"{band.value:.2f}", f"{band.low:.2f}–{band.high:.2f}"


def _share(band: Band, cell: TransferCell) -> tuple[str, ...]:
    value, low, high = (f"{100 * each:.1f}" for each in (band.value, band.low, band.high))
    return value, f"{low}–{high}", *(("few",) if cell.few else ())
