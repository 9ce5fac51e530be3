"""The server under load: with defenses, without, and beside `transformers serve`.

    python benchmarks/serve.py                # about five minutes on two idle CPU cores
    python benchmarks/serve.py --soak 10      # ten minutes of mixed load with clients that leave

Every arm is a program of its own on loopback with the bundled model, and they take turns round by
round, so that a slow minute of the machine hits all of them. The client is a closed loop: each of
1, 4 or 16 users asks its next prompt when the last answer has ended. Prompts are mixed, with and
without pictures, harmful and benign, short and long answers; every arm gets the same ones. All
answers are streamed, for the time to their first piece. `transformers serve` runs from the same
weights, with its default settings, which are one request at a time.

The soak asks one server with `probe`, whose clients may choose no defense. A third of the clients
leave at a random moment. It fails if an answer is not the one of `vlm.answer`, if a request gets
none, if a place is not freed, or if the memory of the server keeps growing.

Writes `runs/benchmarks/serve.json` or `serve_soak.json`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import statistics
import time
import zlib
from collections.abc import Iterator, Sequence, Set
from contextlib import ExitStack
from functools import partial
from typing import Any

import openai
from results_file import RUNS, add_output, measured, opened
from serve_arms import PLAIN, Prompt, Server, Told, ask, prompts, started
from serve_soak import soaked

USERS = (1, 4, 16)
ARMS = ("none", "probe", "sasa", PLAIN)


def main() -> None:
    """Measure the load, or the soak."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_output(parser, "serve")
    parser.add_argument("--n", type=int, default=96, help="requests per arm, users and round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--users", type=int, nargs="+", default=list(USERS))
    parser.add_argument("--soak", type=float, metavar="MINUTES", help="the soak instead")
    arguments = parser.parse_args()
    if arguments.soak:
        out = arguments.out if arguments.out.name != "serve.json" else RUNS / "serve_soak.json"
        asyncio.run(soaked(arguments.soak, prompts(60), out))
        return
    head = {
        "model": "testbed",
        "arms": list(ARMS),
        "n": arguments.n,
        "users": arguments.users,
        "rounds": arguments.rounds,
    }
    results = opened(arguments, head)
    done = {(row["arm"], row["users"], row["round"]) for row in results["rows"]}
    asked = prompts(arguments.n)
    with ExitStack() as stack:
        servers = {arm: stack.enter_context(started(arm)) for arm in ARMS}
        for server in servers.values():
            asyncio.run(load(server, asked[:8], 4))
        parts = [
            (
                f"round {turn}, {users} users, {arm}",
                partial(add_row, results, arm, servers[arm], asked, users, turn),
            )
            for turn in range(arguments.rounds)
            for users in arguments.users
            for arm in shuffled(ARMS, turn)
            if (arm, users, turn) not in done
        ]
        measured(arguments, results, parts, conclude)


def shuffled(arms: Sequence[str], turn: int) -> list[str]:
    """The arms in the order of a round."""
    return random.Random(turn).sample(arms, len(arms))


async def load(server: Server, asked: Sequence[Prompt], users: int) -> tuple[float, list[Told]]:
    """Seconds for all prompts in a closed loop, and how each answer came."""
    found: list[Told | None] = [None] * len(asked)
    waiting = iter(range(len(asked)))

    async def user(client: openai.AsyncOpenAI) -> None:
        for at in waiting:
            found[at] = await ask(client, server, asked[at])

    begin = time.perf_counter()
    with server.client() as client:
        await asyncio.gather(*(user(client) for _ in range(users)))
        seconds = time.perf_counter() - begin
        await client.close()
    return seconds, [each for each in found if each is not None]


def add_row(
    results: dict[str, Any],
    arm: str,
    server: Server,
    asked: Sequence[Prompt],
    users: int,
    turn: int,
) -> None:
    """Measure one arm once."""
    seconds, told = asyncio.run(load(server, asked, users))
    results["rows"].append(
        {
            "arm": arm,
            "users": users,
            "round": turn,
            "seconds": round(seconds, 3),
            "first_ms": [round(1000 * each.first, 1) for each in told],
            "whole_ms": [round(1000 * each.whole, 1) for each in told],
            "refused": [int(each.reason == "content_filter") for each in told],
            "answers": [zlib.crc32(each.text.strip().encode()) for each in told],
            "load": round(os.getloadavg()[0], 1),
        }
    )


def conclude(results: dict[str, Any]) -> None:
    """Add a table: one row per arm and number of users, over all rounds.

    `answered_ms` is over the prompts that no arm refuses. `refused_ms` is over those that the arm
    refuses, and `undefended_ms` over the same ones without a defense.
    """
    rows = {(row["arm"], row["users"], row["round"]): row for row in results["rows"]}
    refused_by = {arm: refused_prompts(results["rows"], arm) for arm in results["arms"]}
    anywhere = set().union(*refused_by.values())
    results["summary"] = []
    for users in results["users"]:
        for arm in results["arms"]:
            own = [row for key, row in rows.items() if key[:2] == (arm, users)]
            pairs = [(row, rows["none", users, row["round"]]) for row in own]
            ratios = [bare["seconds"] / row["seconds"] for row, bare in pairs]
            same = [a == b for row, bare in pairs for a, b in pair_of(row, bare, "answers")]
            prompts_refused = refused_by[arm]
            entry = {
                "arm": arm,
                "users": users,
                "n": len(same),
                "per_second": round(statistics.median(results["n"] / r["seconds"] for r in own), 2),
                "throughput_ratio": round(statistics.median(ratios), 3),
                "throughput_ratio_low": round(min(ratios), 3),
                "throughput_ratio_high": round(max(ratios), 3),
                "first_ms": percentiles(own, "first_ms"),
                "whole_ms": percentiles(own, "whole_ms"),
                "answered_ms": percentiles(own, "whole_ms", without=anywhere),
                "refused_ms": percentiles(own, "whole_ms", only=prompts_refused),
                "undefended_ms": percentiles(
                    [bare for _, bare in pairs], "whole_ms", only=prompts_refused
                ),
                "prompts_refused": len(prompts_refused),
                "answers_as_none": sum(same),
            }
            results["summary"].append(entry)
            print(entry, flush=True)


def refused_prompts(rows: Sequence[dict[str, Any]], arm: str) -> set[int]:
    """The numbers of the prompts that an arm refuses."""
    return {
        at
        for row in rows
        if row["arm"] == arm
        for at, refused in enumerate(row["refused"])
        if refused
    }


def pair_of(one: dict[str, Any], other: dict[str, Any], name: str) -> Iterator[tuple[Any, Any]]:
    """What two rows have for each prompt."""
    return zip(one[name], other[name], strict=True)


def percentiles(
    rows: Sequence[dict[str, Any]],
    name: str,
    *,
    only: Set[int] | None = None,
    without: Set[int] = frozenset(),
) -> list[float] | None:
    """The median and the 95th percentile over some prompts of all rows."""
    values = [
        value
        for row in rows
        for at, value in enumerate(row[name])
        if (only is None or at in only) and at not in without
    ]
    if len(values) < 2:
        return None
    cuts = statistics.quantiles(values, n=20, method="inclusive")
    return [round(statistics.median(values), 1), round(cuts[-1], 1)]


if __name__ == "__main__":
    main()
