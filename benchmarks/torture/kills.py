"""SIGKILL at a random moment, then the command again: the result is that of an undisturbed run.

The commands are `eval`, `fit`, `layers` and the whole demo; a trial kills one of them once or
twice. What a killed process leaves is either nothing, or a whole result.
"""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

from benchmarks.torture.jobs import JOBS, Run, references

__all__ = ["run"]

_WEIGHTS = {"eval": 12, "fit sasa": 6, "fit npo": 12, "layers": 8, "demo": 2}


def run(n: int, seed: int, folder: Path) -> dict[str, Any]:
    """Make `n` trials."""
    rng = random.Random(seed)
    drawn = rng.choices([*_WEIGHTS], [*_WEIGHTS.values()], k=n)
    known = {job.name: found for job, *found in references(folder / "whole", drawn)}
    jobs = {job.name: job for job in JOBS}
    counts: dict[str, Any] = {"tried": 0, "right": 0, "refused": 0, "faults": []}
    for index, name in enumerate(drawn):
        job, place = jobs[name], folder / f"trial-{index}"
        wanted, seconds = known[name]
        moments = [rng.uniform(0, seconds) for _ in range(rng.choice((1, 1, 2)))]
        about = f"{name}, killed after {' and '.join(f'{each:.1f} s' for each in moments)}"
        for number, moment in enumerate(moments):
            killed = Run(job, place, resume=number > 0)
            time.sleep(moment)
            killed.kill()
            if job.result(place) not in (None, wanted):
                counts["faults"].append(f"{about}: left a wrong result")
        again = Run(job, place, resume=True)
        code = again.end()
        counts["tried"] += 1
        if code == 0 and job.result(place) == wanted:
            counts["right"] += 1
        elif code == 2 and "Traceback" not in again.said:
            counts["refused"] += 1
        else:
            counts["faults"].append(f"{about}: then exit code {code}: {again.said[-300:]!r}")
    return counts
