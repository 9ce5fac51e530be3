"""A server under mixed load for some minutes, with clients that leave.

Not a benchmark of its own: `python benchmarks/serve.py --soak MINUTES` runs it.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from pathlib import Path

import httpx
import openai
from results_file import saved
from serve_arms import Prompt, Server, ask, started

from safesight import VLM
from safesight.hosting.arms import build_arm

__all__ = ["soaked"]

USERS = 12
LEAVING = 1 / 3
GROWTH = 0.05
"""The share by which memory may grow from the largest value in the first third to the end."""


async def soaked(minutes: float, asked: Sequence[Prompt], path: Path) -> None:
    """Ask for some minutes while clients leave; raise SystemExit if anything is wrong."""
    right = expected(asked)
    count = {"answered": 0, "left": 0, "wrong": 0, "failed": 0}
    memory: list[tuple[float, float]] = []

    async def user(server: Server, chance: random.Random, until: float) -> None:
        with server.client() as client:
            while time.monotonic() < until:
                at, defense = chance.randrange(len(asked)), chance.choice(("probe", "none"))
                body = {} if defense == "probe" else {"safesight": {"defense": ["none"]}}
                asking = asyncio.ensure_future(ask(client, server, asked[at], extra_body=body))
                patience = chance.uniform(0, 0.3) if chance.random() < LEAVING else 120
                try:
                    told = await asyncio.wait_for(asking, patience)
                except TimeoutError:
                    count["failed" if patience == 120 else "left"] += 1
                except openai.OpenAIError as error:
                    print(f"{type(error).__name__}: {error}", flush=True)
                    count["failed"] += 1
                else:
                    count["answered"] += 1
                    count["wrong"] += told.text != right[defense, at]
            await client.close()

    async def watch(server: Server, begin: float, until: float) -> None:
        while time.monotonic() < until:
            memory.append((round(time.monotonic() - begin, 1), resident_mb(server.pid)))
            await asyncio.sleep(min(5, 6 * minutes))

    with started("probe") as server:
        begin = time.monotonic()
        until = begin + 60 * minutes
        users = [user(server, random.Random(number), until) for number in range(USERS)]
        await asyncio.gather(watch(server, begin, until), *users)
        held = await asyncio.to_thread(places_held, server)
        memory.append((round(time.monotonic() - begin, 1), resident_mb(server.pid)))
    third = [mb for seconds, mb in memory if seconds <= 20 * minutes]
    growth = memory[-1][1] / max(third) - 1
    results = {"minutes": minutes, **count, "places_held": held, "growth": round(growth, 4)}
    print(results)
    saved(path, {**results, "memory_mb": memory})
    if count["wrong"] or count["failed"] or held or growth > GROWTH:
        raise SystemExit("The soak failed.")


def expected(asked: Sequence[Prompt]) -> dict[tuple[str, int], str]:
    """What `vlm.answer` gives for each defense and prompt."""
    vlm = VLM.load("testbed")
    found = {}
    for defense in ("probe", "none"):
        with build_arm(vlm, defense).attached(vlm):
            for at, prompt in enumerate(asked):
                messages = [prompt.sample.messages()]
                found[defense, at] = vlm.answer(messages, max_new_tokens=prompt.tokens)[0]
    return found


def places_held(server: Server) -> float:
    """How many answers are still waited for or written, after ten seconds without a request."""
    names = ("safesight_requests_running", "safesight_requests_waiting")
    address = server.address.removesuffix("/v1") + "/metrics"
    for _ in range(20):
        time.sleep(0.5)
        lines = httpx.get(address).text.splitlines()
        held = sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(names))
        if not held:
            break
    return held


def resident_mb(pid: int) -> float:
    """Resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    line = next(row for row in status.splitlines() if row.startswith("VmRSS"))
    return round(int(line.split()[1]) / 1024, 1)
