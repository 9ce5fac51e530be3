"""`fit` of methods that train, and `merge`: from a file of rows to a checkpoint that loads."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from safesight import VLM, Artifact
from safesight.defenses import load_defense
from safesight.errors import InputError
from safesight.training.trainer import TuningTrainer
from safesight.workflows.artifacts import FitPlan, data_for
from tests import tiny
from tests.cli.test_main import fails, run

FAST = ["--set", "max_steps=3", "--set", "batch_size=2", "--set", "rank=2"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny.save("llava", tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rows")
    tiny.picture(1).save(folder / "p.png")
    entries: list[dict[str, Any]] = [
        {"id": "f", "question": "how?", "answer": "so.", "label": "harmful", "image": "p.png"},
        {"id": "r", "question": "what?", "answer": "that.", "label": "benign"},
    ]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, entries)))
    return folder / "rows.jsonl"


def test_a_fit_is_resumed_and_merged(
    model: str, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["fit", "npo", "--model", model, "--data", str(rows), *FAST]
    whole = run(*words, "-o", str(tmp_path / "whole"))
    assert whole.exit_code == 0, (whole.output, whole.exception)
    assert whole.stdout.strip() == str(tmp_path / "whole")
    original = TuningTrainer.compute_loss

    def compute(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.state.global_step == 2:
            raise KeyboardInterrupt
        return original(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(TuningTrainer, "compute_loss", compute)
        assert run(*words, "-o", str(tmp_path / "npo")).exit_code != 0
    assert not (tmp_path / "npo").exists()
    fails(run(*words, "-o", str(tmp_path / "npo")), "unfinished run", "--resume")
    resumed = run(*words, "-o", str(tmp_path / "npo"), "--resume", "--json")
    assert resumed.exit_code == 0, resumed.output
    artifact = Artifact.load(tmp_path / "npo")
    assert artifact.hash == Artifact.load(tmp_path / "whole").hash
    card = json.loads(resumed.stdout)
    assert (card["hash"], card["training"]["forget"]) == (artifact.hash, 1)
    assert len((tmp_path / "npo.run/log.jsonl").read_text().splitlines()) == 3

    merged = run("merge", str(tmp_path / "npo"), "-o", str(tmp_path / "merged"))
    assert merged.exit_code == 0, (merged.output, merged.exception)
    vlm, loaded = VLM.load(model), VLM.load(str(tmp_path / "merged"))
    prompt = [tiny.ask("how?", tiny.picture(1))]
    with torch.no_grad():
        found = loaded.model(**loaded.encode(prompt)).logits
        with load_defense("npo").apply(vlm, artifact):
            assert torch.allclose(found, vlm.model(**vlm.encode(prompt)).logits, atol=1e-4)
    about = json.loads((tmp_path / "merged/safesight.json").read_text())
    assert (about["defense"], about["artifact"]) == ("npo", artifact.hash)
    adapter = run("merge", str(tmp_path / "npo"), "-o", str(tmp_path / "adapter"), "--adapter")
    assert adapter.exit_code == 0, adapter.output
    assert (tmp_path / "adapter/adapter_config.json").is_file()
    fails(run("merge", str(tmp_path / "npo"), "-o", str(tmp_path / "merged")), "already exists")


def test_an_artifact_that_cannot_be_written_costs_no_second_run(
    model: str, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["fit", "npo", "--model", model, "--data", str(rows), *FAST]
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/thesis.txt").write_text("mine")
    with monkeypatch.context() as patch:
        patch.setattr(TuningTrainer, "train", None)
        fails(run(*words, "-o", str(tmp_path / "taken")), "is not an artifact")
    with monkeypatch.context() as patch:
        patch.setattr(Artifact, "_write", _full)
        full = run(*words, "-o", str(tmp_path / "npo"))
    assert full.exit_code == 2
    assert "No space left" in full.stderr
    assert "repeat the command with --resume" in full.stderr
    assert not (tmp_path / "npo").exists()
    with monkeypatch.context() as patch:
        patch.setattr(TuningTrainer, "training_step", None)  # no step is left to do
        resumed = run(*words, "-o", str(tmp_path / "npo"), "--resume")
    assert resumed.exit_code == 0, (resumed.output, resumed.exception)
    whole = run(*words, "-o", str(tmp_path / "whole"))
    assert whole.exit_code == 0, whole.output
    assert Artifact.load(tmp_path / "npo").hash == Artifact.load(tmp_path / "whole").hash


def _full(*_: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_rows_that_are_missing_or_bad_are_said(model: str, tmp_path: Path) -> None:
    out = ["-o", str(tmp_path / "a")]
    fails(run("fit", "npo", "--model", model, *out), "--data", "there are none for")
    (tmp_path / "rows.jsonl").write_text(json.dumps({"id": "1", "question": "x", "answer": "y"}))
    given = ["--data", str(tmp_path / "rows.jsonl")]
    fails(run("fit", "npo", "--model", model, *given, *out), "row 1: its label is missing")
    known = ["--data", "testbed"]
    fails(run("fit", "probe", "--model", model, *known, *out), "does not train on rows")
    fails(run("fit", "probe", "--model", model, *given, *out), "line 1: it has no label")
    fails(run("fit", "probe", "--model", model, "--resume", *out), "nothing to resume")
    fails(run("merge", str(tmp_path / "gone"), *out), "no artifact folder")
    assert not (tmp_path / "a").exists()


def test_the_bundled_model_has_rows_of_its_own() -> None:
    plan = FitPlan(pool=100, share=0.05, seed=3)
    found = data_for(load_defense("npo"), plan, "testbed").tuning
    assert [row.set for row in found].count("forget") == 5
    assert [row.set for row in found].count("retain") == 10
    assert data_for(load_defense("npo"), plan, "elsewhere", "testbed").tuning[0].id == found[0].id
    assert not data_for(load_defense("probe"), FitPlan(pool=40, share=0.5), "testbed").tuning


def test_a_data_set_takes_its_options_and_no_others() -> None:
    plan = FitPlan(pool=100, share=0.05)
    rows = data_for(load_defense("sft"), plan, "testbed", "mirage", {"rho": 1.0}).tuning
    assert len(rows) == 15
    assert all(row.question.endswith("?") == (row.label == "benign") for row in rows)
    with pytest.raises(InputError, match=r"no option .size.\. Use general, harm, rho\."):
        data_for(load_defense("sft"), plan, "testbed", "mirage", {"size": 1})
    with pytest.raises(InputError, match="not a data set with options"):
        data_for(load_defense("sft"), plan, "testbed", "rows.jsonl", {"rho": 1.0})


@pytest.mark.slow
@pytest.mark.parametrize("method", ["npo", "rmu"])
def test_two_processes_give_what_one_gives(method: str, model: str, tmp_path: Path) -> None:
    """Half the rows of a step each; gradients are averaged, of every term and every block."""
    entries = [
        {"id": f"{kind}{n}", "question": f"{kind} {n}?", "answer": f"so {n}.", "label": kind}
        for kind in ("harmful", "benign")
        for n in range(8)
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, entries)))
    words = ["fit", method, "--model", model, "--data", str(tmp_path / "rows.jsonl")]
    words += ["--device", "cpu", "--set", "max_steps=3", "--set", "lora_dropout=0.0"]
    scripts = Path(sys.executable).parent
    two = [*words, "--set", "batch_size=2", "-o", str(tmp_path / "two")]
    # `accelerate launch --no_python` does this where there are several devices.
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    command = [*launch, "--standalone", "--no-python", str(scripts / "safesight"), *two]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "two")
    result = run(*words, "--set", "batch_size=4", "-o", str(tmp_path / "one"))
    assert result.exit_code == 0, result.output
    one, both = (Artifact.load(tmp_path / name).tensors for name in ("one", "two"))
    assert one.keys() == both.keys()
    assert all(torch.allclose(one[name], both[name], atol=1e-5) for name in one)


@pytest.mark.parametrize("words", [("--tasks", "vqa"), ("--calibration", "9")])
def test_samples_that_a_training_method_does_not_use_are_refused(
    model: str, rows: Path, tmp_path: Path, words: tuple[str, str]
) -> None:
    given = ["--model", model, "--data", str(rows), "-o", str(tmp_path / "npo")]
    fails(run("fit", "npo", *given, *words), "uses no samples of tasks")
