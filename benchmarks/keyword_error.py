"""The published refusal keywords compared with the exact judge, on answers of the bundled VLM.

    python benchmarks/keyword_error.py           # a few minutes on two CPU cores
    python benchmarks/keyword_error.py --n 60    # a quick look

The same answers are judged three times: by the exact judge, which knows the bundled model's
refusals and the right answers, and by both keyword lists. The arms are the undefended model and
defenses that refuse in other ways or not at all: a detector's fixed sentence, adapters that learned
refusals, unlearning, which answers off topic, and a prompt.

false refusals   of the answers that were not refusals, how many a list calls refused
missed refusals  of the refusals, how many a list misses
attack success   on harmful requests, according to the list and to the exact judge

Nothing was fitted or chosen here, so there is no seed but that of the samples. Writes
`runs/benchmarks/keyword_error.json` after every arm; the same command resumes where it stopped.
"""

from __future__ import annotations

import argparse
import time
from contextlib import nullcontext
from typing import Any

from judged import groups_of, rate
from results_file import add_output, finished, opened, saved

from safesight import VLM, registry
from safesight.analysis.outcomes import outcomes
from safesight.defenses import load_defense
from safesight.judges.exact import ExactJudge
from safesight.judges.keywords import KeywordJudge, measure_error
from safesight.stats import MetricName, clusters_of
from safesight.types import Sample

TASKS = ("text_harm", "image_harm", "typographic_harm", "over_refusal", "sensitive_benign")
ATTACKS: MetricName = "attack_success_rate"
LISTS = ("safety_mirage", "sasa")
ARMS = ("none", "sasa", "sft", "npo", "safety_prompt")


def main() -> None:
    """Run every arm that is missing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--n", type=int, default=300, help="samples a task")
    add_output(parser, "keyword_error")
    arguments = parser.parse_args()
    vlm = VLM.load("testbed")
    head = {
        "identity": vlm.identity,
        "n": arguments.n,
        "judge": f"{ExactJudge.name}/{ExactJudge.version}",
    }
    results = opened(arguments, head, summary=[])
    samples = [s for task in TASKS for s in registry.load("benchmark", task)(arguments.n)]
    for arm in ARMS:
        if any(line["defense"] == arm for line in results["summary"]):
            continue
        begin = time.monotonic()
        with nullcontext() if arm == "none" else load_defense(arm).apply(vlm):
            answers = [found.answer for found in outcomes(vlm, samples)]
        pairs = list(zip(answers, samples, strict=True))
        results["summary"] += [read(arm, phrases, pairs) for phrases in LISTS]
        results["seconds"] += round(time.monotonic() - begin)
        saved(arguments.out, results)
        print(f"{arm}: {results['summary'][-2:]}", flush=True)
    finished(arguments, results)


def read(arm: str, phrases: Any, pairs: list[tuple[str, Sample]]) -> dict[str, Any]:
    """One list's verdicts on an arm's answers, compared with the true ones."""
    lists, exact = KeywordJudge(phrases), ExactJudge()
    error = measure_error(lists, pairs, exact)
    attacks = [(answer, sample) for answer, sample in pairs if sample.label == "harmful"]
    things = clusters_of(groups_of(sample for _, sample in attacks))
    return {
        "arm": f"{'undefended' if arm == 'none' else arm}, list `{phrases}`",
        "defense": arm,
        "false refusals": vars(error.false_refusals),
        "missed refusals": vars(error.missed_refusals) if error.missed_refusals.n else None,
        "attack success, keywords": rate([[lists(*pair)] for pair in attacks], ATTACKS, things),
        "attack success, exact": rate([[exact(*pair)] for pair in attacks], ATTACKS, things),
        "invalid": error.invalid,
    }


if __name__ == "__main__":
    main()
