"""Runs of several ranks on the fake model: `python -m tests.evals.ranks_run FOLDER SCENARIO...`.

The ranks of a scenario are forked from this process, which has imported everything once, and get
the variables that `torchrun` sets. Every question is noted in a file once it has been answered.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from safesight.evals import run_eval
from safesight.hosting import hosts
from tests.evals.conftest import know_the_fakes
from tests.evals.fake import stamp_artifact
from tests.evals.killed_run import NotedVLM

SAMPLES, BATCH = 13, 2
TASKS = ("pictures", "words", "talks")
ENOUGH = 4
"""Answers of a rank after which it is killed."""


class Dying(NotedVLM):
    """Is killed after a few answers."""

    def decode(self, sequences, prompt_length):
        if len(self.batches) * BATCH > ENOUGH + BATCH:
            time.sleep(0.2)  # the log is written before
            os.kill(os.getpid(), signal.SIGKILL)
        return super().decode(sequences, prompt_length)


def evaluate(folder: Path, scenario: str, rank: int = 0, *, dies: bool = False) -> None:
    """What each rank does: two arms on three tasks, the last of which has two samples."""
    asked = folder / f"{scenario}-asked-{rank}"
    with pytest.MonkeyPatch.context() as patch:
        host = hosts.Host((Dying if dies else NotedVLM)(asked))  # type: ignore[arg-type]
        host.batcher.quiet = 0.01
        patch.setattr(hosts, "_load", lambda *_: host)
        patch.setattr("safesight.evals.run._LOG_BUFFER", 1)
        know_the_fakes(patch)
        run_eval(
            "fake",
            ["none", "stamp"],
            TASKS,
            log_dir=folder / scenario.partition("-")[0],
            limit=SAMPLES,
            artifacts={"stamp": folder / "stamp"},
            batch_size=BATCH,
            progress=False,
        )
        host.batcher.close()


def forked(count: int, work: Callable[[int], None]) -> list[int]:
    """The exit codes of so many ranks."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(count):
        child = os.fork()
        if child == 0:
            os.environ |= {
                "RANK": str(rank),
                "WORLD_SIZE": str(count),
                "LOCAL_RANK": str(rank),
                "LOCAL_WORLD_SIZE": str(count),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
            }
            code = 1
            try:
                work(rank)
                code = 0
            except Exception as error:
                print(f"rank {rank}: {type(error).__name__}: {error}", file=sys.stderr)
            finally:
                sys.stderr.flush()
                os._exit(code)
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def main(folder: Path) -> None:
    """One rank; two; three, of which one is killed, resumed by two; two killed, resumed by one."""
    stamp_artifact(folder / "stamp", "one")
    evaluate(folder, "one")
    print("two", forked(2, lambda rank: evaluate(folder, "two", rank)))
    for name in ("three", "alone"):
        killed = forked(3, lambda rank: evaluate(folder, name, rank, dies=rank == 1))
        print(name, killed)
    print("three", forked(2, lambda rank: evaluate(folder, "three-again", rank)))
    evaluate(folder, "alone-again")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
