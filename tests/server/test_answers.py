"""What an answer says of itself: each of its choices, and a stream that broke off."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from safesight.defenses.shared.linear_gate import LinearGate
from safesight.hosting import hosts
from safesight.hosting.requests import Generation
from tests.server.serving import Serving, samples, serving, shown

ANSWERED = shown(samples("vqa")[0])
WORDS = [{"role": "user", "content": "what is in the picture?"}]


@pytest.mark.parametrize("stream", [False, True])
def test_each_choice_says_what_was_decided_about_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    """Choices may be judged in different batches; what stands for all of them is the strictest."""
    judge, turns = LinearGate.judge, itertools.count()

    def every_other(*judged: Any) -> Any:
        found, refuse = judge(*judged), next(turns) % 2 == 1
        return replace(found, refuse=torch.full_like(found.refuse, refuse))

    log = tmp_path / "decisions.jsonl"
    with serving(log) as served:
        monkeypatch.setattr(LinearGate, "judge", every_other)
        monkeypatch.setattr(served.host.batcher, "max_batch", 1)
        before = served.metric("safesight_refusals_total")
        body = {"model": "testbed", "messages": ANSWERED, "n": 2, "max_tokens": 4, "stream": stream}
        answer = served.post(body)
        assert served.metric("safesight_refusals_total") - before == 1
    assert answer.headers["x-safesight-refused"] == "true"
    assert answer.headers["x-safesight-detector"] == "probe"
    if stream:
        lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line]
        ends = [event for event in map(json.loads, lines[:-1]) if "safesight" in event]
        found = {end["choices"][0]["index"]: end["safesight"] for end in ends}
    else:
        whole = answer.json()
        assert whole["safesight"]["refused"]
        assert whole["safesight"]["decisions"]["probe"]["refused"]
        found = {choice["index"]: choice["safesight"] for choice in whole["choices"]}
    assert {number: each["refused"] for number, each in found.items()} == {0: False, 1: True}
    (line,) = map(json.loads, log.read_text().splitlines())
    assert (line["choice"], line["refused"]) == (1, True)


def test_a_stream_is_never_spliced(served: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some tokenizers change what they have written when more follows."""

    def changed(vlm: Any, batch: Any) -> Any:
        for row in batch:
            row.caller.tell("do n")
        return [Generation("don't", "stop", 1, 1, False, {}) for _ in batch]

    monkeypatch.setattr(hosts, "generated", changed)
    answer = served.post({"model": "testbed", "messages": WORDS, "stream": True})
    *_, heard, last = [line for line in answer.text.splitlines() if line]
    assert json.loads(heard.removeprefix("data: "))["choices"][0]["delta"]["content"] == "do n"
    assert json.loads(last.removeprefix("data: "))["error"]["type"] == "server_error"
