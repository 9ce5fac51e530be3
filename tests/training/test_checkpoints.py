"""A checkpoint is complete and as it was written, or the run does not go on from it."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from safesight.errors import TrainingError
from safesight.training.checkpoints import last_checkpoint, seal
from safesight.training.run import TuningRun
from safesight.training.trainer import TuningLog
from tests import tiny
from tests.training.helpers import fit


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    "one bit": _flip,
    "missing": lambda path: path.unlink(),
    "a pickle": lambda path: path.write_bytes(pickle.dumps({"a": 1})),
}


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    """Every file of it: a run that went on from a damaged one would give another result."""
    vlm, run = tiny.vlm("llava"), tmp_path / "run"
    whole = fit("npo", vlm, TuningRun(run, save_every=1), max_steps=2)
    resume, last = TuningRun(run, resume=True, save_every=1), run / "checkpoint-2"
    files = ["trained.safetensors", "memory-0.json", "optimizer.pt", "scheduler.pt"]
    for name in [*files, "rng_state.pth"]:
        content = (last / name).read_bytes()
        for damage in DAMAGE.values():
            damage(last / name)
            with pytest.raises(TrainingError, match="checkpoint-2 cannot be resumed") as caught:
                fit("npo", vlm, resume, max_steps=2)
            assert name in str(caught.value)
            (last / name).write_bytes(content)
    assert fit("npo", vlm, resume, max_steps=2).hash == whole.hash
    shutil.rmtree(last)
    assert fit("npo", vlm, resume, max_steps=2).hash == whole.hash


@pytest.mark.parametrize("name", ["trainer_state.json", "digests.json"])
@pytest.mark.parametrize("content", ["", "[]", '{"cut', '{"a":' * 100_000])
def test_a_checkpoint_that_was_cut_off_is_left_out(name: str, content: str, tmp_path: Path) -> None:
    for number in (1, 2, 10):
        folder = tmp_path / f"checkpoint-{number}"
        folder.mkdir()
        (folder / "trainer_state.json").write_text("{}")
        seal(folder)
    (tmp_path / "checkpoint-x").mkdir()
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-10"
    (tmp_path / "checkpoint-10" / name).write_text(content)
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-2"


def test_a_damaged_optimizer_is_one_sentence_whatever_wrote_it(tmp_path: Path) -> None:
    """Files that another version wrote, with a digest that is right."""
    vlm, run = tiny.vlm("llava"), tmp_path / "run"
    fit("npo", vlm, TuningRun(run, save_every=1), max_steps=2)
    shutil.rmtree(run / "checkpoint-2")
    first = run / "checkpoint-1"
    damaged: dict[str, list[object]] = {
        "optimizer.pt": [b"junk", {"state": 5}],
        "scheduler.pt": [pickle.dumps([print]), [1]],
        "rng_state.pth": [b"", {}],
    }
    for name, values in damaged.items():
        content = (first / name).read_bytes()
        for value in values:
            if isinstance(value, bytes):
                (first / name).write_bytes(value)
            else:
                torch.save(value, first / name)
            seal(first)
            with pytest.raises(TrainingError, match="checkpoint-1 cannot be resumed") as caught:
                fit("npo", vlm, TuningRun(run, resume=True, save_every=1), max_steps=2)
            assert "\n" not in str(caught.value)
        (first / name).write_bytes(content)
    seal(first)
    fit("npo", vlm, TuningRun(run, resume=True, save_every=1), max_steps=2)


@pytest.mark.parametrize("line", ["", "5", "{}", '{"step": "x"}', "\ud800", "[" * 100_000])
def test_a_damaged_log_keeps_what_can_be_read(line: str, tmp_path: Path) -> None:
    sound = '{"step": 1, "loss": 0.5}\n'
    (tmp_path / "log.jsonl").write_bytes(f"{sound}{line}\n".encode("utf-8", "surrogatepass"))
    assert TuningLog(tmp_path / "log.jsonl", until=2).entries == [{"step": 1, "loss": 0.5}]
