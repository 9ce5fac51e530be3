"""The page of a transfer matrix, alone and in a report: numbers, marks, nothing loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from safesight.analysis.results import Band
from safesight.analysis.transfer import AS_IT_IS, TransferCell, TransferReport, TransferRow
from safesight.errors import InputError, StorageError
from safesight.report import read_transfer, render, transfer_sentence, write_transfer
from safesight.report.transfer_page import TRANSFER
from tests.report.fakes import card
from tests.report.layer_fakes import MARKUP
from tests.report.test_html import LOADS, Page
from tests.report.test_layer_section import _card


def band(value: float) -> Band:
    return Band(value=value, low=max(0.0, value - 0.05), high=min(1.0, value + 0.05))


def cell(area: float, n: int = 50) -> TransferCell:
    return TransferCell(
        area=band(area), caught=band(area), refused=band(0.02), harmful=n, benign=n + 1
    )


def report(*, identity: str = "ab" * 32, name: str = "image_harm") -> TransferReport:
    rows = {AS_IT_IS: (0.9, 0.8), "text_harm": (0.97, 0.61), name: (0.7, 0.99)}
    return TransferReport(
        model="toy",
        identity=identity,
        defense="probe",
        how="fit",
        fpr=0.01,
        seed=0,
        sets=["text_harm", name],
        rows=[
            TransferRow(
                source=source,
                threshold=1.0,
                fitted=0 if source == AS_IT_IS else 200,
                calibrated=0 if source == AS_IT_IS else 100,
                cells=[cell(one), cell(other, n=12)],
            )
            for source, (one, other) in rows.items()
        ],
        created="2030-01-01T00:00:00+00:00",
        seconds=1.0,
    )


def test_the_sentence_names_the_worst_cell_away_from_home() -> None:
    said = transfer_sentence(report())
    assert "at least 61.0% of harmful prompts (fitted on text_harm, used on image_harm)" in said
    assert "at most 2.0% of benign ones" in said
    assert said.endswith("On the set that it was fitted on, at least 97.0% and at most 2.0%.")


def test_every_cell_has_its_interval_and_n_and_few_are_marked(tmp_path: Path) -> None:
    page = Page(write_transfer(tmp_path / "t.html", report()).read_text())
    assert page.open == []
    cells = page.of("td")
    assert len(cells) == 18
    assert len([each for each in cells if "home" in str(each["class"]).split()]) == 6
    assert page.places_of("0.61")
    assert page.places_of("0.56–0.66")
    assert page.places_of("n 50 + 51")
    assert page.places_of("n 12 + 13, few")
    assert page.places_of("fit 200, threshold 100")
    notes = " ".join(data for data, path in page.texts if path and path[-1][0] == "p")
    assert "Thresholds were set on 100 benign prompts or more; 368 are needed" in notes
    assert "fewer than 30 prompts" in notes
    for _, attrs in page.elements:
        assert not LOADS & attrs.keys() or str(attrs.get("href", "#")).startswith("#")


def test_a_report_has_a_section_if_the_folder_holds_a_matrix(tmp_path: Path) -> None:
    assert read_transfer(tmp_path, card()) is None
    (tmp_path / TRANSFER).write_text(report().model_dump_json())
    found = read_transfer(tmp_path, _card("ab" * 32))
    assert found == report()
    page = Page(render(card(), transfer=found))
    assert page.of("section", id="transfer")
    assert page.of("a", href="#transfer")
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert not Page(render(card())).of("section", id="transfer")


def test_a_matrix_of_another_model_or_a_damaged_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / TRANSFER).write_text(report().model_dump_json())
    with pytest.raises(InputError, match=r"of 'toy' \(abababababab\).*\(cdcdcdcdcdcd\)"):
        read_transfer(tmp_path, _card("cd" * 32))
    (tmp_path / TRANSFER).write_text("{}")
    with pytest.raises(StorageError, match="safesight transfer --json"):
        read_transfer(tmp_path, card())


def test_names_are_text_and_never_markup() -> None:
    text = render(card(), transfer=report(name=MARKUP))
    assert MARKUP not in text
    assert Page(text).places_of(MARKUP)
