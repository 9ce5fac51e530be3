"""Files of one's own: fitted on, asked, and what was fitted on is not asked by itself."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
from PIL import Image

from safesight import registry
from safesight.benchmarks import load_benchmark
from safesight.data import Data
from safesight.defenses import Artifact, load_defense
from safesight.errors import InputError
from safesight.evals import read_answers
from safesight.fitting.seen import Seen
from safesight.judges.scope import common_judge, judge_for
from safesight.training.own_answers import OwnAnswer
from safesight.types import Label, Sample
from safesight.workflows.artifacts import FitPlan, fit_missing
from safesight.workflows.gathering import Source, gathered
from safesight.workflows.own_data import (
    OwnData,
    add_again,
    add_tasks,
    fit_split,
    leave_out_seen,
    tasks_with,
    told_after,
    told_before,
    training_split,
)
from tests import tiny
from tests.cli.test_main import fails, run

N = 32


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """What a test adds to the registry is gone after it."""
    table = registry._table("benchmark")
    before = dict(table)
    yield
    table.clear()
    table.update(before)


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """Prompts, half of them with pictures, two to a group; harmful ones are all of one source."""
    rows = []
    for number in range(N):
        label = "harmful" if number // 2 % 2 else "benign"
        picture = f"{number}.png" if number % 2 else ""
        if picture:
            Image.new("RGB", (40, 40), (7 * number, 0, 99)).save(tmp_path / picture)
        text = f"how can i use number {number}?"
        rows.append([text, label, picture, number // 2, f"{label} set"])
    path = tmp_path / "mine.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["ask", "label", "image", "group", "source"], *rows])
    return path


def own(path: Path, **more: object) -> OwnData:
    return OwnData([str(path)], {"question": "ask"}, **more)  # type: ignore[arg-type]


def test_a_file_is_a_task_and_its_judge_needs_no_world(mine: Path) -> None:
    (data,) = add_tasks(own(mine)).values()
    assert [s.id for s in load_benchmark("mine")()] == [s.id for s in data.samples]
    assert load_benchmark("mine+prefill")(4)[0].prefill
    assert judge_for("testbed", "mine") == judge_for("org/model", "vqa") == "rules"
    assert common_judge("testbed", ["vqa", "mine"]) is None
    with pytest.raises(InputError, match="both be the task 'mine'"):
        add_tasks(OwnData([str(mine), str(mine)], {"question": "ask"}))


def test_files_join_the_named_tasks_once() -> None:
    files = {"mine": Data("mine.csv", ())}
    assert tasks_with([], files) == ["mine"]
    assert tasks_with(["mine+prefill"], files) == ["mine+prefill"]


def test_a_fit_divides_a_file_by_group(mine: Path) -> None:
    (data,) = add_tasks(own(mine)).values()
    split = fit_split(data, seed=0)
    parts = [split.fitted, split.data.calibration_benign, split.test]
    groups = [{s.facts["group"] for s in part} for part in parts]
    assert sum(map(len, groups)) == len(set().union(*groups))
    assert {row.split for row in split.rows} == {"fit", "calibration", "test"}
    assert len(split.rows) + len(split.unused) == N
    less = fit_split(data, seed=0, share=0.5)
    assert len(less.fitted) == len(split.fitted) // 2
    held = fit_split(data, seed=0, held_out={"group": ["0", "1"]})
    assert {"0", "1"} <= {s.facts["group"] for s in held.test}
    assert not {"0", "1"} & {s.facts["group"] for s in held.fitted}


def test_harmful_twins_of_calibration_rows_are_neither_fitted_nor_tested() -> None:
    rows = [
        Sample(f"{group}{label}", f"{group} {label}?", label, "", facts={"group": str(group)})
        for group in range(20)
        for label in get_args(Label)
    ]
    split = fit_split(Data("twins.csv", rows), seed=0)
    assert {s.facts["group"] for s in split.unused} == {
        s.facts["group"] for s in split.data.calibration_benign
    }
    assert not {s.id for s in split.unused} & {row.id for row in split.rows}
    assert any(line.startswith("not used: 4 harmful") for line in told_before(split))


def test_before_a_fit_the_counts_and_what_gives_labels_away_are_told(mine: Path) -> None:
    source = Source(str(mine), {"question": "ask"})
    split = gathered(load_defense("probe"), FitPlan(share=1), "m", source)
    said = list(told_before(split))
    assert re.fullmatch(r"fit: \d+ harmful \(50% with pictures\), .* groups", said[0])
    assert any(line.startswith("Warning: The source alone") for line in said)
    poor = Artifact("probe", {}, card={"training_auroc": {"value": 0.55}})
    assert next(told_after(split, poor)).endswith("0.55. Warning: that is close to chance.")
    artifact = Artifact("probe", {}, card={"validation_auroc": {"value": 0.9}})
    assert list(told_after(split, artifact))[:2] == [
        "Cross-validated AUROC of probe: 0.90.",
        "For comparison, of the source alone: 1.00.",
    ]
    few, enough = (
        Artifact("probe", {}, card={"calibration": {"max_fpr": 0.1, "n": n}}) for n in (35, 36)
    )
    assert "only 35 benign rows set the threshold" in next(told_after(split, few))
    assert not list(told_after(split, enough))


def test_two_hundred_rows_are_divided_as_the_page_says() -> None:
    rows = [Sample(str(i), f"{i}?", "harmful" if i % 2 else "benign", "") for i in range(200)]
    split = fit_split(Data("mine.csv", rows), seed=0)
    assert (len(split.fitted), len(split.data.calibration_benign), len(split.test)) == (100, 20, 80)


def test_rows_that_a_fit_saw_are_left_out_unless_all_are_asked(mine: Path) -> None:
    files = add_tasks(own(mine))
    split = fit_split(files["mine"], seed=0)
    artifact = Artifact("probe", {}).with_split("mine.csv", split.rows)
    (said,) = leave_out_seen(files, {"probe": artifact}, "all")
    assert said.startswith("probe saw ")
    assert len(load_benchmark("mine")()) == N
    (said,) = leave_out_seen(files, {"probe": artifact, "rai": Artifact("rai", {})}, "unseen")
    left = load_benchmark("mine")()
    assert said.startswith(f"{N - len(left)} of {N} rows of ")
    assert {s.id for s in split.test} <= {s.id for s in left}
    assert not Seen.by([split.rows]).among(left)
    seen = {"mine": Data("mine.csv", split.fitted)}
    with pytest.raises(InputError, match="--rows all"):
        list(leave_out_seen(seen, {"probe": artifact}, "unseen"))
    assert not list(leave_out_seen({"x": Data("x", [row()])}, {"probe": artifact}, "unseen"))


def test_a_reworded_row_of_the_fit_is_asked_with_a_warning(mine: Path) -> None:
    files = add_tasks(own(mine))
    artifact = Artifact("probe", {}).with_split("m", fit_split(files["mine"], seed=0).rows)
    loud = [replace(s, question=s.question.upper()) for s in files["mine"].samples]
    (said,) = leave_out_seen({"mine": Data("m", loud)}, {"probe": artifact}, "unseen")
    assert "have the id of a row of the fit, and other text" in said


def test_what_trains_takes_the_prompts_of_a_file_and_leaves_those_of_the_test(mine: Path) -> None:
    source = Source(str(mine), {"question": "ask"})
    npo = load_defense("npo", answers="self")
    split = gathered(npo, FitPlan(share=1), "m", source)
    rows = split.data.tuning
    assert {row.id for row in rows} == {s.id for s in split.fitted}
    kinds = [(row.label, row.set) for row in rows]
    assert set(kinds) == {("harmful", "forget"), ("benign", "retain")}
    assert sum(row.picture() is not None for row in rows) * 2 == len(rows)
    apart = [{s.facts["group"] for s in part} for part in (split.fitted, split.test)]
    assert not apart[0] & apart[1]
    assert len(split.fitted) + len(split.test) == N
    for label in get_args(Label):  # seven tenths of the groups of each label
        assert sum(row.label == label for row in rows) == 2 * round(0.7 * N / 4)
    assert next(told_before(split)).startswith("fit: ")
    less = gathered(npo, FitPlan(share=0.5), "m", source)
    assert len(less.data.tuning) == len(split.fitted) // 2
    kept = {s.facts["group"] for s in split.fitted[:2]}
    held = gathered(npo, FitPlan(share=1, held_out={"group": sorted(kept)}), "m", source)
    assert not kept & {s.facts["group"] for s in held.fitted}


def test_rows_that_say_what_to_do_with_them_are_rows_whoever_answers(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    lines = [
        {"id": str(n), "question": f"{n}?", "label": "benign", "set": "forget" if n else "retain"}
        for n in range(2)
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    split = gathered(load_defense("npo", answers="self"), FitPlan(), "m", Source(str(path)))
    assert [row.set for row in split.data.tuning] == ["retain", "forget"]
    assert not split.test


def test_a_conversation_cannot_be_trained_on(tmp_path: Path) -> None:
    rows = [
        Sample(str(n), f"{n}?", "harmful" if n % 2 else "benign", "", system="be brief")
        for n in range(40)
    ]
    with pytest.raises(InputError, match="more than a question with at most one picture"):
        training_split(Data("m.csv", rows), seed=0)


def test_a_model_unlearns_what_it_answers_to_the_prompts_of_a_file(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answers(vlm: object, prompts: list[Sample], **how: object) -> list[OwnAnswer]:
        refused = OwnAnswer("i cannot help with that.", True)
        return [refused, *[OwnAnswer("use it slowly.", True)] * (len(prompts) - 1)]

    monkeypatch.setattr("safesight.training.own_answers.own_answers", answers)
    words = ["--data", str(mine), "--column", "question=ask"]
    small = ["--set", "max_steps=1", "--set", "rank=1", "--set", "batch_size=2"]
    place = str(tmp_path / "npo")
    done = run("fit", "npo", *words, *small, "--set", "answers=self", "-o", place)
    assert done.exit_code == 0, done.output
    artifact = Artifact.load(tmp_path / "npo")
    fitted = sum(row.split == "fit" for row in artifact.split)
    trained = artifact.card["training"]
    assert trained["forget"] + trained["retain"] == fitted - 1
    said = " ".join(done.stderr.split())
    assert f"1 of {fitted} rows are left out" in said
    assert f"with {fitted - 1} rows" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["npo", "--data", "mine.csv"], "--set answers=self"),
        (["npo", "--data", "mine.csv", "--column", "question=ask"], "--set answers=self"),
        (["answer_probe", "--data", "mine.csv"], "which mine.csv is not."),
        (["vsfa", "--data", "mine.csv", "--limit", "3"], "or use --share"),
    ],
)
def test_prompts_where_answers_are_needed_are_one_sentence(
    mine: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    monkeypatch.chdir(mine.parent)
    fails(run("fit", *words, "-o", "out"), said)


def row() -> Sample:
    return Sample("0", "another question?", "benign", "")


def test_what_is_missing_is_fitted_on_the_files_and_again_if_they_change(
    mine: Path, tmp_path: Path
) -> None:
    vlm = tiny.vlm("llava")
    said: list[str] = []

    def places(files: dict[str, Data]) -> Artifact:
        found = fit_missing(
            vlm, ["probe"], {}, tmp_path / "a", plan=FitPlan(), fit_on="data", own=files,
            say=said.append,
        )  # fmt: skip
        return Artifact.load(found["probe"])

    files = add_tasks(own(mine))
    first = places(files)
    assert {row.split for row in first.split} == {"fit", "calibration", "test"}
    assert any("Warning: The source alone" in line for line in said)
    assert any("AUROC of probe" in line for line in said)
    told = len(said)
    assert places(files).hash == first.hash
    assert len(said) == told
    changed = Data(files["mine"].source, files["mine"].samples[: N - 2])
    assert places({"mine": changed}).split != first.split
    with pytest.raises(InputError, match="npo is fitted on questions with answers"):
        fit_missing(
            vlm, ["npo"], {}, tmp_path, plan=FitPlan(), fit_on="data", own=files, say=said.append
        )


def test_from_a_file_to_a_page_with_its_pictures(mine: Path, tmp_path: Path) -> None:
    words = ["--data", str(mine), "--column", "question=ask"]
    fitted = run("fit", "probe", *words, "-o", str(tmp_path / "probe"))
    assert fitted.exit_code == 0, fitted.output
    assert "Warning: The source alone" in " ".join(fitted.stderr.split())
    logs = tmp_path / "logs"
    more = ["--artifact", str(tmp_path / "probe"), "--log-dir", str(logs), "--overhead", "0"]
    done = run("eval", "--defense", "probe", *words, *more, "--judge", "keywords")
    assert done.exit_code == 0, done.output
    assert f"of {N} rows" in " ".join(done.stderr.split())
    assert f"of {N} rows" in " ".join(done.stdout.split())  # beside the numbers
    answers = read_answers(logs)
    saw = {row.id for row in Artifact.load(tmp_path / "probe").split if row.split == "fit"}
    assert {a.task for a in answers} == {"mine"}
    assert not saw & {a.sample_id for a in answers}
    page = tmp_path / "page.html"
    assert run("report", str(logs), "-o", str(page)).exit_code == 0
    assert page.read_text().count("data:image/webp") >= 2
    assert not list(add_again(logs))
    assert len(load_benchmark("mine")(3)) == N, "whatever was asked is found"
    mine.unlink()
    (gone,) = add_again(logs)
    assert gone.startswith("The pictures of mine are left out.")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["eval", "--fit-on", "data"], "Name them with --data"),
        (["eval", "--data", "nosuch.csv"], "no file or folder nosuch.csv"),
        (["fit", "probe", "-o", "x", "--data", "nosuch.csv"], "no file or folder nosuch.csv"),
        (
            ["fit", "probe", "-o", "x", "--column", "question=ask"],
            "or name such a file",
        ),
        (["fit", "probe", "-o", "x", "--data", "m.csv", "--tasks", "vqa"], "not on tasks"),
    ],
)
def test_what_does_not_go_together_is_one_sentence(words: list[str], message: str) -> None:
    fails(run(*words), message)
