"""A run in a process of its own, to be killed: `python -m tests.evals.killed_run LOGS ASKED`.

Every question is written to the file ASKED once it has been answered by the fake model. With
`--cli` it is the command `safesight eval`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from safesight.cli.main import main
from safesight.evals import run_eval
from safesight.hosting import hosts
from tests.evals.conftest import know_the_fakes
from tests.evals.fake import FakeVLM

SAMPLES, BATCH = 60, 4


class NotedVLM(FakeVLM):
    """Notes what it answered, and takes its time."""

    def __init__(self, asked: Path) -> None:
        super().__init__(delay=0.02)
        self.asked = asked

    def decode(self, sequences, prompt_length):
        with self.asked.open("a", encoding="utf-8") as file:
            file.writelines(f"{text.split('> ')[-1]}\n" for text in self._texts)
        return super().decode(sequences, prompt_length)


def run(logs: Path, asked: Path) -> None:
    """The whole run, or what is left of it."""
    with _fake(asked) as host:
        run_eval(
            "fake",
            ["none"],
            ["pictures"],
            log_dir=logs,
            limit=SAMPLES,
            batch_size=BATCH,
            progress=False,
        )
        host.batcher.close()


def command(logs: Path, asked: Path) -> None:
    """The same from the command line; overhead would follow."""
    words = f"eval --model fake --judge exact --defense none --tasks pictures --limit {SAMPLES}"
    sys.argv = ["safesight", *words.split(), "--batch-size", str(BATCH), "--log-dir", str(logs)]
    with _fake(asked):
        main()


@contextmanager
def _fake(asked: Path) -> Iterator[hosts.Host]:
    with pytest.MonkeyPatch.context() as patch:
        host = hosts.Host(NotedVLM(asked))  # type: ignore[arg-type]
        patch.setattr(hosts, "_load", lambda *_: host)
        know_the_fakes(patch)
        yield host


if __name__ == "__main__":
    start = command if "--cli" in sys.argv else run
    start(Path(sys.argv[1]), Path(sys.argv[2]))
