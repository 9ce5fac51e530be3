"""The page of a transfer matrix: a sentence, three heat maps with n and intervals, the method.

Reads a `TransferReport` and writes text; measures nothing. The template is `page/transfer.html.j2`;
`page/transfer_parts.html.j2` is shared with a scorecard's report, and `TransferView` fills both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from safesight.analysis.results import Band
from safesight.analysis.transfer import AS_IT_IS, FEW, TransferCell, TransferReport, TransferRow
from safesight.errors import InputError
from safesight.files import write_text
from safesight.records import read_record
from safesight.report.closed import assemble
from safesight.report.layer_figures import STRONGEST
from safesight.stats.rates import rows_for

if TYPE_CHECKING:
    from safesight.compare import Scorecard

__all__ = [
    "TRANSFER",
    "HeatCell",
    "HeatMap",
    "TransferView",
    "read_transfer",
    "transfer_sentence",
    "write_transfer",
]

TRANSFER = "transfer.json"
"""The file in a folder of logs that a report shows."""


@dataclass(frozen=True)
class HeatCell:
    """One cell, ready to print."""

    text: str
    interval: str
    n: str
    heat: int
    """Percent of color."""
    few: bool
    home: bool
    """Whether the detector is used where it was made."""


@dataclass(frozen=True)
class HeatMap:
    """One number of every cell."""

    key: str
    heading: str
    lead: str
    tint: str
    """A class of the style sheet."""
    rows: list[tuple[str, str, list[HeatCell]]]
    """The name of each row, what it was made from, and its cells."""


@dataclass(frozen=True)
class TransferView:
    """A matrix for the templates, as a page or as a section of another page."""

    report: TransferReport
    sentence: str
    maps: list[HeatMap]
    notes: list[str]

    @classmethod
    def of(cls, report: TransferReport) -> TransferView:
        """Prepare all text."""
        return cls(report, transfer_sentence(report), _maps(report), _notes(report))


def transfer_sentence(report: TransferReport) -> str:
    """What is refused at worst where the detector was not made, and where it was."""
    cells = [
        (cell, row.source, name)
        for row in report.rows
        for name, cell in zip(report.sets, row.cells, strict=True)
        if row.source != AS_IT_IS
    ]
    home = [cell for cell, source, name in cells if source == name]
    away = [each for each in cells if each[1] != each[2]]
    if not home or not away:
        return f"{report.defense} on {report.model}, on {len(report.sets)} sets of prompts."
    made = _made(report)
    missed = min(away, key=lambda each: each[0].caught.value)
    bothered = max(away, key=lambda each: each[0].refused.value)
    return (
        f"{report.defense} on {report.model}, {made} one set and used on another, refuses at least "
        f"{_percent(missed[0].caught)} of harmful prompts ({made} {missed[1]}, used on "
        f"{missed[2]}) and at most {_percent(bothered[0].refused)} of benign ones ({made} "
        f"{bothered[1]}, used on {bothered[2]}). On the set that it was {made}, at least "
        f"{_percent(min((cell.caught for cell in home), key=_value))} and at most "
        f"{_percent(max((cell.refused for cell in home), key=_value))}."
    )


def _value(band: Band) -> float:
    return band.value


def _percent(band: Band) -> str:
    return f"{100 * band.value:.1f}%"


def write_transfer(path: str | Path, report: TransferReport) -> Path:
    """Render the page and write it atomically.

    Raises:
        StorageError: the file cannot be written.
    """
    text = assemble("transfer.html.j2", style="report.css", matrix=TransferView.of(report))
    return write_text(Path(path), text)


def read_transfer(log_dir: str | Path, card: Scorecard) -> TransferReport | None:
    """The matrix in a folder of logs; None if there is none.

    Raises:
        StorageError: the file is damaged.
        InputError: it is of another model than the answers.
    """
    found = read_record(
        Path(log_dir) / TRANSFER, TransferReport, "Write it again: safesight transfer --json."
    )
    answered = card.provenance.model_identity
    if found is not None and answered and found.identity != answered:
        raise InputError(
            f"{TRANSFER} in {log_dir} is of {found.model!r} ({found.identity[:12]}) and the logs "
            f"are of {card.model!r} ({answered[:12]}). Run safesight transfer on the model of the "
            "logs, or move the file."
        )
    return found


def _made(report: TransferReport) -> str:
    return "fitted on" if report.how == "fit" else "calibrated on"


def _maps(report: TransferReport) -> list[HeatMap]:
    wanted = f"{100 * report.fpr:g}%"
    return [
        _map(
            report,
            (
                "area",
                "Area under the ROC curve",
                "1 is perfect, 0.5 is chance. It needs no threshold.",
            ),
            "less",
            _area,
        ),
        _map(
            report,
            (
                "caught",
                "Harmful prompts refused (%)",
                f"At each row's threshold, set for at most {wanted} of benign prompts there. "
                "Higher is better.",
            ),
            "less",
            _caught,
        ),
        _map(
            report,
            (
                "refused",
                "Benign prompts refused (%)",
                f"At the same thresholds. {wanted} was allowed.",
            ),
            "more",
            _refused,
        ),
    ]


def _map(
    report: TransferReport,
    words: tuple[str, str, str],
    tint: str,
    cell: Callable[[TransferCell, bool], HeatCell],
) -> HeatMap:
    key, heading, lead = words
    rows = [
        (
            row.source,
            _made_from(row),
            [
                cell(each, name == row.source)
                for name, each in zip(report.sets, row.cells, strict=True)
            ],
        )
        for row in report.rows
    ]
    return HeatMap(f"transfer-{key}", heading, lead, tint, rows)


def _made_from(row: TransferRow) -> str:
    parts = [f"fit {row.fitted}"] if row.fitted else []
    parts += [f"threshold {row.calibrated}"] if row.calibrated else []
    return ", ".join(parts)


def _area(cell: TransferCell, home: bool) -> HeatCell:
    band = cell.area
    return HeatCell(
        f"{band.value:.2f}",
        f"{band.low:.2f}–{band.high:.2f}",
        f"n {cell.harmful} + {cell.benign}",
        round(STRONGEST * max(0.0, 2 * band.value - 1)),
        cell.few,
        home,
    )


def _caught(cell: TransferCell, home: bool) -> HeatCell:
    return _share(cell.caught, cell.harmful, home)


def _refused(cell: TransferCell, home: bool) -> HeatCell:
    return _share(cell.refused, cell.benign, home)


def _share(band: Band, n: int, home: bool) -> HeatCell:
    value, low, high = (f"{100 * each:.1f}" for each in (band.value, band.low, band.high))
    heat = round(STRONGEST * band.value)
    return HeatCell(value, f"{low}–{high}", f"n {n}", heat, n < FEW, home)


def _notes(report: TransferReport) -> list[str]:
    """What a reader of the numbers should know."""
    notes = [
        "Rows: where the detector was made. Columns: where it is used, on prompts of a test split.",
        "95% intervals over the things that prompts are about: Newcombe's of an area; of a rate "
        "the bootstrap, or Wilson's where each prompt is about a thing of its own.",
    ]
    needed = rows_for(report.fpr)
    fewest = min([row.calibrated for row in report.rows if row.calibrated], default=needed)
    if fewest < needed:
        notes.append(
            f"Thresholds were set on {fewest} benign prompts or more; {needed} are needed to show "
            f"that a threshold refuses at most {100 * report.fpr:g}%."
        )
    if any(cell.few for row in report.rows for cell in row.cells):
        notes.append(f"“few”: fewer than {FEW} prompts of a label, so the cell says little.")
    return [*notes, *report.notes]
