"""Commands that run a model: a small random one, a real run of two tasks, files that are bad."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from safesight import VLM, Artifact, registry
from safesight.analysis import LayerReport
from safesight.analysis.spurious import SpuriousReport
from safesight.cli.layers import _vector
from safesight.cli.main import app
from safesight.compare import Scorecard
from safesight.defenses import FitData, load_defense
from safesight.fitting.bundled import place_in
from tests import tiny
from tests.cli.test_main import fails, run

LIGHT = ("--limit", "3", "--overhead", "2", "--judge", "exact")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A random-weight LLaVA on disk."""
    folder = tmp_path_factory.mktemp("model")
    vlm = tiny.vlm("llava")
    vlm.model.save_pretrained(folder)
    vlm.processor.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("picture") / "red.png"
    Image.new("RGB", (40, 40), "red").save(path)
    return str(path)


@pytest.fixture(scope="module")
def logs(model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tasks, undefended and with a safety prompt, three samples each.

    The folder's name would end a style, if anything read it as markup of a terminal.
    """
    folder = tmp_path_factory.mktemp("run") / "[" / "logs]"
    words = ["--model", model, "--defense", "safety_prompt", "--tasks", "image_harm,vqa"]
    result = CliRunner().invoke(app, ["eval", *words, *LIGHT, "--log-dir", str(folder)])
    assert result.exit_code == 0, (result.output, result.exception)
    return folder


def test_compare_prints_and_writes_the_same_scorecard(logs: Path, tmp_path: Path) -> None:
    target = tmp_path / "card.json"
    result = run("compare", str(logs), "--json", str(target))
    assert result.exit_code == 0, result.output
    card = Scorecard.model_validate_json(target.read_text())
    assert card.defenses == ["none", "safety_prompt"]
    assert card.tasks == ["image_harm", "vqa"]
    judged = ("attack_success_rate", "refusal_rate")  # the others count what could not be judged
    assert {row.n + row.invalid for row in card.rows if row.metric in judged} == {3}
    assert [cost.defense for cost in card.overhead] == ["none", "safety_prompt"]
    assert card.overhead[0].prefill_ratio > 0
    assert card.seconds > 0
    assert "safety_prompt" in result.stdout
    assert any("not those of" in caveat for caveat in card.caveats)
    assert "not those of" in " ".join(result.stdout.split())
    raw: dict[str, Any] = json.loads(target.read_text())
    assert {"model", "seconds", "rows", "overhead"} <= raw.keys()


def test_report_is_one_page(logs: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    result = run("report", str(logs), "-o", str(page), "--conversations", "2")
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(page)
    text = page.read_text()
    assert text.count("<article") == 4
    assert "The judge exact knows the objects" in text
    assert "data:image/webp;base64," in text


def test_report_shows_a_look_inside_the_same_model_only(
    logs: Path, model: str, tmp_path: Path
) -> None:
    look, page = tmp_path / "layers.json", tmp_path / "report.html"
    own = ["-o", str(tmp_path / "layers.html"), "--json", str(look)]
    assert run("layers", model, "--n", "8", *own).exit_code == 0
    words = ["report", str(logs), "-o", str(page), "--conversations", "1", "--layers"]
    result = run(*words, str(look))
    assert result.exit_code == 0, result.output
    text = page.read_text()
    assert 'id="inside"' in text
    assert "<svg" in text
    raw = json.loads(look.read_text())
    other = tmp_path / "other.json"
    other.write_text(json.dumps({**raw, "identity": "0" * 64}))
    fails(run(*words, str(other)), "weights, configuration or dtype differ", "0" * 12)
    fails(run(*words, str(logs / "safesight.json")), "safesight.json is not a layer report")
    fails(run(*words, str(tmp_path / "gone.json")), "gone.json cannot be read")
    assert page.read_text() == text
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        ["layers.html", "layers.json", "other.json", "report.html"]
    )


def test_a_second_run_of_the_same_command_asks_nothing_again(logs: Path, model: str) -> None:
    before = sorted(path.name for path in logs.iterdir())
    words = ["--model", model, "--defense", "safety_prompt", "--tasks", "image_harm,vqa"]
    result = run("eval", *words, *LIGHT, "--log-dir", str(logs))
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in logs.iterdir()) == before


def test_fit_then_try_shows_scores_beside_the_threshold(
    model: str, picture: str, tmp_path: Path
) -> None:
    folder = tmp_path / "probe"
    words = ["--pool", "60", "--share", "0.3", "--calibration", "6"]
    result = run("fit", "probe", "--model", model, "-o", str(folder), *words, "--json")
    assert result.exit_code == 0, (result.output, result.exception)
    assert json.loads(result.stdout)["defense"] == "probe"
    tried = run(
        *("try", picture, "what is this?", "--model", model, "--defense", "probe"),
        *("--artifact", str(folder), "--max-new-tokens", "3", "--json"),
    )
    assert tried.exit_code == 0, tried.output
    replies = json.loads(tried.stdout)
    assert [reply["defense"] for reply in replies] == ["none", "probe"]
    decision = replies[1]["decisions"]["probe"]
    assert decision["refused"] == (decision["score"] >= decision["threshold"])
    shown = run(
        *("try", picture, "what is this?", "--model", model, "--defense", "probe"),
        *("--artifact", str(folder), "--max-new-tokens", "3"),
    )
    assert "undefended" in shown.stdout
    assert "threshold" in shown.stdout


def test_a_fit_says_what_it_replaces_and_keeps_what_is_of_another_defense(
    model: str, tmp_path: Path
) -> None:
    folder = tmp_path / "probe"
    words = ["--pool", "60", "--share", "0.3", "--calibration", "6", "-o", str(folder)]
    first = run("fit", "probe", "--model", model, *words)
    assert "replaces" not in first.stderr
    said = " ".join(first.stderr.split())
    assert "with 90 samples (30.0% of 300) and 18 benign ones for the threshold" in said
    found = Artifact.load(folder)
    fails(run("fit", "sasa", "--model", model, *words), "holds an artifact of probe")
    assert Artifact.load(folder).hash == found.hash
    again = run("fit", "probe", "--model", model, *words, "--set", "folds=2")
    assert f"replaces the probe artifact {found.hash[:12]}" in again.stderr.replace("\n", " ")
    assert Artifact.load(folder).hash != found.hash


def test_a_fit_says_and_records_what_it_holds_out(model: str, tmp_path: Path) -> None:
    folder = tmp_path / "probe"
    words = ["--pool", "60", "--share", "0.3", "--calibration", "20", "-o", str(folder)]
    held_out = ["--hold-out", "category=weapon,drug", "--hold-out", "phrasing=how do i"]
    result = run("fit", "probe", "--model", model, *words, *held_out)
    assert result.exit_code == 0, (result.output, result.exception)
    said = " ".join(result.stderr.split())
    assert "without category=weapon,drug or phrasing=how do i:" in said
    data = Artifact.load(folder).card["data"]
    assert data["held_out"] == {"category": ["weapon", "drug"], "phrasing": ["how do i"]}
    assert data["pool_size"] < 300
    fails(run("fit", "probe", "--model", model, *words, "--hold-out", "weapon"), "FACT=VALUE")


def test_an_evaluation_asks_only_about_what_it_is_told(model: str, tmp_path: Path) -> None:
    words = ["--model", model, "--defense", "safety_prompt", "--tasks", "image_harm"]
    card = tmp_path / "card.json"
    more = ["--limit", "24", "--overhead", "0", "--judge", "exact", "--json", str(card)]
    only = ["--only", "category=weapon", "--log-dir", str(tmp_path / "logs")]
    result = run("eval", *words, *more, *only)
    assert result.exit_code == 0, (result.output, result.exception)
    asked = [
        each
        for each in registry.load("benchmark", "image_harm")(24)
        if each.facts["category"] == "weapon"
    ]
    counts = {row["n"] for row in json.loads(card.read_text())["rows"]}
    assert 0 < len(asked) < 24
    assert counts == {len(asked)}


def test_a_defense_without_a_fit_says_so(tmp_path: Path) -> None:
    for name in ("safety_prompt", "none", "ecso"):
        fails(run("fit", name, "-o", str(tmp_path / "a")), f"{name} has nothing to fit")
    assert not (tmp_path / "a").exists()


def test_merging_a_detector_says_that_there_is_nothing_to_merge(tmp_path: Path) -> None:
    folder = str(place_in("testbed", "sasa"))
    for more in ([], ["--adapter"]):
        fails(run("merge", folder, *more, "-o", str(tmp_path / "m")), "nothing to merge")
    assert not (tmp_path / "m").exists()


def test_rai_draws_what_it_sees(model: str, picture: str, tmp_path: Path) -> None:
    folder, target = tmp_path / "rai", tmp_path / "maps" / "map.png"
    words = ["--pool", "60", "--share", "0.3", "--set", 'words=["bomb"]', "--set", "tau=-1"]
    result = run("fit", "rai", "--model", model, "-o", str(folder), *words)
    assert result.exit_code == 0, (result.output, result.exception)
    asked = ["try", picture, "what is this?", "--model", model, "--max-new-tokens", "3"]
    asked += ["--defense", "rai", "--artifact", str(folder), "--risk-map", str(target)]
    tried = run(*asked, "--json")
    assert tried.exit_code == 0, tried.output
    plain, defended = json.loads(tried.stdout)
    assert "risk" not in plain
    assert defended["risk"]["moved"] == defended["risk"]["visual_tokens"] == 16
    assert set(defended["risk"]["words"]) == {"bomb"}
    with Image.open(target) as drawn:
        assert drawn.size == (480, 480)
    assert "rai moved 16 of 16 visual tokens: bomb" in run(*asked).stdout
    both = run(*asked, "--image", picture)
    assert "rai moved 32 of 32 visual tokens: bomb" in both.stdout, both.output
    with Image.open(target.with_name("map-2.png")) as drawn:
        assert drawn.size == (480, 480)


def test_a_risk_map_without_rai(picture: str, tmp_path: Path) -> None:
    words = ["--defense", "sasa", "--risk-map", str(tmp_path / "map.png")]
    fails(run("try", picture, "what?", *words), "--defense rai")


def test_an_artifact_of_another_model_is_refused(model: str, tmp_path: Path) -> None:
    folder = tmp_path / "probe"
    words = ["--pool", "60", "--share", "0.3", "--calibration", "6"]
    assert run("fit", "probe", "--model", model, "-o", str(folder), *words).exit_code == 0
    result = run(
        *("eval", "--defense", "probe", "--artifact", str(folder)),
        *("--log-dir", str(tmp_path / "logs")),
    )
    fails(result, "was fitted on")
    assert not (tmp_path / "logs").exists()


def test_an_artifact_of_a_defense_that_takes_no_part_is_refused(model: str, tmp_path: Path) -> None:
    folder = tmp_path / "prompt"
    prompt = load_defense("safety_prompt")
    prompt.fit(VLM.load(model), FitData((), ())).save(folder)
    words = ["--defense", "adashield", "--artifact", str(folder)]
    fails(
        run("eval", "--model", model, *words, *LIGHT, "--log-dir", str(tmp_path / "l")),
        "not part of this run",
    )


def test_layers_is_a_table_a_page_and_json(model: str, tmp_path: Path) -> None:
    page = tmp_path / "inside.html"
    words = ["layers", model, "--n", "8", "--defense", "safety_prompt", "-o", str(page)]
    vector = tmp_path / "vector"
    _vector_of(model).save(vector)
    result = run(*words, "--heads", "--vector", str(vector), "--json", str(tmp_path / "l.json"))
    assert result.exit_code == 0, (result.output, result.exception)
    report = LayerReport.model_validate_json((tmp_path / "l.json").read_text())
    assert report.n == 8
    assert {item.defense for item in report.projections} == {"none", "safety_prompt"}
    assert report.heads is not None
    assert report.shift is not None
    assert report.shift.source == "vector"
    said = " ".join(result.stdout.split())
    assert "no layer is shown to tell harm" in said  # its weights are random
    assert "layer.head" in result.stdout
    assert page.read_text().startswith("<!doctype html>")
    assert (tmp_path / "inside.heads.csv").exists()
    again = run(*words, "--heads", "--json", "-")
    assert LayerReport.model_validate_json(again.stdout).heads == report.heads


def _vector_of(model: str) -> Artifact:
    """An artifact with one vector a layer, as a fit on this model would leave it."""
    vlm = VLM.load(model)
    tensors = {"vectors": torch.ones(vlm.num_layers, vlm.hidden_size), "other": torch.ones(2)}
    return Artifact("none", {}, {}, tensors, {"model": {"identity": vlm.identity}})


def test_layers_takes_the_vector_that_a_fit_of_several_is_set_to_use(tmp_path: Path) -> None:
    vlm, bundled = VLM.load("testbed"), place_in("testbed", "tool_vector")
    artifact = Artifact.load(bundled)
    assert torch.equal(_vector(artifact, vlm), artifact.tensors["tool"])
    other = replace(artifact, config={**artifact.config, "vector": "text_trace"})
    other.save(tmp_path / "text")
    assert torch.equal(
        _vector(Artifact.load(tmp_path / "text"), vlm), artifact.tensors["text_trace"]
    )


def test_layers_refuses_what_it_cannot_read(model: str, tmp_path: Path) -> None:
    page = ["-o", str(tmp_path / "l.html")]
    fails(run("layers", model, "--defense", "probe", *page), "changes no state")
    folder = tmp_path / "prompt"
    prompt = load_defense("safety_prompt")
    prompt.fit(VLM.load(model), FitData((), ())).save(folder)
    fails(run("layers", model, "--vector", str(folder), *page), "does not hold one vector")
    assert not (tmp_path / "l.html").exists()


def test_check_says_what_was_checked(model: str) -> None:
    result = run("check", model, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["ok"] is True
    assert "ok " in run("check", model).stdout


def test_files_that_are_bad(model: str, picture: str, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(Path(picture).read_bytes()[:50])
    fails(run("try", str(broken), "what?", "--model", model, "--defense", "none"), "broken.png")
    fails(run("check", str(tmp_path / "nothing")), "nothing")
    fails(run("fit", "sasa", "--model", model, "-o", "x", "--set", "layer=3"), "layer")
    fails(run("fit", "sasa", "--model", model, "-o", "x", "--set", "layers"), "NAME=VALUE")
    assert not Path("x").exists()


def test_spurious_words_of_a_set_and_what_a_model_makes_of_them(model: str, tmp_path: Path) -> None:
    target = tmp_path / "spurious.json"
    words = ["--rho", "1", "--n", "60", "--least", "2", "--model", model, "--limit", "2"]
    result = run(
        "spurious",
        "mirage",
        *words,
        "--words",
        "what,share",
        "--json",
        str(target),
        "--judge",
        "exact",
    )
    assert result.exit_code == 0, (result.output, result.exception)
    report = SpuriousReport.model_validate_json(target.read_text())
    assert report.train == report.test == {"harmful": 30, "benign": 30}
    assert [probe.accuracy.value for probe in report.probes] == [1.0, 1.0]
    assert report.first_words[-1].word == "what"
    assert [(flip.label, flip.word) for flip in report.flips] == [
        (label, word) for label in ("harmful", "benign") for word in (None, "what", "share")
    ]
    assert {flip.n + flip.invalid for flip in report.flips} == {2}
    assert "tells 100.0% of the labels" in result.stdout
    assert "log-odds" in result.stdout
    assert "unchanged" in result.stdout


def test_spurious_json_on_standard_output_is_all_there_is() -> None:
    words = ["--rho", "0", "--data-option", "harm=ruled", "--n", "60", "--json", "-"]
    result = run("spurious", "mirage", *words)
    settings = json.loads(result.stdout)["settings"]
    assert settings == {"rho": "0.0", "harm": "ruled", "seed": 0}


def test_spurious_says_which_files_are_missing(tmp_path: Path) -> None:
    result = run("spurious", "vlguard", "--data", str(tmp_path))
    assert result.exit_code == 2
    assert "There is no train.json" in result.stderr
    assert result.stdout == ""


def test_what_only_the_bundled_model_has_is_asked_for(model: str, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    words = ["--defense", "probe", "--tasks", "vqa", "--log-dir", str(logs)]
    fails(run("eval", "--model", model, *words), "--fit-on bundled")
    assert not logs.exists()
