"""Batches of prompts and answers, on every architecture."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch

from safesight import VLM
from safesight.errors import InputError, ModelError
from safesight.training.batches import IGNORE, Ahead, Collator
from safesight.training.losses import cross_entropy, row_losses, token_nll
from safesight.training.passes import Passes, labels_of
from safesight.training.weights import Installed
from tests import tiny
from tests.contracts.defense_helpers import fingerprint
from tests.training.helpers import data, fit, row, rows


@pytest.fixture(params=tiny.FAMILIES)
def vlm(request: pytest.FixtureRequest) -> Any:
    return tiny.vlm(request.param)


ROWS = [row("a", picture=True), row("bb"), row("a long one", "retain", picture=True)]


def test_a_row_is_the_prompt_and_then_the_answer(vlm: Any) -> None:
    batch = Collator(vlm).rows(ROWS)
    prompts = vlm.encode([tiny.ask(r.question, *([r.picture()] if r.image else [])) for r in ROWS])
    length = prompts["input_ids"].shape[1]
    ids = batch["inputs"]["input_ids"]
    assert torch.equal(ids[:, :length], prompts["input_ids"])
    assert batch["width"] == ids.shape[1] - length
    assert bool((batch["answer"][:, :length] == IGNORE).all())
    for n, sample in enumerate(ROWS):
        tokens = batch["answer"][n][batch["answer"][n] != IGNORE].tolist()
        assert tokens[-1] == vlm.tokenizer.eos_token_id
        assert vlm.tokenizer.decode(tokens[:-1]) == sample.answer
        assert int(batch["inputs"]["attention_mask"][n, length:].sum()) == len(tokens)


def test_a_token_is_predicted_without_seeing_it(vlm: Any) -> None:
    """What stands behind a place changes nothing there, so no loss can cheat."""
    passes, collator = Passes(vlm, Installed()), Collator(vlm)
    one = collator.rows([row("a", picture=True, answer="do it now")])
    two = collator.rows([row("a", picture=True, answer="do it xyz")])
    assert one["width"] == two["width"]
    same = one["inputs"]["input_ids"].shape[1] - 4  # three letters and the end of the turn
    with torch.no_grad():
        first, second = passes.logits(one), passes.logits(two)
    assert torch.allclose(first[:, :same], second[:, :same], atol=1e-5)
    assert not torch.allclose(first[:, same:], second[:, same:], atol=1e-3)


def test_the_losses_are_those_of_a_loop_over_single_rows(vlm: Any) -> None:
    """A second computation: each row alone, token by token, with log_softmax."""
    passes, collator = Passes(vlm, Installed()), Collator(vlm)
    batch = collator.rows(ROWS)
    with torch.no_grad():
        found = passes.row_losses(batch, mean=False)
        mean = passes.row_losses(batch)
        whole = passes.cross_entropy(batch)
        sums, counts = [], []
        for sample in ROWS:
            alone = collator.rows([sample])
            inputs = alone["inputs"]
            scores = vlm.model(**inputs, use_cache=False).logits[0].float().log_softmax(-1)
            ids, width = inputs["input_ids"][0], alone["width"]
            places = range(len(ids) - width, len(ids))
            sums.append(-sum(float(scores[p - 1, ids[p]]) for p in places))
            counts.append(width)
    assert found.tolist() == pytest.approx(sums, rel=2e-4)
    assert mean.tolist() == pytest.approx(
        [s / c for s, c in zip(sums, counts, strict=True)], rel=2e-4
    )
    assert float(whole) == pytest.approx(sum(sums) / sum(counts), rel=2e-4)


def test_the_question_is_found(vlm: Any) -> None:
    batch = Collator(vlm, queries=True).rows(ROWS)
    for n, sample in enumerate(ROWS):
        tokens = batch["query"][n][batch["query"][n] != IGNORE].tolist()
        assert vlm.tokenizer.decode(tokens) == sample.question
    both = labels_of(batch, "both")
    assert torch.equal(both != IGNORE, (batch["query"] != IGNORE) | (batch["answer"] != IGNORE))


def test_states_are_those_of_the_whole_pass(vlm: Any) -> None:
    passes, batch = Passes(vlm, Installed()), Collator(vlm).rows(ROWS)
    with torch.no_grad():
        found = passes.states(batch, 1)
        output = vlm.model(**batch["inputs"], use_cache=False, output_hidden_states=True)
    assert torch.equal(found, output.hidden_states[2])


def test_an_answer_may_be_missing_where_only_the_question_counts() -> None:
    vlm = tiny.vlm("llava")
    batch = Collator(vlm, queries=True).rows([row("a", answer=""), row("bb", answer="")])
    assert batch["width"] == 0
    with torch.no_grad():
        assert bool((Passes(vlm, Installed()).row_losses(batch, "query") > 0).all())


def test_placeholders_in_answers_are_refused() -> None:
    with pytest.raises(InputError, match="image placeholder"):
        Collator(tiny.vlm("llava")).rows([row("a", answer="an <image> of it")])


def test_a_model_that_reads_both_ways_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    vlm = tiny.vlm("llava")
    monkeypatch.setattr("safesight.training.batches.BIDIRECTIONAL", ("llava",))
    with pytest.raises(ModelError, match="both directions"):
        Collator(vlm)


def test_losses_against_torch() -> None:
    dice = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 6, 11, generator=dice)
    labels = torch.randint(0, 11, (3, 6), generator=dice)
    labels[0, :4], labels[1, 2:5], labels[2] = IGNORE, IGNORE, IGNORE
    sums = torch.zeros(3)
    for b in range(3):
        for t in range(1, 6):
            if labels[b, t] != IGNORE:
                sums[b] -= logits[b, t - 1].log_softmax(-1)[labels[b, t]]
    counts = (labels[:, 1:] != IGNORE).sum(1).clamp(min=1)
    assert torch.allclose(token_nll(logits, labels).sum(1), sums, atol=1e-5)
    assert torch.allclose(row_losses(logits, labels), sums / counts, atol=1e-5)
    assert row_losses(logits, labels)[2] == 0
    theirs = torch.nn.functional.cross_entropy(
        logits[:, :-1].reshape(-1, 11), labels[:, 1:].reshape(-1), ignore_index=IGNORE
    )
    assert torch.allclose(cross_entropy(logits, labels), theirs)


def test_a_batch_is_made_while_the_caller_goes_on() -> None:
    go_on = threading.Event()
    with Ahead(lambda items: go_on.wait(timeout=20) and items) as ahead:
        first, second = ahead([1]), ahead([2])
        go_on.set()
        assert [first.result(), second.result()] == [[1], [2]]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("batches")]


def test_what_goes_wrong_in_a_batch_stops_the_run_as_itself() -> None:
    vlm = tiny.vlm("llava")
    before, torn = fingerprint(vlm.model), row("torn", "retain", answer="an <image> of it")
    with pytest.raises(InputError, match="image placeholder"):
        fit("npo", vlm, given=data(*rows(), torn), max_steps=8)
    assert fingerprint(vlm.model) == before
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("batches")]


@pytest.mark.parametrize("method", ["npo", "sft", "rmu", "grad_diff"])
@pytest.mark.parametrize("part", ["question", "answer"])
def test_a_row_beyond_the_context_is_refused_before_anything_is_trained(
    method: str, part: str
) -> None:
    vlm = tiny.vlm("llava")
    passes = []
    handle = vlm.layers[0].register_forward_pre_hook(lambda *_: passes.append(1))
    kind = "forget" if part == "question" else "retain"
    given = data(*rows(), row("long", kind, **{part: "word " * 10_000}))
    try:
        with pytest.raises(InputError, match=r"row 'long' has [45]\d,\d{3} tokens.* at most 4,096"):
            fit(method, vlm, given=given, max_steps=1, **({"layer": 1} if method == "rmu" else {}))
    finally:
        handle.remove()
    assert not passes


def test_prompt_and_answer_together_fit_into_the_context_or_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vlm = tiny.vlm("llava")
    collator = Collator(vlm)
    start = collator.rows([row("a", answer="b")])["inputs"]["input_ids"].shape[1]
    limit = vlm.context_length or 0
    longest = row("just", question="how to a?", answer="b" * (limit - start + 1))
    assert collator.rows([longest])["inputs"]["input_ids"].shape[1] == limit
    longer = row("over", question="how to a?", answer="b" * (limit - start + 2))
    with pytest.raises(InputError, match=f"row 'over' has {limit + 1:,} tokens"):
        collator.rows([longest, longer])
    monkeypatch.setattr(VLM, "context_length", None)  # a config that does not say
    collator.check([longer])
    assert collator.rows([longer])["inputs"]["input_ids"].shape[1] == limit + 1
