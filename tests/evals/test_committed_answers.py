"""The bundled model answers today as it answered when the committed scorecard was made.

`committed_answers.json` holds a hash of the answers of every arm of the demo to every task; the
scorecard is `docs/results/demo.json`. A change of either is a change of results: it belongs into
CHANGELOG under "Numbers changed", and both files are made anew.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pytest

from safesight.evals import Answer, read_answers, run_eval
from safesight.workflows.evaluation import ALL_TASKS
from tests.house.source import ROOT

COMMITTED = Path(__file__).parent / "committed_answers.json"
LIMIT = 40

FAST = ["none", "sasa", "rai", "npo"]
"""A detector, an activation edit and changed weights; the other arms are slow tests."""
SLOW = [arm for arm in json.loads(COMMITTED.read_text()) if arm not in FAST]


def hashes(answers: Sequence[Answer]) -> dict[str, dict[str, str]]:
    """Arm to task to the hash of its answers, sample by sample."""
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for answer in sorted(answers, key=lambda each: each.sample_id):
        found[answer.defense][answer.task].append(f"{answer.sample_id}\t{answer.answer}")
    return {
        arm: {
            task: hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
            for task, lines in sorted(tasks.items())
        }
        for arm, tasks in found.items()
    }


@pytest.mark.parametrize("arms", [FAST, pytest.param(SLOW, marks=pytest.mark.slow)])
def test_answers_and_verdicts_are_the_committed_ones(arms: list[str], tmp_path: Path) -> None:
    run_eval(
        "testbed", arms, ALL_TASKS, log_dir=tmp_path, limit=LIMIT, batch_size=LIMIT, progress=False
    )
    answers = read_answers(tmp_path)
    card = json.loads((ROOT / "docs/results/demo.json").read_text())
    verdicts: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for answer in answers:
        verdicts[answer.defense, answer.task][answer.verdict] += 1
    for row in card["verdicts"]:
        if row["defense"] in arms:
            counted = verdicts[row["defense"], row["task"]]
            assert {name: row[name] for name in row if name in counted} == counted
    committed = json.loads(COMMITTED.read_text())
    assert hashes(answers) == {arm: committed[arm] for arm in arms}
