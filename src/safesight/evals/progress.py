"""The progress bar of an evaluation: finished answers over all arms and tasks.

Answers from an earlier run in the folder count as done from the start. The bar is shown on
standard error, so that standard output is only for results.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

from inspect_ai.log import list_eval_logs, read_eval_log, read_eval_log_sample_summaries

from safesight.console import bar
from safesight.evals.damaged import DamagedLog, reading

__all__ = ["Progress"]


class Progress:
    """A context that shows the bar while it is open.

    Args:
        log_dir: The folder of the run.
        task_args: Arguments of its tasks; logs with other arguments do not count.
        visible: Show the bar at all.
        label: What stands before the bar.
    """

    def __init__(
        self,
        log_dir: Path,
        task_args: dict[str, Any],
        *,
        visible: bool = True,
        label: str = "answers",
    ) -> None:
        self.total = 0
        self.done = 0
        self._logged = _logged(log_dir, task_args)
        self._bar = bar(visible=visible)
        self._row = self._bar.add_task(label, total=None)

    def __enter__(self) -> Progress:
        self._bar.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.__exit__(kind, error, traceback)

    def add_task(self, name: str, version: int | str, samples: int) -> None:
        """A task was created; its answers in the folder count as done."""
        self.total += samples
        self.done += min(samples, self._logged.pop((name, str(version)), 0))
        self._bar.update(self._row, total=self.total, completed=self.done)

    def advance(self) -> None:
        """One more answer."""
        self.done += 1
        self._bar.update(self._row, completed=min(self.done, self.total))

    def finish(self) -> None:
        """Everything is done, whatever the count."""
        self.done = self.total
        self._bar.update(self._row, total=self.total, completed=self.total)


def _logged(log_dir: Path, task_args: dict[str, Any]) -> dict[tuple[str, str], int]:
    """The number of answers in the folder, by task and version."""
    wanted = {name: value for name, value in task_args.items() if value is not None}
    counts: dict[tuple[str, str], int] = {}
    for info in list_eval_logs(str(log_dir.resolve())):
        try:
            with reading():
                log = read_eval_log(info, header_only=True)
                answers = len(read_eval_log_sample_summaries(info))
        except DamagedLog:
            continue  # it cannot be resumed
        if log.eval.task_args_passed != wanted:
            continue
        key = (log.eval.task, str(log.eval.task_version))
        counts[key] = max(answers, counts.get(key, 0))
    return counts
