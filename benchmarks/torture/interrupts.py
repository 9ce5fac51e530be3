"""Ctrl-C, SIGTERM or SIGHUP at a random moment, once or twice in a row, then the command again.

The exit code tells the signal (130, 143, 129), there is no traceback, and nothing looks finished.
The same command then gives what an undisturbed run gives.
"""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path
from typing import Any

from benchmarks.torture.jobs import JOBS, Job, Run, references

__all__ = ["run"]

_WEIGHTS = {"eval": 12, "fit sasa": 3, "fit npo": 6, "layers": 4, "demo": 1}
_SIGNALS = ("SIGINT", "SIGINT", "SIGTERM", "SIGHUP")


def run(n: int, seed: int, folder: Path) -> dict[str, Any]:
    """Make `n` trials."""
    rng = random.Random(seed)
    drawn = rng.choices([*_WEIGHTS], [*_WEIGHTS.values()], k=n)
    known = {job.name: found for job, *found in references(folder / "whole", drawn)}
    jobs = {job.name: job for job in JOBS}
    counts: dict[str, Any] = {"tried": 0, "right": 0, "refused": 0, "faults": []}
    for index, name in enumerate(drawn):
        wanted, seconds = known[name]
        sent, times = signal.Signals[rng.choice(_SIGNALS)], rng.choice((1, 1, 2))
        moment = rng.uniform(0, seconds)
        fault = _trial(jobs[name], folder / f"trial-{index}", (sent, times, moment), wanted)
        counts["tried"] += 1
        if fault is None:
            counts["right"] += 1
        else:
            about = f"{name}, {times} {sent.name} after {moment:.1f} s"
            counts["faults"].append(f"{about}: {fault}")
    return counts


def _trial(
    job: Job, place: Path, stop: tuple[signal.Signals, int, float], wanted: Any
) -> str | None:
    """What was wrong, or None."""
    sent, times, moment = stop
    stopped = Run(job, place)
    stopped.wait_until_it_listens()
    time.sleep(moment)
    for _ in range(times):
        if stopped.process.poll() is None:
            stopped.process.send_signal(sent)
        time.sleep(0.2)
    code, said = stopped.end(), stopped.said
    if code == 0:  # it was faster
        return None if job.result(place) == wanted else "finished with another result"
    if code != 128 + sent:
        return f"exit code {code}: {said[-300:]!r}"
    if "Traceback" in said or "safesight: Stopped." not in said:
        return f"did not say that it stopped: {said[-300:]!r}"
    left = job.result(place)  # written before it is printed, so a whole one may be there
    if left not in (None, wanted) or (left is None and "Scorecard" in said):
        return "left what looks finished"
    again = Run(job, place, resume=True)
    code = again.end()
    if code or job.result(place) != wanted:
        return f"the command again: exit code {code}, {again.said[-300:]!r}"
    return None
