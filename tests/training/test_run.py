"""Runs: logged, resumed to the same result, stopped before they do harm."""

from __future__ import annotations

import errno
import json
import os
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from safesight.defenses import load_defense, protect
from safesight.defenses.npo import NPO, _terms
from safesight.errors import ModelError, StorageError, TrainingError
from safesight.models import VLM
from safesight.ranks import Place
from safesight.training import plan
from safesight.training.batches import Collator, Draws
from safesight.training.checkpoints import last_checkpoint
from safesight.training.choice import choose
from safesight.training.passes import Objective, Passes
from safesight.training.run import TuningRun
from safesight.training.trainer import TuningTrainer, _Watch
from safesight.training.weights import installed
from tests import tiny
from tests.contracts.defense_helpers import fingerprint
from tests.training.helpers import FAST, data, fit, row


def log_of(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def kill_in(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the process ended in the middle of a step."""
    original = TuningTrainer.compute_loss

    def compute(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.state.global_step == step - 1:
            raise KeyboardInterrupt
        return original(self, *args, **kwargs)

    monkeypatch.setattr(TuningTrainer, "compute_loss", compute)


@pytest.mark.parametrize(
    "settings",
    [
        {"name": "npo", "lora_dropout": 0.5},
        {"name": "npo", "parameters": "full", "layers": (1,), "modules": ("mlp.down_proj",)},
        {"name": "rmu", "accumulate": 2, "max_grad_norm": 0.1, "tokens": "fork"},
        {"name": "sft", "lora_dropout": 0.5, "schedule": "linear"},
    ],
    ids=lambda s: "-".join(map(str, s.values())),
)
def test_a_killed_run_gives_what_an_uninterrupted_one_gives(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vlm, settings = tiny.vlm("llava"), {"max_steps": 6, **settings}
    name = settings.pop("name")
    whole = fit(name, vlm, TuningRun(tmp_path / "whole", save_every=2), **settings)
    before = fingerprint(vlm.model)
    with monkeypatch.context() as patch:
        kill_in(4, patch)
        with pytest.raises(KeyboardInterrupt):
            fit(name, vlm, TuningRun(tmp_path / "run", save_every=2), **settings)
    assert fingerprint(vlm.model) == before
    assert last_checkpoint(tmp_path / "run") == tmp_path / "run/checkpoint-2"
    resumed = fit(name, vlm, TuningRun(tmp_path / "run", resume=True, save_every=2), **settings)
    assert resumed.hash == whole.hash
    assert log_of(tmp_path / "run") == log_of(tmp_path / "whole")
    assert [entry["step"] for entry in log_of(tmp_path / "run")] == [1, 2, 3, 4, 5, 6]
    again = fit(name, vlm, TuningRun(tmp_path / "run", resume=True, save_every=2), **settings)
    assert again.hash == whole.hash


def test_training_leaves_the_callers_generators_alone() -> None:
    def states() -> tuple[object, ...]:
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()

    before = states()
    fit("npo", tiny.vlm("llava"), max_steps=1)
    assert states() == before


def test_a_run_with_a_place_is_the_run_without(tmp_path: Path) -> None:
    vlm = tiny.vlm("llava")
    kept = fit("npo", vlm, TuningRun(tmp_path / "run"), max_steps=3)
    assert fit("npo", vlm, max_steps=3).hash == kept.hash
    assert fit("npo", vlm, max_steps=3, learning_rate=0.02).hash != kept.hash


def test_a_checkpoint_that_was_cut_off_is_passed_over(tmp_path: Path) -> None:
    run = TuningRun(tmp_path / "run", save_every=1)
    whole = fit("npo", tiny.vlm("llava"), run, max_steps=3)
    (tmp_path / "run/checkpoint-3/trainer_state.json").write_text('{"cut')
    assert last_checkpoint(tmp_path / "run") == tmp_path / "run/checkpoint-2"
    resume = TuningRun(tmp_path / "run", resume=True, save_every=1)
    assert fit("npo", tiny.vlm("llava"), resume, max_steps=3).hash == whole.hash


@pytest.mark.parametrize("where", ["loss", "weight"])
def test_what_is_not_a_number_stops_the_run(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vlm = tiny.vlm("llava")
    before = fingerprint(vlm.model)
    original = TuningTrainer.compute_loss

    def compute(self: Any, *args: Any, **kwargs: Any) -> Any:
        loss = original(self, *args, **kwargs)
        return loss * float("nan") if self.state.global_step == 3 else loss

    def forward(self: Any, **batch: Any) -> Any:
        parts = plain(self, **batch)
        steps.append(1)
        return {**parts, "loss": parts["loss"] * (float("inf") if len(steps) == 3 * 3 + 1 else 1)}

    steps: list[int] = []
    plain = Objective.forward
    if where == "loss":
        monkeypatch.setattr(Objective, "forward", forward)
    else:  # the gradient, so that the update spoils the weights
        monkeypatch.setattr(TuningTrainer, "compute_loss", compute)
    with pytest.raises(TrainingError, match=r"diverged in step .*checkpoint-3.*learning_rate"):
        fit("npo", vlm, TuningRun(tmp_path / "run", save_every=1), max_steps=6)
    assert last_checkpoint(tmp_path / "run") == tmp_path / "run/checkpoint-3"
    assert fingerprint(vlm.model) == before
    monkeypatch.undo()
    resume = TuningRun(tmp_path / "run", resume=True, save_every=1)
    assert fit("npo", vlm, resume, max_steps=6).hash == fit("npo", vlm, max_steps=6).hash


def test_a_step_adds_up_the_gradients_of_all_terms(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one backward a term and with one for their sum, the gradient is the same."""
    vlm, given = tiny.vlm("llava"), data()
    found: dict[str, torch.Tensor] = {}

    def look(watch: Any, *_: Any, **__: Any) -> None:
        for name, parameter in watch.trainer.result.parameters.items():
            found[name] = parameter.grad.clone()

    monkeypatch.setattr(_Watch, "on_pre_optimizer_step", look)
    settings = {
        **FAST,
        "retain_weight": 3.0,
        "max_grad_norm": 0.0,
        "max_steps": 1,
        "lora_dropout": 0.0,
    }
    NPO(**settings).fit(vlm, given, progress=False)
    config = NPO(**settings).config
    retain = [row for row in given.tuning if row.set == "retain"]
    sources = {"forget": [row for row in given.tuning if row.set == "forget"], "retain": retain}
    draws = Draws({**sources, "again": retain}, length=2, seed=0)
    torch.manual_seed(0)
    with installed(vlm, choose(vlm, config), training=True) as result:
        passes, batch = Passes(vlm, result), Collator(vlm)([draws[0], draws[1]])
        sum(term(passes, batch)["loss"] for term in _terms(config)).backward()
        assert set(found) == set(result.parameters)
        for name, parameter in result.parameters.items():
            torch.testing.assert_close(found[name], parameter.grad)
    assert any(bool(value.any()) for value in found.values())


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_log_has_the_whole_loss(tmp_path: Path, accumulate: int) -> None:
    settings = {"forget_weight": 2.0, "retain_alpha": 0.5, "retain_weight": 3.0}
    run = TuningRun(tmp_path / "run")
    fit("npo", tiny.vlm("llava"), run, max_steps=2, accumulate=accumulate, **settings)
    log = log_of(tmp_path / "run")
    assert len(log) == 2
    for entry in log:
        whole = 2 * entry["forget_loss"] + 0.5 * entry["retain_loss"] + 3 * entry["cross_entropy"]
        assert entry["loss"] == pytest.approx(whole, rel=1e-5)


def test_without_checkpoints_a_spoiled_weight_gives_no_artifact(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original = TuningTrainer.compute_loss
    monkeypatch.setattr(
        TuningTrainer, "compute_loss", lambda *a, **k: original(*a, **k) * float("nan")
    )
    with pytest.raises(TrainingError, match="a weight is not a finite number"):
        fit("npo", tiny.vlm("llava"), max_steps=1)


full_device = pytest.mark.skipif(
    not Path("/dev/full").is_char_device(), reason="this system has no full device"
)


def _no_space() -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def _full_device(values: int) -> None:
    """What torch says depends on how far it came: /dev/full takes nothing."""
    with Path("/dev/full").open("wb") as device:
        torch.save(torch.zeros(values), device if values > 100 else "/dev/full")


@pytest.mark.parametrize(
    "fill",
    [
        _no_space,
        pytest.param(partial(_full_device, 10), marks=full_device),
        pytest.param(partial(_full_device, 10**6), marks=full_device),
    ],
    ids=["OSError", "a small file", "a large file"],
)
def test_a_full_disk_keeps_the_checkpoint_before(
    fill: Callable[[], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = TuningTrainer._save_optimizer_and_scheduler

    def full(self: Any, folder: str) -> None:
        if self.state.global_step == 2:
            fill()
        original(self, folder)

    monkeypatch.setattr(TuningTrainer, "_save_optimizer_and_scheduler", full)
    with pytest.raises(StorageError, match="The previous one is kept"):
        fit("npo", tiny.vlm("llava"), TuningRun(tmp_path / "run", save_every=1), max_steps=3)
    assert [p.name for p in (tmp_path / "run").glob("checkpoint-*")] == ["checkpoint-1"]


def test_other_errors_of_a_checkpoint_are_not_called_storage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("device-side assert")

    monkeypatch.setattr(TuningTrainer, "_save_optimizer_and_scheduler", broken)
    with pytest.raises(RuntimeError, match="device-side"):
        fit("npo", tiny.vlm("llava"), TuningRun(tmp_path / "run", save_every=1), max_steps=1)


def test_a_full_disk_leaves_a_run_that_can_be_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What says whose folder it is stays whole when there is no space to write it again."""
    vlm, folder = tiny.vlm("llava"), tmp_path / "run"
    with monkeypatch.context() as patch:
        kill_in(3, patch)
        with pytest.raises(KeyboardInterrupt):
            fit("npo", vlm, TuningRun(folder, save_every=1), max_steps=3)
    replace = os.replace

    def cut_off(source: str, target: Path) -> None:
        if Path(target).name == "run.json":
            _no_space()
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", cut_off)
        with pytest.raises(StorageError, match="could not be written"):
            fit("npo", vlm, TuningRun(folder, resume=True, save_every=1), max_steps=3)
    resumed = fit("npo", vlm, TuningRun(folder, resume=True, save_every=1), max_steps=3)
    assert resumed.hash == fit("npo", vlm, max_steps=3).hash


def test_folders_are_not_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vlm, run = tiny.vlm("llava"), TuningRun(tmp_path / "run", save_every=1)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter.txt").write_text("dear")
    with pytest.raises(StorageError, match="is not a run folder"):
        fit("npo", vlm, TuningRun(tmp_path / "mine"), max_steps=1)
    with monkeypatch.context() as patch:
        kill_in(2, patch)
        with pytest.raises(KeyboardInterrupt):
            fit("npo", vlm, run, max_steps=3)
    with pytest.raises(StorageError, match="unfinished run"):
        fit("npo", vlm, run, max_steps=3)
    with pytest.raises(TrainingError, match="different config"):
        fit("npo", vlm, TuningRun(run.folder, resume=True), max_steps=3, beta=0.5)
    other = data(row("a"), row("b", "retain"))
    with pytest.raises(TrainingError, match="different data"):
        fit("npo", vlm, TuningRun(run.folder, resume=True), other, max_steps=3)
    with monkeypatch.context() as patch:
        patch.setattr(plan.ranks, "place", lambda: Place(0, 2))
        with pytest.raises(TrainingError, match="different number of processes"):
            fit("npo", vlm, TuningRun(run.folder, resume=True), max_steps=3)
    fit("npo", vlm, TuningRun(run.folder, resume=True), max_steps=3)
    fit("npo", vlm, run, max_steps=2)  # a finished run may be started over
    assert len(log_of(run.folder)) == 2


def test_a_reference_is_computed_once_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two passes over three forget and five retain rows need no third forward of the base."""
    vlm = tiny.vlm("llava")
    counts = {"base": 0, "trained": 0}

    def hook(*_: Any) -> None:
        counts["trained" if torch.is_grad_enabled() else "base"] += 1

    handle = vlm.layers[0].register_forward_pre_hook(hook)
    try:
        fit("npo", vlm, max_steps=10, batch_size=1)
    finally:
        handle.remove()
    assert counts == {"base": 3 + 5, "trained": 30}


def test_a_second_change_of_weights_is_refused() -> None:
    vlm = VLM.wrap(*tiny.fresh("llava"))
    first, second = fit("npo", vlm, max_steps=1), fit("sft", vlm, max_steps=1)
    protect(vlm.model, vlm.processor, "npo", first)
    with pytest.raises(ModelError, match="npo already changes the weights"):
        protect(vlm.model, vlm.processor, "sft", second)
    with pytest.raises(ModelError, match=r"npo changes the weights .* before fitting rmu"):
        fit("rmu", vlm, max_steps=1)
    protect(vlm.model, vlm.processor, "safety_prompt")
    vlm.model.remove()
    with load_defense("sft").apply(vlm, second):
        pass


def test_the_log_of_an_early_stop(tmp_path: Path) -> None:
    vlm, run = tiny.vlm("llava"), TuningRun(tmp_path / "run", save_every=50)
    settings = {"max_steps": 40, "learning_rate": 0.05, "general": 0.0, "stop_loss": 5.0}
    stopped = fit("sft", vlm, run, **settings)
    log = log_of(run.folder)
    assert 5 <= len(log) < 40
    assert sum(entry["refusal_loss"] for entry in log[-5:]) / 5 < 5.0
    assert sum(entry["refusal_loss"] for entry in log[-6:-1]) / 5 >= 5.0
    again = fit("sft", vlm, TuningRun(run.folder, resume=True, save_every=50), **settings)
    assert again.hash == stopped.hash


@pytest.mark.parametrize("way", [{}, {"parameters": "full"}])
def test_a_run_that_changed_nothing_says_so(way: dict[str, Any]) -> None:
    vlm = tiny.vlm("llava")
    before = fingerprint(vlm.model)
    with pytest.raises(TrainingError, match="changed no weight"):
        fit("npo", vlm, max_steps=1, learning_rate=1e-300, **way)
    assert fingerprint(vlm.model) == before


@pytest.mark.parametrize(("warmup", "steps"), [(0.03, 1), (1.0, 1), (1.0, 2)])
def test_a_warmup_leaves_at_least_one_step_to_learn(warmup: float, steps: int) -> None:
    artifact = fit("npo", tiny.vlm("llava"), max_steps=steps, warmup=warmup)
    assert artifact.card["training"]["last"]["learning_rate"] > 0
    assert any(bool(v.any()) for name, v in artifact.tensors.items() if "lora_B" in name)
