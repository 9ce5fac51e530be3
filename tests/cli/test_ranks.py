"""The program in several processes: which commands take them, and what they say and print."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from safesight.compare.folder import read_notes, scorecard_of
from safesight.defenses import Artifact
from tests.cli.test_main import VERBS, fails, run

EVAL = "eval --tasks image_harm,vqa --limit 6 --defense probe --overhead 2 --device cpu"
FIT = "fit probe --limit 8 --calibration 4 --device cpu"


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> None:
    """This is the second of two processes."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")


@pytest.mark.usefixtures("two")
def test_an_error_says_which_rank_it_is_of() -> None:
    result = run("eval", "--defense", "sassa")
    assert result.exit_code == 2
    assert result.stderr.startswith("safesight, rank 1: ")


@pytest.mark.parametrize("verb", sorted({*VERBS} - {"eval", "fit"}))
@pytest.mark.usefixtures("two")
def test_other_commands_run_in_one_process(verb: str, tmp_path: Path) -> None:
    result = run(verb, *(["x"] if verb in ("compare", "judge", "merge", "report") else []))
    assert result.exit_code == 2
    assert f"safesight {verb} runs in one process. Start it without torchrun" in result.stderr


@pytest.mark.usefixtures("two")
def test_a_server_of_its_own_is_started_by_one_process(tmp_path: Path) -> None:
    """Nothing is loaded, so neither the model nor vLLM has to be there."""
    words = ("--engine", "vllm", "--model", "org/none", "--log-dir", str(tmp_path / "logs"))
    result = run("eval", "--defense", "none", "--tasks", "vqa", *words)
    assert result.exit_code == 2
    assert "starts its servers from one process, so leave out torchrun" in result.stderr
    assert not (tmp_path / "logs").exists()


def test_variables_that_no_launcher_sets_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "many")
    fails(run("eval"), "WORLD_SIZE is 'many', where a number is needed")


def launched(count: int, words: str) -> subprocess.CompletedProcess[str]:
    """The command in so many processes."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*launch, f"--nproc-per-node={count}", "-m", "safesight", *words.split()]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.slow
def test_torchrun_evaluates_as_one_process_does(tmp_path: Path) -> None:
    """The scorecard is printed once; what it costs was measured once, after all answers."""
    alone, logs = tmp_path / "alone", tmp_path / "logs"
    run(*EVAL.split(), "--log-dir", str(alone))
    done = launched(3, f"{EVAL} --log-dir {logs} --json -")
    assert json.loads(done.stdout)["model"] == "testbed"
    assert done.stderr.count("Logs: ") == 1
    left = {"provenance", "seconds", "overhead"}
    assert scorecard_of(logs).model_dump(exclude=left) == scorecard_of(alone).model_dump(
        exclude=left
    )
    notes = read_notes(logs)
    assert notes is not None
    assert [cost.defense for cost in notes.overhead] == ["none", "probe"]
    assert not (logs / "parts").exists()


@pytest.mark.slow
def test_torchrun_fits_what_one_process_fits(tmp_path: Path) -> None:
    run(*FIT.split(), "-o", str(tmp_path / "alone"))
    done = launched(2, f"{FIT} -o {tmp_path / 'two'}")
    assert done.stdout == f"{tmp_path / 'two'}\n"
    assert Artifact.load(tmp_path / "two").hash == Artifact.load(tmp_path / "alone").hash
