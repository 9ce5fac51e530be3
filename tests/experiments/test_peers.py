"""`benchmarks/peers.py`: turns, ratios, resuming, and what is said of them; nothing is timed."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from scripts.docs import fills
from scripts.docs.results import Results

SCRIPTS = Path(__file__).parents[2] / "benchmarks"

WORKER = """
import sys
from peers_rounds import Unavailable
from peers_worker import work

def make(told):
    print("said by a library")
    if told["ready"] is None:
        raise Unavailable("It is not here.")
    calls = []
    def measure():
        calls.append(1)
        return {"seconds": told["ready"], "call": len(calls)}
    return {"a": measure, "b": lambda: sys.exit(3)}

work(make)
"""


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports a script by name, as it imports its neighbours."""
    monkeypatch.setattr(sys, "path", [str(SCRIPTS), *sys.path])
    return importlib.import_module


def test_every_arm_comes_first_and_follows_each_other(script: Any) -> None:
    order = script("peers_rounds").order
    turns = [order("abc", turn) for turn in range(6)]
    assert all(sorted(turn) == ["a", "b", "c"] for turn in turns)
    assert Counter(turn[0] for turn in turns) == {"a": 2, "b": 2, "c": 2}
    follows = {pair for turn in turns for pair in pairwise(turn)}
    assert len(follows) == 6


def timed(arm: str, turn: int, seconds: float, n: int = 1) -> dict[str, Any]:
    return {"row": "r", "case": "c", "arm": arm, "round": turn, "seconds": seconds, "n": n}


def test_a_ratio_is_of_the_same_round_and_of_one_thing(script: Any) -> None:
    """A slow minute hits both arms of a round; one arm does four things at a time."""
    rounds = script("peers_rounds")
    ours = [timed("ours", turn, 2 * slow) for turn, slow in enumerate((1.0, 9.0, 1.0))]
    theirs = [timed("theirs", turn, 4 * slow, 4) for turn, slow in enumerate((1.0, 9.0, 2.0))]
    counted = {"row": "r", "case": "c", "arm": "counted", "round": 0, "flops": 3}

    def pairs(case: str, arms: Any) -> Any:
        return [rounds.Pair("ours", "theirs", most=1.5), rounds.Pair("ours", "absent")]

    row = rounds.Row("r", ["c"], None, pairs)
    alone, compared = rounds.summarized([*ours, *theirs, counted], [row])
    assert (alone["arm"], alone["ms"], "ratio" in alone) == ("theirs", 2000.0, False)
    assert (compared["ratio"], compared["ratio_low"], compared["ratio_high"]) == (2.0, 1.0, 2.0)
    assert (compared["ms"], compared["rounds"], compared["met"]) == (2000.0, 3, False)


class Clock:
    """Arms that count how often they were measured, and may stop the run."""

    def __init__(self, rounds: Any, stop_after: int | None = None) -> None:
        self.rounds, self.stop_after = rounds, stop_after
        self.calls: list[str] = []

    @property
    def row(self) -> Any:
        pairs = [self.rounds.Pair("a", "b")]
        return self.rounds.Row("r", ["c"], self.start, lambda case, arms: pairs, rounds=3)

    @contextmanager
    def start(self, arguments: Any, case: str) -> Iterator[Any]:
        yield {"a": self.measure("a"), "b": self.measure("b")}

    def measure(self, arm: str) -> Callable[[], dict[str, Any]]:
        def measured() -> dict[str, Any]:
            if len(self.calls) == self.stop_after:
                raise KeyboardInterrupt
            self.calls.append(arm)
            return {"seconds": 1.0 if arm == "a" else 2.0}

        return measured


def arguments(path: Path, **more: Any) -> argparse.Namespace:
    given = {"rows": "", "cases": "", "rounds": None, "small": False, "fresh": False}
    return argparse.Namespace(out=path, **{**given, **more})


def test_a_stopped_run_resumes_at_its_whole_rounds(script: Any, tmp_path: Path) -> None:
    peers, path = script("peers"), tmp_path / "peers.json"
    first = Clock(script("peers_rounds"), stop_after=2 + 3)  # a warm-up, and one round and a half
    with pytest.raises(KeyboardInterrupt):
        peers.measure_rows(arguments(path), (first.row,), {})
    assert [row["round"] for row in json.loads(path.read_text())["rows"]] == [0, 0, 1]
    again = Clock(script("peers_rounds"))
    peers.measure_rows(arguments(path), (again.row,), {})
    assert len(again.calls) == 2 + 4, "the cut round is measured again"
    found = json.loads(path.read_text())
    assert Counter(row["round"] for row in found["rows"]) == {0: 2, 1: 2, 2: 2}
    assert [line.get("ratio") for line in found["summary"]] == [None, 0.5]
    once_more = Clock(script("peers_rounds"))
    peers.measure_rows(arguments(path), (once_more.row,), {})
    assert once_more.calls == []


def test_a_round_cut_at_its_first_arm_is_not_whole(script: Any, tmp_path: Path) -> None:
    peers, path = script("peers"), tmp_path / "peers.json"
    cut = Clock(script("peers_rounds"), stop_after=2 + 1)
    with pytest.raises(KeyboardInterrupt):
        peers.measure_rows(arguments(path, rounds=1), (cut.row,), {})
    again = Clock(script("peers_rounds"))
    peers.measure_rows(arguments(path, rounds=1), (again.row,), {})
    assert Counter(row["arm"] for row in json.loads(path.read_text())["rows"]) == {"a": 1, "b": 1}


def test_a_row_that_cannot_be_measured_is_left_out_and_said(script: Any, tmp_path: Path) -> None:
    peers, rounds, path = script("peers"), script("peers_rounds"), tmp_path / "peers.json"

    def start(given: Any, case: str) -> Any:
        raise rounds.Unavailable("There is no such engine here.")

    def count(given: Any) -> dict[str, Any]:
        raise rounds.Unavailable("It cannot be counted.")

    absent = rounds.Row("absent", ["c"], start, lambda case, arms: [], facts={"memory": count})
    clock = Clock(rounds)
    peers.measure_rows(arguments(path), (absent, clock.row), {})
    found = json.loads(path.read_text())
    assert found["left_out"] == [
        "absent, c: There is no such engine here.",
        "absent, memory: It cannot be counted.",
    ]
    assert {row["row"] for row in found["rows"]} == {"r"}


def test_a_worker_answers_in_an_environment_of_its_own(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(SCRIPTS))
    worker, unavailable = script("peers_worker").Worker, script("peers_rounds").Unavailable
    path = tmp_path / "script.py"
    path.write_text(WORKER)
    with script("peers_worker").answering(
        lambda: worker(sys.executable, str(path), {"ready": 0.25})
    ) as arms:
        assert list(arms) == ["a", "b"]
        assert [arms["a"]()["call"] for _ in range(2)] == [1, 2]
        with pytest.raises(unavailable, match=r"script\.py ended"):
            arms["b"]()
    with pytest.raises(unavailable, match="It is not here"):
        worker(sys.executable, str(path), {"ready": None})


def shape_entries(shapes: Any, added: float) -> list[dict[str, Any]]:
    """A model with 2 of 8 blocks, 1 s each, and half of its vision tower, 1 s; 1 s for the rest.

    A whole prefill takes 8 + 2 + 1 s. A step takes 0.3 s, of which 0.2 s are of two blocks: in full
    0.9 s. Of 5 blocks that `sasa` would run again, it runs 1.
    """
    bare = {"vision_seconds": 1.0, "block_seconds": 2.0, "row": shapes.ROW.name, "case": "m"}
    flops = {"whole": 40, "vision": 10, "blocks": 20}
    facts = {
        **{"layers": 2, "all_layers": 8, "replayed": 1, "all_replayed": 5, "vision_share": 2},
        "step_seconds": {"whole": 0.3, "blocks": 0.2},
        "flops": {"undefended": flops, **{d: {**flops, "whole": 51} for d in shapes.DEFENSES}},
        "step_flops": {"whole": 3, "blocks": 2},
        "memory": {
            "undefended": {"apply_gb": 1.0},
            **{d: {"fit_gb": 3.0, "apply_gb": 2.0} for d in shapes.DEFENSES},
        },
    }
    key = {"row": shapes.ROW.name, "case": "m", "round": 0}
    return [
        {**bare, "arm": "undefended", "round": 0, "seconds": 4.0},
        *({**key, "arm": each, "seconds": 4.0 + added} for each in shapes.DEFENSES),
        {**key, "arm": shapes.FACTS, **facts},
    ]


def test_shares_are_those_of_the_whole_depth(script: Any) -> None:
    shapes = script("peers_shapes")
    lines = {line["defense"]: line for line in shapes.scaled(shape_entries(shapes, 0.11))}
    assert lines["probe"]["prefill"] == [0.01, 0.01, 0.01]
    assert lines["sasa"]["prefill"] == [0.05, 0.05, 0.05], "five blocks again, not one"
    assert lines["sasa"]["answer"][0] == pytest.approx(0.55 / (11 + 127 * 0.9), abs=1e-4)
    assert lines["probe"]["prefill_flops"] == pytest.approx(11 / 110, rel=1e-2)
    assert lines["probe"]["answer_flops"] == pytest.approx(11 / (110 + 127 * 9), rel=1e-2)
    assert (lines["rai"]["fit_gb"], lines["rai"]["bare_gb"]) == (3.0, 1.0)


def test_the_documentation_is_empty_until_it_was_measured(tmp_path: Path, script: Any) -> None:
    page = "".join(
        f"<!-- fill: {name} peers -->x<!-- /fill -->" for name in ("peers", "shapes", "facts")
    )
    before = Results(tmp_path)
    assert ">x<" not in fills.fill(page, before, "page.md")
    assert "|" not in fills.fill(page, before, "page.md")
    assert before.missing == []
    shapes = script("peers_shapes")
    rounds = script("peers_rounds")
    row = rounds.Row("r", ["c"], None, lambda case, arms: [rounds.Pair("a", "b", most=1.0)])
    measured = {
        "summary": rounds.summarized([timed("a", 0, 1.0), timed("b", 0, 2.0)], [row]),
        "shapes": shapes.scaled(shape_entries(shapes, 0.11)),
        "facts": [{"name": "m", "mb_per_10000": 200.0, "kb_per_sample": 20, "samples": [1, 2]}],
        "left_out": ["vllm, wide: It is not here."],
        "rows": [],
    }
    (tmp_path / "peers.json").write_text(json.dumps(measured))
    after = fills.fill(page, Results(tmp_path), "page.md")
    assert "| r | c | a | 1000 | b | 0.50 (0.50 to 0.50) | 1 | ≤ 1: met |" in after
    assert "| m | sasa | 5.0% (5.0 to 5.0) | 50% |" in after
    assert "Not measured: vllm, wide: It is not here." in after
    assert "200 MB to the loaded model for 10,000 samples (20 kB each" in after


def test_messages_of_an_engine_hold_the_pictures(script: Any) -> None:
    found = script("peers_vllm").as_vllm(
        [
            {
                "role": "user",
                "content": [{"type": "image", "image": 7}, {"type": "text", "text": "?"}],
            }
        ]
    )
    parts = [{"type": "image_pil", "image_pil": 7}, {"type": "text", "text": "?"}]
    assert found == [{"role": "user", "content": parts}]


def test_a_gpu_is_asked_for_in_one_sentence(
    script: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gpu = script("gpu")
    monkeypatch.setattr(gpu.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    gpu.main()
    assert capsys.readouterr().out == "There is no CUDA device here, so nothing was measured.\n"
