"""Runs of several ranks on the fake model: `python -m tests.evals.ranks_run FOLDER`.

The ranks are forked from this process, which has imported everything once, and get the variables
that `torchrun` sets. Each rank of a run notes in a file of its own what it has answered.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from shutil import copytree

import pytest
from inspect_ai._util import package

from safesight import ranks
from safesight.defenses import FitData, load_defense
from safesight.evals import run_eval
from safesight.hosting import hosts
from safesight.models import VLM
from safesight.registry import load
from tests.evals.conftest import know_the_fakes
from tests.evals.fake import stamp_artifact
from tests.evals.killed_run import NotedVLM
from tests.evals.test_killed import logged

SAMPLES, BATCH = 13, 2
TASKS = ("pictures", "talks")
"""The second one has fewer samples than there are ranks."""


class Dying(NotedVLM):
    """Is killed in its second batch, when the answers of the first one are in its log."""

    def decode(self, sequences, prompt_length):
        if len(self.batches) > 1:
            logs = self.asked.parent / self.asked.name.partition("-")[0] / "parts"
            while len(logged(logs / str(ranks.place().index))) < len(self.batches[0]):
                time.sleep(0.02)
            os.kill(os.getpid(), signal.SIGKILL)
        return super().decode(sequences, prompt_length)


def evaluate(folder: Path, run: str, name: str, rank: int = 0, *, dies: int | None = None) -> None:
    """What each rank does: two arms on two tasks."""
    with pytest.MonkeyPatch.context() as patch:
        model = Dying if rank == dies else NotedVLM
        host = hosts.Host(model(folder / f"{run}-{name}-{rank}"))  # type: ignore[arg-type]
        host.batcher.quiet = 0.01
        patch.setattr(hosts, "_load", lambda *_: host)
        if dies is not None:
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


def shares(folder: Path, rank: int) -> None:
    """What a rank gets of lists that the processes share, and what it does itself."""
    done: list[int] = []

    def work(number: int) -> int:
        done.append(number)
        return number * number

    with ranks.together():
        found = [list(ranks.shared(range(size), work)) for size in (7, 1, 0)]
    list(ranks.shared([100], work))  # nobody else does this
    told = {"found": found, "done": done, "agreed": ranks.agreed(rank), "mine": ranks.mine("abcd")}
    (folder / f"shares-{rank}").write_text(json.dumps(told))


def apart(folder: Path, rank: int) -> None:
    """Each rank has a folder of its own, as on machines that share no disk."""
    own = folder / f"apart-{rank}"
    own.mkdir()
    ranks.check_shared(own)


def fit(vlm: VLM, folder: Path, rank: int) -> None:
    """A fit whose batches the ranks share; notes the hash, and how many samples were read."""
    pool = [each for task in ("image_harm", "vqa") for each in load("benchmark", task)(12)]
    read: list[int] = []
    encode = VLM.encode

    def noted(self, batch, **more):
        read.append(len(batch))
        return encode(self, batch, **more)

    with pytest.MonkeyPatch.context() as patch, ranks.together():
        patch.setattr(VLM, "encode", noted)
        probe = load_defense("probe", batch_size=5)
        found = probe.fit(vlm, FitData(pool[:12], pool[12:]), progress=False)
    count = ranks.place().count
    (folder / f"fit-{count}-{rank}").write_text(f"{found.hash} {sum(read)}")


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
    # Inspect looks through all installed packages for each task.
    package.packages_distributions = cache(package.packages_distributions)
    stamp_artifact(folder / "stamp", "one")
    evaluate(folder, "one", "first")  # before the others, which then have imported everything
    print("shares:", forked(3, partial(shares, folder)), flush=True)
    print("apart:", forked(2, partial(apart, folder)), flush=True)
    vlm = VLM.load("testbed", device="cpu")
    for count in (1, 2):
        print("fit:", forked(count, partial(fit, vlm, folder)), flush=True)
    print("two:", forked(2, partial(evaluate, folder, "two", "first")), flush=True)
    print("killed:", forked(3, partial(evaluate, folder, "killed", "first", dies=1)), flush=True)
    copytree(folder / "killed", folder / "left")
    print("again:", forked(2, partial(evaluate, folder, "killed", "second", dies=1)), flush=True)
    evaluate(folder, "killed", "third")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
