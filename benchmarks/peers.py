"""What safesight costs beside what people would use instead, measured in one run.

    python benchmarks/peers.py                       # about 35 minutes on two idle CPU cores
    python benchmarks/peers.py --rows "vllm,a step"  # rows that begin so, into the same file
    python benchmarks/peers.py --small --out FILE    # every row once with small sizes: a test

The rows:

vllm              throughput of vLLM: without safesight, with its defenses off and on (per request)
evaluation        safesight eval, lmms-eval, and the bare batched loop on the same prompts
adding a vector   one forward pass changed with safesight, steering-vectors, nnsight
a step of NPO     ours, and open-unlearning's loss
start             import, `--help`, a first answer; memory of an evaluation
real shapes       detector, replay and edit at the shapes of 3B and 7B models, beside their FLOPs

The arms of a row take turns, round by round, so that a slow minute of the machine hits all of
them. A ratio is that of two arms in the same round; the table shows the median over rounds with
the smallest and the largest. What cannot share an environment runs in a process of its own that
waits while others are measured. Environments lie in `.venv-plugins` (`make test-vllm`,
`make test-plugins`) unless an option names a Python. A row whose environment is missing is left
out, and the file says so.

A stopped run resumes from its file, round by round. Writes `runs/benchmarks/peers.json`.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import peers_edit
import peers_eval
import peers_npo
import peers_shapes
import peers_start
import peers_vllm
import torch
from arms import chosen
from peers_rounds import Row, Unavailable, ask_rounds, summarized
from results_file import add_output, finished, opened, saved

ROWS: tuple[Row, ...] = (
    peers_vllm.ROW,
    peers_eval.ROW,
    peers_edit.ROW,
    peers_npo.ROW,
    peers_start.ROW,
    peers_shapes.ROW,
)


def main() -> None:
    """Measure the rows that are missing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_options(parser)
    parser.add_argument("--vllm-python", type=Path, help="Python of an environment with vLLM")
    parser.add_argument("--lmms-python", type=Path, help="Python of one with lmms-eval")
    parser.add_argument(
        "--edit-python", type=Path, help="Python of one with the steering libraries"
    )
    parser.add_argument("--open-unlearning", type=Path, help="checkout of open-unlearning")
    add_output(parser, "peers")
    arguments = parser.parse_args()
    measure_rows(arguments, ROWS, head_of(arguments))


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that say what to measure."""
    parser.add_argument("--rows", default="", help="beginnings of names, by comma; default: all")
    parser.add_argument("--cases", default="", help="the same for cases, such as bundled")
    parser.add_argument("--rounds", type=int, help="rounds of each row; default: each row's own")
    parser.add_argument("--small", action="store_true", help="smallest sizes: a test, no result")


def head_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """What all rows of a file share."""
    return {
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": "cuda" if torch.cuda.is_available() else "cpu",
        "small": arguments.small,
    }


def measure_rows(
    arguments: argparse.Namespace, rows: tuple[Row, ...], head: dict[str, Any]
) -> None:
    """Measure round by round, and write the results after each measurement."""
    results = opened(arguments, head, facts=[], summary=[], shapes=[])
    results["left_out"] = []
    names = chosen(arguments.rows, [row.name for row in rows])
    for row in rows:
        if row.name in names:
            for case in row.cases:
                if case.startswith(tuple(arguments.cases.split(","))):
                    measure_case(arguments, results, row, case)
            count_facts(arguments, results, row)
    results["summary"] = summarized(results["rows"], rows)
    results["shapes"] = peers_shapes.scaled(results["rows"])
    saved(arguments.out, results)
    for line in results["summary"]:
        print(said(line))
    for sentence in results["left_out"]:
        print(f"Left out: {sentence}")
    finished(arguments, results)


def measure_case(
    arguments: argparse.Namespace, results: dict[str, Any], row: Row, case: str
) -> None:
    """All missing rounds of one case."""
    rounds = arguments.rounds or (1 if arguments.small else row.rounds)
    if counted(results, row, case) >= rounds:
        return
    begin = time.monotonic()
    try:
        with ExitStack() as stack:
            arms = stack.enter_context(row.start(arguments, case))
            for name, measure in ask_rounds(results["rows"], row, case, arms, rounds):
                measure()
                begin = written(arguments, results, begin)
                print(f"{name}: {results['rows'][-1].get('seconds', 0):.3g} s", flush=True)
    except Unavailable as error:
        results["left_out"].append(f"{row.name}, {case}: {error}")
        written(arguments, results, begin)
        print(results["left_out"][-1], flush=True)


def counted(results: dict[str, Any], row: Row, case: str) -> int:
    """The number of whole rounds of a case, as far as the file tells without its arms."""
    own = [e for e in results["rows"] if (e["row"], e["case"]) == (row.name, case)]
    measured = Counter(entry["round"] for entry in own)
    return sum(measured[turn] == own[0]["arms"] for turn in measured)


def count_facts(arguments: argparse.Namespace, results: dict[str, Any], row: Row) -> None:
    """What is counted once."""
    done = {fact["name"] for fact in results["facts"]}
    for name, count in row.facts.items():
        if name in done:
            continue
        begin = time.monotonic()
        try:
            results["facts"].append({"row": row.name, "name": name, **count(arguments)})
            print(results["facts"][-1], flush=True)
        except Unavailable as error:
            results["left_out"].append(f"{row.name}, {name}: {error}")
        written(arguments, results, begin)


def written(arguments: argparse.Namespace, results: dict[str, Any], begin: float) -> float:
    """Write the file; the time of now."""
    now = time.monotonic()
    results["seconds"] = round(results["seconds"] + now - begin, 1)
    saved(arguments.out, results)
    return now


def said(line: dict[str, Any]) -> str:
    """A line of the summary, for the screen."""
    text = f"{line['row']}, {line['case']}, {line['arm']}: {line['ms']:g} ms"
    if "ratio" not in line:
        return text
    text += f", {line['ratio']:.3f} of {line['over']}"
    text += f" ({line['ratio_low']:.3f} to {line['ratio_high']:.3f}, {line['rounds']} rounds)"
    if "met" not in line:
        return text
    return f"{text}, aim at most {line['most']:g}: {'met' if line['met'] else 'missed'}"


if __name__ == "__main__":
    main()
