"""Runs of several ranks on the fake model: `python -m tests.evals.ranks_run FOLDER`.

The ranks are forked from this process, which has imported everything once, and get the variables
that `torchrun` sets. Each rank of a run notes in a file of its own what it has answered.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from safesight.evals import run_eval
from safesight.hosting import hosts
from tests.evals.conftest import know_the_fakes
from tests.evals.fake import stamp_artifact
from tests.evals.killed_run import NotedVLM

SAMPLES, BATCH = 13, 2
TASKS = ("pictures", "talks")
"""The second one has fewer samples than there are ranks."""


class Dying(NotedVLM):
    """Is killed after its first batch."""

    def decode(self, sequences, prompt_length):
        if len(self.batches) > 1:
            time.sleep(0.2)  # the log is written before
            os.kill(os.getpid(), signal.SIGKILL)
        return super().decode(sequences, prompt_length)


def evaluate(folder: Path, run: str, name: str, rank: int = 0, *, dies: int | None = None) -> None:
    """What each rank does: two arms on two tasks."""
    with pytest.MonkeyPatch.context() as patch:
        model = Dying if rank == dies else NotedVLM
        host = hosts.Host(model(folder / f"{run}-{name}-{rank}"))  # type: ignore[arg-type]
        host.batcher.quiet = 0.01
        patch.setattr(hosts, "_load", lambda *_: host)
        patch.setattr("safesight.evals.run._LOG_BUFFER", 1)
        know_the_fakes(patch)
        run_eval(
            "fake",
            ["none", "stamp"],
            TASKS,
            log_dir=folder / run,
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
                **dict.fromkeys(("RANK", "LOCAL_RANK"), str(rank)),
                **dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE"), str(count)),
                **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)},
            }
            _end(rank, work)
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def _end(rank: int, work: Callable[[int], None]) -> None:
    code = 1
    try:
        work(rank)
        code = 0
    except Exception as error:
        print(f"rank {rank}: {type(error).__name__}: {error}")
    finally:
        sys.stdout.flush()
        os._exit(code)


def main(folder: Path) -> None:
    """One rank; two; three of which one is killed, gone on with by two, and then by one."""
    stamp_artifact(folder / "stamp", "one")
    evaluate(folder, "one", "first")
    print("two:", forked(2, partial(evaluate, folder, "two", "first")), flush=True)
    print("killed:", forked(3, partial(evaluate, folder, "killed", "first", dies=1)), flush=True)
    print("again:", forked(2, partial(evaluate, folder, "killed", "second", dies=1)), flush=True)
    evaluate(folder, "killed", "third")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
