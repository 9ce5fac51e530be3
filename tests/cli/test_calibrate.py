"""`safesight calibrate` and `safesight transfer`: what they print, write and refuse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from safesight.analysis.transfer import TransferReport
from safesight.cli.calibrate import _warning
from safesight.defenses import Artifact
from safesight.fitting.bundled import place_in
from safesight.workflows.calibrating import Calibrated
from tests import tiny
from tests.cli.test_main import fails, run


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model")
    vlm = tiny.vlm("llava")
    vlm.model.save_pretrained(folder)
    vlm.processor.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def probe(model: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("fit") / "probe"
    words = ["--pool", "60", "--share", "0.3", "--calibration", "6", "--set", "folds=2"]
    result = run("fit", "probe", "--model", model, "-o", str(folder), *words)
    assert result.exit_code == 0, result.output
    return str(folder)


def written(path: Path, *counts: tuple[str, int]) -> str:
    path.write_text(
        "\n".join(
            json.dumps({"ask": f"what is {label} {i}?", "label": label, "group": i // 2})
            for label, n in counts
            for i in range(n)
        )
    )
    return str(path)


def test_a_threshold_is_set_shown_and_kept(model: str, probe: str, tmp_path: Path) -> None:
    data = written(tmp_path / "mine.jsonl", ("benign", 40), ("harmful", 4))
    words = ["calibrate", "probe", "--model", model, "--artifact", probe, "--data", data]
    words += ["--column", "question=ask", "--fpr", "0.1"]
    target, new = tmp_path / "found.json", tmp_path / "new"
    result = run(*words, "-o", str(new), "--json", str(target))
    assert result.exit_code == 0, (result.output, result.exception)
    report = Calibrated.model_validate_json(target.read_text())
    said = " ".join(result.stdout.split())
    assert f"now refuses prompts that score {report.threshold:.4g} or more" in said
    assert f"until now {report.before:.4g}" in said
    for row in ("that set the threshold", "that did not", "all, old threshold"):
        assert row in said
    assert "Warning: 20 rows set the threshold, and 20 check it." in said
    assert "takes 36 or more" in said
    assert report.checked_on is not None
    worse = report.checked_on.model_copy(update={"value": 1.0, "low": 0.8})
    warning = _warning(report.model_copy(update={"checked_on": worse}))
    assert "It refuses 100.0% of those, not 10%, so it may be of no use." in str(warning)
    assert "does not list the rows" in said, "the fit was on tasks"
    loaded = Artifact.load(new)
    assert loaded.card["calibration"]["n"] == 20
    scores = [each["score"] for each in loaded.card["reference"]["prompts"]]
    refused = [each["refused"] for each in loaded.card["reference"]["prompts"]]
    assert refused == [score >= report.threshold for score in scores]
    alone = run(*words, "-o", str(tmp_path / "newer"), "--json", "-")
    assert Calibrated.model_validate_json(alone.stdout) == report
    fails(run(*words, "-o", str(new)), "exists already", "--output")
    assert Artifact.load(new).hash == loaded.hash


def test_a_fit_for_other_layers_is_said(model: str, probe: str, tmp_path: Path) -> None:
    data = written(tmp_path / "mine.jsonl", ("benign", 60), ("harmful", 60))
    words = ["calibrate", "probe", "--model", model, "--artifact", probe, "--data", data]
    words += ["--column", "question=ask", "--layers", "auto", "-o", str(tmp_path / "new")]
    result = run(*words)
    assert result.exit_code == 0, (result.output, result.exception)
    said = " ".join(result.stdout.split())
    block = Artifact.load(tmp_path / "new").fitted["layer"]
    assert f"again, on 30 harmful and 30 benign rows, and reads block {block}." in said
    assert "Left out: 30 benign rows that a fit or an earlier calibration saw" in said


BAD = [
    (("probe", "--fpr", "0"), "above 0 and below 1"),
    (("probe", "--fpr", "1"), "above 0 and below 1"),
    (("probe", "--fpr", "7"), "above 0 and below 1"),
    (("npo",), "npo is not a detector"),
    (("none",), "none is not a detector"),
    (("sasaa",), "sasaa"),
    (("probe", "--layers", "3"), "--layers auto"),
    (("probe", "--artifact", "gone"), "no artifact folder"),
    (("probe", "--artifact", str(place_in("testbed", "probe"))), "was fitted on"),
    (("probe",), "no bundled artifact"),
]


@pytest.mark.parametrize(("words", "message"), BAD)
def test_a_bad_calibration_is_one_sentence(
    words: tuple[str, ...], message: str, model: str, tmp_path: Path
) -> None:
    data = written(tmp_path / "mine.jsonl", ("benign", 4))
    more = ["--model", model, "--data", data, "--column", "question=ask"]
    new = tmp_path / "new"
    fails(run("calibrate", *words, *more, "-o", str(new)), message)
    assert not new.exists()


def test_rows_that_cannot_set_a_threshold_are_refused(
    model: str, probe: str, tmp_path: Path
) -> None:
    words = ["calibrate", "probe", "--model", model, "--artifact", probe, "-o", str(tmp_path / "n")]
    words += ["--column", "question=ask"]
    other = ["calibrate", "sasa", *words[2:]]
    harmful = written(tmp_path / "harmful.jsonl", ("harmful", 3))
    fails(run(*words, "--data", harmful), "All 3 rows", "label benign")
    benign = written(tmp_path / "benign.jsonl", ("benign", 8))
    fails(run(*words, "--data", benign, "--layers", "auto"), "needs harmful rows")
    fails(run(*other, "--data", benign), "belongs to 'probe'")
    fails(run(*words, "--data", str(tmp_path / "gone.jsonl")), "gone.jsonl")
    folder = tmp_path / "full"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    fails(run(*words[:-4], "-o", str(folder), *words[-2:], "--data", benign), "exists already")
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


def test_a_matrix_is_tables_a_page_and_json(model: str, tmp_path: Path) -> None:
    page, target = tmp_path / "transfer.html", tmp_path / "transfer.json"
    words = ["transfer", "probe", "--model", model, "--tasks", "text_harm,image_harm", "--n", "10"]
    words += ["--calibration", "12", "-o", str(page), "--json"]
    result = run(*words, str(target))
    assert result.exit_code == 0, (result.output, result.exception)
    report = TransferReport.model_validate_json(target.read_text())
    assert report.sets == [row.source for row in report.rows] == ["text_harm", "image_harm"]
    assert {(cell.harmful, cell.benign) for row in report.rows for cell in row.cells} == {(10, 10)}
    assert [(row.fitted, row.calibrated) for row in report.rows] == [(20, 12), (20, 12)]
    for title in ("Area under the ROC curve", "Harmful prompts refused", "Benign prompts refused"):
        assert title in result.stdout
    assert "few" in result.stdout
    assert "which say little about other pictures" in " ".join(result.stderr.split())
    text = page.read_text()
    assert text.count('<td class="') == 12
    assert "<script" not in text


def test_a_bad_matrix_is_one_sentence(model: str, probe: str, tmp_path: Path) -> None:
    words = ["transfer", "probe", "--model", model, "-o", str(tmp_path / "t.html")]
    fails(run(*words, "--tasks", "text_harm"), "at least two sets")
    fails(run(*words, "--tasks", "text_harm,vqa"), "no harmful samples")
    fails(run(*words, "--tasks", "text_harm,xstest"), "no split 'fit'")
    fails(run(*words, "--fpr", "1"), "above 0 and below 1")
    fails(run(*words, "--keep-probe"), "no bundled artifact")
    fails(run("transfer", "npo", *words[2:]), "npo is not a detector")
    few = ["--tasks", "text_harm,image_harm", "--negatives", "text_harm"]
    fails(run(*words, *few), "--negatives")
    assert not (tmp_path / "t.html").exists()
