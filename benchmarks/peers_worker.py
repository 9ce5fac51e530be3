"""A program of its own that measures arms on request, in whatever environment they need.

Not a benchmark. `Worker` starts a script with a Python of its choice and sends it the name of an
arm a line; the script answers with a line of JSON. Between requests it waits and costs no time,
so programs that cannot share an environment can take turns.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Thread
from typing import IO, Any

from peers_rounds import Arms, Unavailable

__all__ = ["ROOT", "Worker", "answering", "python_of", "work"]

ROOT = Path(__file__).parents[1]


class Worker:
    """A script that answers.

    Args:
        python: The interpreter that runs it.
        script: Its path.
        told: What it gets as its argument, as JSON.
        env: More variables of its environment.

    Raises:
        Unavailable: it ended before it was ready.
    """

    def __init__(
        self,
        python: Path | str,
        script: str,
        told: Mapping[str, Any],
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._script = Path(script).name
        self._process = subprocess.Popen(
            [str(python), script, "--worker", json.dumps(told)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(_paths()), **(env or {})},
        )
        self._said: deque[str] = deque(maxlen=30)
        self._reader = Thread(target=self._listen, args=(self._process.stderr,), daemon=True)
        self._reader.start()
        self.names: list[str] = self._answer()["arms"]

    @property
    def arms(self) -> Arms:
        """What measures each arm."""
        return {name: partial(self.ask, name) for name in self.names}

    def ask(self, arm: str) -> dict[str, Any]:
        """Measure an arm once."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{arm}\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End the program."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self.close()
            raise Unavailable(f"{self._script} ended:\n" + "".join(self._said))
        found: dict[str, Any] = json.loads(line)
        if sentence := found.get("unavailable"):
            self.close()
            raise Unavailable(sentence)
        return found

    def _listen(self, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                self._said.append(line)


@contextmanager
def answering(*workers: Callable[[], Worker]) -> Iterator[dict[str, Callable[[], dict[str, Any]]]]:
    """Start workers one after the other; the arms of all of them. They are closed at the end."""
    started: list[Worker] = []
    try:
        for start in workers:
            started.append(start())
        yield {name: measure for worker in started for name, measure in worker.arms.items()}
    finally:
        for worker in started:
            worker.close()


def work(make: Callable[[dict[str, Any]], Arms]) -> None:
    """The other side: make the arms, then measure those that are asked for until none is.

    Whatever libraries print goes to the error stream.
    """
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(found: Mapping[str, Any]) -> None:
        answers.write(json.dumps(found) + "\n")
        answers.flush()

    try:
        arms = make(json.loads(sys.argv[2]))
    except Unavailable as error:
        say({"unavailable": str(error)})
        return
    say({"arms": list(arms)})
    for line in sys.stdin:
        say(arms[line.strip()]())


def python_of(given: Path | None, name: str, how: str) -> Path:
    """The interpreter of an environment: a given one, or that in `.venv-plugins`.

    Raises:
        Unavailable: there is none.
    """
    path = given or ROOT / ".venv-plugins" / name / "bin" / "python"
    if not path.exists():
        raise Unavailable(f"{path} is missing. {how}")
    return path


def _paths() -> list[str]:
    """Ours first, wherever an environment was installed from."""
    given = os.environ.get("PYTHONPATH", "")
    return [str(ROOT / "src"), str(ROOT), *filter(None, given.split(os.pathsep))]
