"""The server under load: with defenses, without, and beside `transformers serve`.

    python benchmarks/serve.py                # about half an hour on two idle CPU cores
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
import base64
import io
import os
import random
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import openai
from results_file import RUNS, add_output, measured, opened, saved

from safesight import VLM, registry
from safesight.hosting.arms import build_arm
from safesight.types import Sample

TASKS = ("image_harm", "text_harm", "typographic_harm", "over_refusal", "vqa", "sensitive_benign")
LENGTHS = (8, 24, 48)
USERS = (1, 4, 16)
DEFENSES = ("none", "probe", "sasa")
PLAIN = "transformers serve"
ARMS = (*DEFENSES, PLAIN)
LEAVING = 1 / 3
GROWTH = 0.05
"""The share by which memory may grow from the end of the first third to the last one's."""


@dataclass(frozen=True)
class Prompt:
    """What one user asks."""

    sample: Sample
    messages: list[dict[str, Any]]
    tokens: int


@dataclass(frozen=True)
class Told:
    """How an answer came."""

    text: str
    reason: str | None
    first: float
    """Seconds to the first piece of text."""
    whole: float
    """Seconds to the end."""


@dataclass(frozen=True)
class Server:
    """A program that serves."""

    address: str
    model: str
    pid: int

    @contextmanager
    def client(self) -> Iterator[openai.AsyncOpenAI]:
        """OpenAI's client of it."""
        yield openai.AsyncOpenAI(base_url=self.address, api_key="none", max_retries=0, timeout=120)


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


def prompts(n: int) -> list[Prompt]:
    """This many prompts, of all tasks and lengths in turn."""
    each = -(-n // len(TASKS))
    pools = [registry.load("benchmark", task)(each, split="test", seed=0) for task in TASKS]
    chosen = [pools[at % len(pools)][at // len(pools)] for at in range(n)]
    return [
        Prompt(sample, shown(sample), LENGTHS[at % len(LENGTHS)])
        for at, sample in enumerate(random.Random(0).sample(chosen, n))
    ]


def shown(sample: Sample) -> list[dict[str, Any]]:
    """The messages of a sample in OpenAI's form."""

    def part(found: dict[str, Any]) -> dict[str, Any]:
        if found["type"] != "image":
            return found
        buffer = io.BytesIO()
        found["image"].save(buffer, "PNG")
        uri = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
        return {"type": "image_url", "image_url": {"url": uri}}

    return [{**turn, "content": list(map(part, turn["content"]))} for turn in sample.messages()]


@contextmanager
def started(arm: str) -> Iterator[Server]:
    """A server for an arm, ready to answer; ended at the end."""
    if arm == PLAIN:
        model = str(registry.load("model", "testbed"))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        code = f"from transformers.cli.serve import Serve; Serve({model!r}, port={port})"
        command = [sys.executable, "-c", code]
    else:
        model, port = "testbed", 0
        words = ["--defense", arm, "--allow", "none", "--port", "0"]
        command = [sys.executable, "-m", "safesight", "serve", *words]
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder) / "said.txt"
        with said.open("wb") as file:
            program = subprocess.Popen(command, stderr=file, stdout=subprocess.DEVNULL)
        try:
            address = f"http://127.0.0.1:{port}/v1" if port else told_address(program, said)
            wait_for(address.removesuffix("/v1") + "/health")
            yield Server(address, model, program.pid)
        finally:
            program.kill()
            program.wait()


def told_address(program: subprocess.Popen[bytes], said: Path) -> str:
    """The address in what a server says when it is ready."""
    while program.poll() is None:
        if found := re.search(r"http://\S+/v1", said.read_text()):
            return found[0]
        time.sleep(0.2)
    raise SystemExit(f"The server did not start:\n{said.read_text()}")


def wait_for(address: str) -> None:
    """Return once a server says that it is well."""
    until = time.monotonic() + 300
    while time.monotonic() < until:
        try:
            if httpx.get(address).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.2)
    raise SystemExit(f"Nothing answers at {address}.")


async def ask(client: openai.AsyncOpenAI, server: Server, prompt: Prompt, **more: Any) -> Told:
    """One answer, streamed."""
    begin = time.perf_counter()
    first, text, reason = 0.0, "", None
    stream = await client.chat.completions.create(
        model=server.model,
        messages=prompt.messages,  # type: ignore[arg-type]
        max_tokens=prompt.tokens,
        temperature=0,
        stream=True,
        **more,
    )
    async for piece in stream:
        for choice in piece.choices:
            if choice.delta.content:
                first = first or time.perf_counter() - begin
                text += choice.delta.content
            reason = choice.finish_reason or reason
    whole = time.perf_counter() - begin
    return Told(text, reason, first or whole, whole)


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
            "load": round(os.getloadavg()[0], 1),
        }
    )


def conclude(results: dict[str, Any]) -> None:
    """Add a table: one row per arm and number of users, over all rounds."""
    rows = results["rows"]
    bare = {(row["users"], row["round"]): row["seconds"] for row in rows if row["arm"] == "none"}
    results["summary"] = []
    for users in results["users"]:
        for arm in results["arms"]:
            own = [row for row in rows if row["arm"] == arm and row["users"] == users]
            if not own:
                continue
            ratios = [
                bare[users, row["round"]] / row["seconds"]
                for row in own
                if (users, row["round"]) in bare
            ]
            whole = [each for row in own for each in row["whole_ms"]]
            first = [each for row in own for each in row["first_ms"]]
            refused = [each for row in own for each in row["refused"]]
            per_second = statistics.median(len(row["whole_ms"]) / row["seconds"] for row in own)
            entry = {
                "arm": arm,
                "users": users,
                "answers": len(whole),
                "per_second": round(per_second, 2),
                "throughput_ratio": round(statistics.median(ratios), 3) if ratios else None,
                "throughput_ratio_low": round(min(ratios), 3) if ratios else None,
                "throughput_ratio_high": round(max(ratios), 3) if ratios else None,
                "whole_ms": percentiles(whole),
                "first_ms": percentiles(first),
                "refused": sum(refused),
                "refused_ms": percentiles([w for w, r in zip(whole, refused, strict=True) if r]),
                "answered_ms": percentiles(
                    [w for w, r in zip(whole, refused, strict=True) if not r]
                ),
            }
            results["summary"].append(entry)
            print(entry, flush=True)


def percentiles(values: Sequence[float]) -> list[float] | None:
    """The median and the 95th percentile."""
    if len(values) < 2:
        return None
    cuts = statistics.quantiles(values, n=20, method="inclusive")
    return [round(statistics.median(values), 1), round(cuts[-1], 1)]


async def soaked(minutes: float, asked: Sequence[Prompt], path: Path) -> None:
    """Ask for some minutes while clients leave; raise SystemExit if anything is wrong."""
    right = expected(asked)
    count = {"answered": 0, "left": 0, "wrong": 0, "failed": 0}
    memory: list[tuple[float, float]] = []
    begin = time.monotonic()
    until = begin + 60 * minutes

    async def user(server: Server, chance: random.Random) -> None:
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

    async def watch(server: Server) -> None:
        while time.monotonic() < until:
            memory.append((round(time.monotonic() - begin, 1), resident_mb(server.pid)))
            await asyncio.sleep(min(5, 6 * minutes))

    with started("probe") as server:
        users = [user(server, random.Random(number)) for number in range(12)]
        await asyncio.gather(watch(server), *users)
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


if __name__ == "__main__":
    main()
