"""Risk maps of a run: drawn with the model, kept beside the logs, veiled on the page."""

from __future__ import annotations

from pathlib import Path

import pytest

from safesight.errors import StorageError
from safesight.report import render
from safesight.report.risk import RISK_MAPS, draw_risk, read_risk, write_risk
from tests import tiny
from tests.contracts.defense_helpers import fitted, sample
from tests.report.fakes import card

SAMPLES = [("image_harm", sample(1, "harmful", True)), ("vqa", sample(7, "benign", True))]


def test_maps_are_kept_and_read_back(tmp_path: Path) -> None:
    maps = draw_risk(tiny.vlm("llava"), fitted("rai", "llava"), SAMPLES)
    assert [(one.task, one.label) for one in maps] == [("image_harm", "harmful"), ("vqa", "benign")]
    assert all(one.visual_tokens == 16 and one.heat != one.picture for one in maps)
    write_risk(tmp_path, maps)
    assert read_risk(tmp_path) == maps


def test_a_model_without_a_grid_has_no_maps() -> None:
    vlm = tiny.vlm("llava_next")
    assert draw_risk(vlm, fitted("rai", "llava_next"), SAMPLES) == []


def test_harmful_pictures_are_veiled_or_left_out() -> None:
    maps = draw_risk(tiny.vlm("llava"), fitted("rai", "llava"), SAMPLES)
    page = render(card(), risk=maps)
    assert all(one.heat in page and one.picture in page for one in maps)
    before = page[: page.index(maps[0].heat)]
    assert before.rindex('id="risk-1" aria-hidden="true" inert') > before.rindex('id="risk"')
    assert 'id="risk-2"' not in page
    cut = render(card(), risk=maps, redaction="remove")
    assert maps[0].heat not in cut
    assert maps[1].heat in cut
    assert 'id="risk"' not in render(card())


def test_no_file_is_no_maps_and_a_damaged_one_an_error(tmp_path: Path) -> None:
    assert read_risk(tmp_path) == []
    (tmp_path / RISK_MAPS).write_text("[{")
    with pytest.raises(StorageError, match="Delete it to continue"):
        read_risk(tmp_path)


def test_every_picture_of_a_sample_has_a_map() -> None:
    samples = [("vqa", sample(5, "benign", True)), *SAMPLES]
    maps = draw_risk(tiny.vlm("llava"), fitted("rai", "llava"), samples)
    assert [one.sample_id for one in maps] == ["benign-5", "benign-5", "harmful-1", "benign-7"]
    assert len({one.picture for one in maps}) == 4
