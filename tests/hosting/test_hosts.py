"""The host: followed rows hear what they are given, end on their own, and change nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from safesight.defenses import Artifact, protection
from safesight.defenses.shared.linear_gate import LinearGate
from safesight.errors import InputError, LengthError, ModelError
from safesight.hosting import hosts
from safesight.hosting.arms import Arm, build_arm
from safesight.hosting.hosts import Host
from safesight.hosting.requests import Generation, Request
from safesight.hosting.settings import Settings
from safesight.hosting.streams import Caller, cut_at, held_back
from safesight.models import VLM
from tests import tiny
from tests.contracts import defense_helpers as helpers


@pytest.fixture
def served() -> Iterator[Host]:
    host = Host(tiny.vlm("llava"))
    yield host
    host.batcher.close()
    host.detach()


def half_refused(host: Host) -> tuple[Arm, Artifact]:
    """An arm whose detector refuses some of `helpers.prompts()`."""
    defense = helpers.build("probe")
    artifact = helpers.some_refused(
        defense, helpers.fitted("probe", "llava"), host.vlm, helpers.prompts()
    )
    return build_arm(host.vlm, "probe", {"probe": artifact}), artifact


class Listener(Caller):
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        super().__init__(self.pieces.append)


def asked(host: Host, arm: Arm, *settings: Settings) -> list[tuple[Generation, Listener]]:
    callers = [Listener() for _ in settings]
    futures = [
        host.request(Request(arm, each, prompt, caller=caller))
        for each, prompt, caller in zip(settings, helpers.prompts(), callers, strict=True)
    ]
    return [(f.result(60), caller) for f, caller in zip(futures, callers, strict=True)]


@pytest.mark.parametrize("name", ["none", "probe", "coca", "ecso"])
def test_followed_rows_are_answered_as_any_other(served: Host, name: str) -> None:
    arm = half_refused(served)[0] if name == "probe" else build_arm(served.vlm, name)
    settings = [Settings(6)] * 4
    plain = [
        served.submit(arm, each, prompt)
        for each, prompt in zip(settings, helpers.prompts(), strict=True)
    ]
    for (found, heard), wanted in zip(asked(served, arm, *settings), plain, strict=True):
        assert found == wanted.result(60)
        # A refusal is no beginning of an answer: it comes as a whole, with its decision.
        assert "".join(heard.pieces) == ("" if found.refused else found.text)


def test_each_row_has_its_own_length_stop_and_seed(served: Host) -> None:
    arm = build_arm(served.vlm, "none")
    drawn = Settings(6, temperature=1.0)
    rows = [
        replace(drawn, seed=1),
        replace(drawn, seed=2, max_new_tokens=2),
        replace(drawn, seed=3),
        replace(drawn, seed=1, max_new_tokens=1),
    ]
    sizes: list[int] = []
    run = served.batcher._run
    served.batcher._run = lambda key, batch: sizes.append(len(batch)) or run(key, batch)  # type: ignore[func-returns-value]
    together = [found for found, _ in asked(served, arm, *rows)]
    assert sizes == [4], "they share a batch"
    alone = [
        served.submit(arm, each, prompt).result(60)
        for each, prompt in zip(rows, helpers.prompts(), strict=True)
    ]
    assert together == alone
    assert [each.output_tokens for each in together][1::2] == [2, 1]
    word = together[0].text.split()[-1]
    stopped = asked(served, arm, replace(rows[0], stop=(word,)), *rows[1:])[0]
    assert stopped[0].text == together[0].text[: together[0].text.index(word)]
    assert stopped[0].stop_reason == "stop"
    assert "".join(stopped[1].pieces) == stopped[0].text


def test_a_refused_row_is_settled_while_the_others_are_written(served: Host) -> None:
    arm, _ = half_refused(served)
    done: list[tuple[int, bool]] = []
    order = threading.Lock()
    futures = []
    for row, prompt in enumerate(helpers.prompts()):
        request = Request(arm, Settings(20), prompt, caller=Caller())
        future = served.request(request)

        def note(found: Any, row: int = row) -> None:
            with order:
                done.append((row, bool(found.result().refused)))

        future.add_done_callback(note)
        futures.append(future)
    for future in futures:
        future.result(60)
    refused = [was for _, was in done]
    assert refused == sorted(refused, reverse=True), "refusals first"
    assert 0 < sum(refused) < 4


def test_a_caller_who_has_gone_frees_the_batch(served: Host) -> None:
    arm = build_arm(served.vlm, "none")
    callers = [Caller() for _ in range(4)]
    for caller in callers:
        caller.leave()
    with helpers.count_forwards(served.vlm.layers[0]) as steps:
        futures = [
            served.request(Request(arm, Settings(50), prompt, caller=caller))
            for prompt, caller in zip(helpers.prompts(), callers, strict=True)
        ]
        for future in futures:
            future.result(60)
    assert len(steps) == 1


def test_a_caller_who_goes_is_settled_while_the_others_are_written(served: Host) -> None:
    arm = build_arm(served.vlm, "none")
    leaving = Caller(lambda piece: leaving.leave())
    callers = [Caller(), Caller(), Caller(), leaving]
    done: list[int] = []
    futures = []
    for row, (prompt, caller) in enumerate(zip(helpers.prompts(), callers, strict=True)):
        future = served.request(Request(arm, Settings(20), prompt, caller=caller))
        future.add_done_callback(lambda _, row=row: done.append(row))
        futures.append(future)
    for future in futures:
        future.result(60)
    assert done[0] == 3


def test_probabilities_are_those_of_the_model(served: Host) -> None:
    vlm, settings = served.vlm, Settings(4, logprobs=2, temperature=2.0, seed=5)
    arm, _ = half_refused(served)
    for (found, _), prompt in zip(
        asked(served, arm, *[settings] * 4), helpers.prompts(), strict=True
    ):
        if found.refused:
            assert found.logprobs is None
            continue
        assert found.logprobs is not None
        assert len(found.logprobs) == found.output_tokens
        with torch.no_grad():
            first = vlm.model(**vlm.encode([prompt])).logits[0, -1].log_softmax(-1)
        values, ids = first.topk(2)
        best = found.logprobs[0].best
        assert [each.text for each in best] == [vlm.tokenizer.decode(i) for i in ids.tolist()]
        assert torch.allclose(torch.tensor([each.logprob for each in best]), values, atol=1e-4)
        spelled = b"".join(each.spelled for each in found.logprobs).removesuffix(b"<eos>")
        assert spelled.decode(errors="replace").strip() == found.text
        chosen = [i for i in range(len(first)) if vlm.tokenizer.decode(i) == found.logprobs[0].text]
        assert any(abs(float(first[i]) - found.logprobs[0].logprob) < 1e-4 for i in chosen)


def test_a_pipeline_has_no_probabilities(served: Host) -> None:
    request = Request(build_arm(served.vlm, "ecso"), Settings(4, logprobs=0), helpers.prompts()[0])
    with pytest.raises(InputError, match="logprobs"):
        served.request(request).result(60)


@given(st.text("ab ", max_size=12), st.lists(st.text("ab ", min_size=1, max_size=3), max_size=2))
def test_nothing_of_a_stop_string_is_heard(text: str, stop: list[str]) -> None:
    final, found = cut_at(text, stop)
    assert found == any(each in text for each in stop)
    heard = ""
    for length in range(len(text) + 1):
        so_far = text[:length]
        if any(each in so_far for each in stop):
            break
        shown = so_far[: len(so_far) - held_back(so_far, stop)]
        assert shown.startswith(heard)
        heard = shown
    assert final.startswith(heard)


def test_a_stop_string_costs_no_more_than_the_text(served: Host) -> None:
    """It is compared in the thread that generates, after each token."""
    begun = time.monotonic()
    assert held_back("a" * 300, ["a" * 300_000 + "b"]) == 300
    assert held_back("what is a cup? " * 20, ["w" * 300_000]) == 0
    assert time.monotonic() - begun < 1


@pytest.mark.parametrize("name", ["none", "safety_prompt", "probe"])
def test_an_answer_is_as_long_as_the_context_allows(
    served: Host, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Defenses may make the prompt longer; the choices of a request still share a batch."""
    vlm = served.vlm
    given = {"probe": helpers.fitted("probe", "llava")} if name == "probe" else {}
    arm = build_arm(vlm, name, given)
    prompt = tiny.ask("hi")
    room = 7
    with arm.attached(vlm):
        length, wide = vlm.encode([prompt])["input_ids"].shape[1], []
        forward = vlm.layers[0].register_forward_pre_hook(
            lambda _, args: wide.append(args[0].shape[1])
        )
        expected = vlm.answer([prompt], max_new_tokens=room)[0]
        forward.remove()
    limit = max(length, *wide) + room
    monkeypatch.setattr(VLM, "context_length", limit)
    long = Settings(500, shortened=True)
    rows = [Request(arm, long, prompt, caller=Caller()) for _ in range(3)]
    found = [future.result(60) for future in map(served.request, rows)]
    assert all(each.text == expected for each in found)
    assert all(each.output_tokens <= limit - length for each in found)
    with pytest.raises(LengthError, match="shorter answer"):
        served.submit(arm, Settings(500), prompt).result(60)
    monkeypatch.setattr(VLM, "context_length", length)
    with pytest.raises(LengthError, match="with its answer"):
        served.submit(arm, long, prompt).result(60)


def test_transformers_does_not_warn_of_what_is_an_error_of_ours(
    served: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[object] = []
    monkeypatch.setattr(
        "transformers.tokenization_utils_base.logger.warning",
        lambda *words, **_: said.append(words),
    )
    monkeypatch.setattr(served.vlm.tokenizer, "model_max_length", 8)
    served.vlm.tokenizer("a cup " * 20)
    assert said == []
    served.vlm.tokenizer.deprecation_warnings.clear()
    served.vlm.tokenizer("a cup " * 20)
    assert said


@pytest.mark.parametrize("kept", [False, True])
def test_a_defense_stays_attached_between_requests_if_it_should(served: Host, kept: bool) -> None:
    served.keep_attached = kept
    arm = build_arm(served.vlm, "adashield")
    served.submit(arm, Settings(1), helpers.prompts()[0]).result(60)
    served.batcher.cancel()  # returns once nothing runs
    assert (protection(served.vlm.model) is not None) == kept
    served.keep_attached = False
    served.submit(build_arm(served.vlm, "none"), Settings(1), helpers.prompts()[0]).result(60)
    served.batcher.cancel()
    assert protection(served.vlm.model) is None


@pytest.mark.parametrize("error", [RuntimeError, KeyError])
def test_a_model_that_was_not_restored_answers_nothing_more(
    served: Host, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    arm = build_arm(served.vlm, "safety_prompt")
    settings, prompt = Settings(max_new_tokens=1), helpers.prompts()[0]

    def fail() -> None:
        raise error("no room")

    close = served._stack.close
    monkeypatch.setattr(served, "_unrestored", None)
    monkeypatch.setattr(served._stack, "close", fail)
    assert served.submit(arm, settings, prompt).result(60)
    served.batcher.cancel()
    close()
    with pytest.raises(ModelError, match=r"could not be removed from .*no room"):
        served.submit(arm, settings, prompt).result(60)


def test_what_fits_no_memory_fails_alone_and_shrinks_nothing(
    served: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    generated, huge = hosts.generated, helpers.prompts()[1]

    def short_of_memory(vlm: Any, batch: Any) -> Any:
        if any(row.messages is huge for row in batch):
            raise torch.OutOfMemoryError
        return generated(vlm, batch)

    monkeypatch.setattr(hosts, "generated", short_of_memory)
    arm, before = build_arm(served.vlm, "none"), served.batcher.size
    others = [prompt for at, prompt in enumerate(helpers.prompts()) if at != 1]
    futures = [served.submit(arm, Settings(2), prompt) for prompt in [huge, *others]]
    assert isinstance(futures[0].exception(60), torch.OutOfMemoryError)
    assert all(future.exception(60) is None for future in futures[1:])
    assert served.batcher.size == before


@pytest.mark.parametrize("followed", [False, True])
def test_whatever_one_row_raises_the_others_are_answered(
    served: Host, monkeypatch: pytest.MonkeyPatch, followed: bool
) -> None:
    """But a row of which something was heard gets no second answer."""
    generated, bad = hosts.generated, helpers.prompts()[1]
    callers = [Listener() if followed else None for _ in range(4)]

    def breaks(vlm: Any, batch: Any) -> Any:
        if len(batch) == 4 and callers[2] is not None:
            callers[2].tell("a cup")
        if any(row.messages is bad for row in batch):
            raise KeyError("no such patch")
        return generated(vlm, batch)

    monkeypatch.setattr(hosts, "generated", breaks)
    arm = build_arm(served.vlm, "none")
    prompts = [bad if at == 1 else prompt for at, prompt in enumerate(helpers.prompts())]
    futures = [
        served.request(Request(arm, Settings(2), prompt, caller=caller))
        for prompt, caller in zip(prompts, callers, strict=True)
    ]
    failed = [type(future.exception(60)) for future in futures]
    nothing = type(None)
    assert failed == [nothing, KeyError, KeyError if followed else nothing, nothing]


def test_a_batch_that_is_too_large_is_asked_again_by_those_who_heard_nothing(
    served: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    generated, callers = hosts.generated, [Listener() for _ in range(4)]

    def short_of_memory(vlm: Any, batch: Any) -> Any:
        if len(batch) == 4:
            callers[2].tell("a cup")
            raise torch.OutOfMemoryError
        return generated(vlm, batch)

    monkeypatch.setattr(hosts, "generated", short_of_memory)
    arm = build_arm(served.vlm, "none")
    futures = [
        served.request(Request(arm, Settings(4), prompt, caller=caller))
        for prompt, caller in zip(helpers.prompts(), callers, strict=True)
    ]
    failed = [future.exception(60) is not None for future in futures]
    assert failed == [False, False, True, False]
    assert callers[2].pieces == ["a cup"]


def test_a_detector_without_memory_is_asked_in_smaller_batches(
    served: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    arm, judge = half_refused(served)[0], LinearGate.judge

    def short_of_memory(gate: Any, prefill: Any) -> Any:
        decision = judge(gate, prefill)
        if len(decision.scores) > 1:
            raise torch.OutOfMemoryError
        return decision

    plain = [served.submit(arm, Settings(3), prompt) for prompt in helpers.prompts()]
    wanted = [future.result(60) for future in plain]
    monkeypatch.setattr(LinearGate, "judge", short_of_memory)
    again = [served.submit(arm, Settings(3), prompt) for prompt in helpers.prompts()]
    assert [each.result(60).text for each in again] == [each.text for each in wanted]
