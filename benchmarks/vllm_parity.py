"""The verdicts of vLLM beside those of transformers, on the bundled model.

    python benchmarks/vllm_parity.py --vllm-options "--enforce-eager --max-model-len 512"

Runs `safesight eval` twice with the same arms and samples, once with each engine, and compares
answer by answer. Writes `runs/benchmarks/vllm_parity.json`: for each arm and task how many answers
and verdicts are equal, and every pair of answers that differs. Both evaluations resume where they
stopped. It needs an environment with vLLM.
"""

from __future__ import annotations

import argparse
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from results_file import RUNS, add_output, measured, opened

from safesight.evals import read_answers
from safesight.evals.answers import Answer
from safesight.vllm.evaluating import installed
from safesight.workflows.evaluation import Engine, Evaluation, evaluate

ARMS = ("none", "probe", "sasa", "hidden_detect", "rai", "refusal_direction", "tool_vector")
TASKS = ("text_harm", "image_harm", "typographic_harm", "over_refusal", "vqa")
EACH = 60
"""Samples per task; 300 in all."""


def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_output(parser, "vllm_parity")
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--n", type=int, default=EACH, help="samples per task")
    parser.add_argument("--vllm-options", default="")
    parser.add_argument("--work", type=Path, default=RUNS / "vllm_parity", help="folder for logs")
    arguments = parser.parse_args()
    arms = arguments.arms.split(",")
    head = {"model": "testbed", "n": arguments.n, "tasks": [*TASKS], "vllm": installed()}
    results = opened(arguments, {**head, "arms": arms}, differences=[])
    parts = [] if results["rows"] else [("compared", partial(compare, arguments, arms, results))]
    measured(arguments, results, parts, conclude)


def compare(arguments: argparse.Namespace, arms: list[str], results: dict[str, Any]) -> None:
    """Answer with both engines, and add a row for each arm and task."""
    engines = Engine(), Engine("vllm", options=arguments.vllm_options.split())
    ours, theirs = (answers(arguments, arms, engine) for engine in engines)
    for arm, task in product(arms, TASKS):
        pairs = [(ours[key], theirs[key]) for key in ours if key[:2] == (arm, task)]
        results["rows"].append(
            {
                "arm": arm,
                "task": task,
                "n": len(pairs),
                "same_answer": sum(one.answer == other.answer for one, other in pairs),
                "same_verdict": sum(one.verdict == other.verdict for one, other in pairs),
            }
        )
        results["differences"] += [
            {
                "arm": arm,
                "task": task,
                "sample": one.sample_id,
                "verdicts": [one.verdict, other.verdict],
                "answers": [one.answer, other.answer],
            }
            for one, other in pairs
            if one.answer != other.answer
        ]


def answers(
    arguments: argparse.Namespace, arms: list[str], engine: Engine
) -> dict[tuple[str, str, str], Answer]:
    """The answers of all arms, by arm, task and sample."""
    folder = arguments.work / engine.name
    evaluate(
        Evaluation(
            "testbed",
            arms,
            TASKS,
            folder,
            limit=arguments.n,
            overhead_inputs=0,
            engine=engine,
            model_args={"dtype": "float32", "device": "cpu"},
        )
    )
    return {(each.defense, each.task, each.sample_id): each for each in read_answers(folder)}


def conclude(results: dict[str, Any]) -> None:
    """How many answers and verdicts are equal in all."""
    results["pairs"] = sum(row["n"] for row in results["rows"])
    for what in ("same_answer", "same_verdict"):
        results[what] = sum(row[what] for row in results["rows"])


if __name__ == "__main__":
    main()
