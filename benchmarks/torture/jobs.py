"""Commands that take seconds on the bundled model, and what must come out of them.

Not a kind: `kills` and `interrupts` stop these commands in the middle and run them again.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

__all__ = ["JOBS", "Job", "Run", "references"]

_PATIENCE = 1800.0


@dataclass(frozen=True)
class Job:
    """A command that writes below a folder, and its result without times and places."""

    name: str
    words: str
    """The command line, where {} is the folder."""
    result: Callable[[Path], Any]
    """None while there is no result."""
    resume: str = ""
    """What to add to go on."""


def _card(path: Path) -> Any:
    """The numbers of a scorecard, and whether it still calls a run unfinished."""
    if not path.is_file():
        return None
    card = json.loads(path.read_text(encoding="utf-8"))
    rates = {key: card[key] for key in ("model", "rows", "pooled", "deltas", "verdicts")}
    costs = sorted(cost["defense"] for cost in card["overhead"])
    return {**rates, "costs": costs, "notes": card["provenance"]["notes"]}


def _tensors(folder: Path) -> Any:
    path = folder / "tensors.safetensors"
    return sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def _layers(path: Path) -> Any:
    if not path.is_file():
        return None
    found = json.loads(path.read_text(encoding="utf-8"))
    return {key: value for key, value in found.items() if key not in ("seconds", "created")}


JOBS = (
    Job(
        "eval",
        "eval --defense safety_prompt,sasa --tasks image_harm,over_refusal,vqa --limit 24 "
        "--batch-size 8 --overhead 2 --log-dir {}/logs --json {}/card.json",
        lambda folder: _card(folder / "card.json"),
    ),
    Job(
        "fit sasa",
        "fit sasa --pool 400 --calibration 40 -o {}/sasa",
        lambda folder: _tensors(folder / "sasa"),
    ),
    Job(
        "fit npo",
        "fit npo --share 0.05 --set max_steps=6 --set batch_size=4 -o {}/npo",
        lambda folder: _tensors(folder / "npo"),
        resume="--resume",
    ),
    Job(
        "layers",
        "layers testbed --n 24 --json {}/layers.json -o {}/layers.html",
        lambda folder: _layers(folder / "layers.json"),
    ),
    Job(
        "demo",
        "demo --limit 2 --output {}/demo",
        lambda folder: _card(folder / "demo" / "scorecard.json"),
    ),
)


class Run:
    """One process of a job; what it says goes to files in the folder."""

    def __init__(self, job: Job, folder: Path, *, resume: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        words = f"{job.words} {job.resume if resume else ''}".replace("{}", str(folder)).split()
        self._said = folder / "said.txt"
        with self._said.open("w") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "safesight.cli.main", *words],
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, "COLUMNS": "120"},
                # A shell in the background ignores Ctrl-C, and a child would too.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            )

    @property
    def said(self) -> str:
        """Everything it printed so far."""
        return self._said.read_text(encoding="utf-8", errors="replace")

    def wait_until_it_listens(self) -> None:
        """Until the program handles SIGTERM itself; before, any Python process just dies."""
        status = Path(f"/proc/{self.process.pid}/status")
        while self.process.poll() is None:
            lines = status.read_text().splitlines() if status.is_file() else []
            caught = next((line.split()[1] for line in lines if line.startswith("SigCgt")), "0")
            if int(caught, 16) & (1 << (signal.SIGTERM - 1)):
                return
            time.sleep(0.02)

    def kill(self) -> None:
        """End the process and its children as a crash of the machine would."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def end(self) -> int:
        """Wait for the end; returns the exit code."""
        try:
            return self.process.wait(_PATIENCE)
        finally:
            self.kill()


def references(folder: Path, names: list[str]) -> Iterator[tuple[Job, Any, float]]:
    """For each named job: the job, what comes out undisturbed, and the seconds that takes.

    Raises:
        RuntimeError: it does not even run undisturbed.
    """
    for job in JOBS:
        if job.name not in names:
            continue
        begin = time.monotonic()
        run = Run(job, folder / job.name.replace(" ", "-"))
        code = run.end()
        result = job.result(folder / job.name.replace(" ", "-"))
        if code or result is None:
            raise RuntimeError(f"{job.words} failed undisturbed ({code}): {run.said[-2000:]}")
        yield job, result, time.monotonic() - begin
