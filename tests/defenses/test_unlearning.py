"""The methods' losses, each against a second, plain computation; and that they do what they say."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch

from safesight.defenses import load_defense
from safesight.defenses.baselines import ascent
from safesight.defenses.npo import NPOConfig, forget_loss, retain_loss, shift
from safesight.defenses.npo import _terms as npo_terms
from safesight.defenses.rmu import RMUConfig, _measure, direction, distance
from safesight.defenses.rmu import _terms as rmu_terms
from safesight.defenses.sft import SFTConfig, _rows, balanced_first_words
from safesight.defenses.sft import _answers as sft_answers
from safesight.errors import InputError
from safesight.models import VLM
from safesight.training.batches import Collator
from safesight.training.choice import choose
from safesight.training.config import TuningConfig
from safesight.training.forks import Forks
from safesight.training.passes import Passes, answer_term, labels_of, summed
from safesight.training.rows import TuningData
from safesight.training.weights import Installed, installed
from tests import tiny
from tests.training.helpers import data, fit, row, rows

FORGET = [r for r in rows() if r.set == "forget"]
RETAIN = [r for r in rows() if r.set == "retain"]


@pytest.fixture
def changed() -> Any:
    """Passes of a model whose small matrices are not zero, so that it is not its base."""
    vlm = tiny.vlm("llava")
    with installed(vlm, choose(vlm, TuningConfig(rank=2)), training=True) as result:
        dice = torch.Generator().manual_seed(0)
        for parameter in result.parameters.values():
            parameter.data.normal_(0, 0.1, generator=dice)
        vlm.model.eval()
        yield Passes(vlm, result)


def batch_of(passes: Passes, queries: bool = False) -> Any:
    collator = Collator(passes.vlm, queries=queries)
    return {
        "forget": collator.rows(FORGET[:2]),
        "retain": collator.rows(RETAIN[:3]),
        "again": collator.rows(RETAIN[3:]),
    }


def token_losses(passes: Passes, given: Any, labels: Any = "answer") -> list[list[float]]:
    """Of each row alone, the -log p of each labelled token; by a loop over log_softmax."""
    found = []
    for sample in given:
        one = Collator(passes.vlm, queries=True).rows([sample])
        with torch.no_grad():
            logits = passes.vlm.model(**one["inputs"], use_cache=False).logits[0].double()
        marks = labels_of(one, labels)[0].tolist()
        found.append(
            [
                float(torch.logsumexp(logits[t - 1], 0) - logits[t - 1, token])
                for t, token in enumerate(marks)
                if token >= 0
            ]
        )
    return found


def whole_loss(terms: Any, passes: Passes, queries: bool = False) -> dict[str, float]:
    """All terms of a batch, added up."""
    batch = batch_of(passes, queries)
    with torch.no_grad():
        return summed([term(passes, batch) for term in terms])


def flat(lists: list[list[float]]) -> list[float]:
    return [value for each in lists for value in each]


def mean(values: Any) -> float:
    values = list(values)
    return sum(values) / len(values)


@pytest.mark.parametrize(
    ("reduction", "per", "target"),
    [
        ("mean", "row", "answer"),
        ("sum", "row", "answer"),
        ("mean", "batch", "answer"),
        ("sum", "batch", "query"),
        ("mean", "row", "both"),
    ],
)
def test_npo(changed: Passes, reduction: str, per: str, target: str) -> None:
    settings = {"reduction": reduction, "per": per, "target": target, "beta": 0.7}
    config = NPOConfig(**settings, forget_weight=2.0, retain_alpha=0.5, retain_weight=3.0)
    found = whole_loss(npo_terms(config), changed, queries=True)

    def rise(given: Any, labels: str) -> list[float]:
        now = token_losses(changed, given, labels)
        with changed.reference():
            base = token_losses(changed, given, labels)
        if per == "row":
            over = mean if reduction == "mean" else sum
            return [over(n) - over(b) for n, b in zip(now, base, strict=True)]
        if reduction == "mean":
            return [mean(flat(now)) - mean(flat(base))]
        return [mean(sum(n) - sum(b) for n, b in zip(now, base, strict=True))]

    def softly(values: list[float]) -> float:
        return 2 / 0.7 * mean(math.log1p(math.exp(-0.7 * value)) for value in values)

    forget = softly(rise(FORGET[:2], target))
    retain = -softly(rise(RETAIN[3:], "answer"))
    plain = mean(flat(token_losses(changed, RETAIN[:3])))
    assert float(found["forget_loss"]) == pytest.approx(forget, rel=2e-3)
    assert float(found["retain_loss"]) == pytest.approx(retain, rel=2e-3)
    assert float(found["cross_entropy"]) == pytest.approx(plain, rel=1e-4)
    whole = 2 * forget + 0.5 * retain + 3 * plain
    assert float(found["loss"]) == pytest.approx(whole, rel=2e-3)


def test_the_slope_of_npo_fades_and_that_of_its_retain_term_grows() -> None:
    for value, expected in ((0.0, 1.0), (5.0, 2 / (1 + math.exp(0.9 * 5))), (-5.0, 1.978)):
        rise = torch.tensor([value], requires_grad=True)
        forget_loss(rise, 0.9).backward()
        assert float(rise.grad) == pytest.approx(-expected, abs=1e-3)  # type: ignore[arg-type]
    rise = torch.tensor([-5.0], requires_grad=True)
    retain_loss(rise, 0.9).backward()
    assert 1.9 < float(rise.grad) < 2  # type: ignore[arg-type]


def test_a_row_without_tokens_shifts_nothing() -> None:
    assert float(shift(torch.zeros(1), torch.zeros(1), torch.zeros(1, dtype=torch.long))[0]) == 0


@pytest.mark.parametrize(
    ("tokens", "other", "reduction"),
    [
        ("all", None, "mean"),
        ("all", None, "sum"),
        ("text", None, "mean"),
        ("query", None, "mean"),
        ("answer", None, "sum"),
        ("fork", None, "mean"),
        ("fork", "all", "mean"),
    ],
)
def test_rmu(changed: Passes, tokens: str, other: str | None, reduction: str) -> None:
    """Both terms count the same tokens, unless those of retain rows are given as well."""
    vlm, layer = changed.vlm, 1
    settings: Any = {"tokens": tokens, "retain_tokens": other, "reduction": reduction}
    config = RMUConfig(**settings, retain_alpha=0.5, retain_weight=3.0)
    vector = direction("gaussian", vlm.hidden_size, 3)
    collator = Collator(vlm, queries=True)
    forks = Forks.of(collator, FORGET, RETAIN)
    with changed.reference():
        _measure(config, layer, forks, tuple(FORGET), changed, collator)
    found = whole_loss(rmu_terms(config, layer, vector, forks), changed, queries=True)

    def states(sample: Any, tokens: str = tokens) -> tuple[torch.Tensor, list[int]]:
        one = collator.rows([sample])
        with torch.no_grad():
            output = vlm.model(**one["inputs"], use_cache=False, output_hidden_states=True)
        ids = one["inputs"]["input_ids"][0]
        picked = {
            "all": ids >= 0,
            "text": ids != vlm.image_token_id,
            "query": one["query"][0] >= 0,
            "answer": one["answer"][0] >= 0,
            "fork": torch.arange(len(ids)) == before_the_difference(vlm, ids, sample),
        }
        chosen = picked[tokens].nonzero().flatten().tolist()
        return output.hidden_states[layer + 1][0].double(), chosen

    def over(values: torch.Tensor) -> float:
        return float(values.mean() if reduction == "mean" else values.sum())

    with changed.reference():
        lengths = [float(s[t].norm()) for s, places in map(states, FORGET) for t in places]
    assert changed.facts["length"] == pytest.approx(2 * mean(lengths), rel=1e-4)
    target = changed.facts["length"] * vector.double()
    forget = mean(
        over((s[t] - target) ** 2) for s, places in map(states, FORGET[:2]) for t in places
    )
    now = [states(sample, other or tokens) for sample in RETAIN[3:]]
    with changed.reference():
        before = [states(sample)[0] for sample in RETAIN[3:]]
    retain = mean(
        over((s[t] - b[t]) ** 2) for (s, places), b in zip(now, before, strict=True) for t in places
    )
    plain = mean(flat(token_losses(changed, RETAIN[:3])))
    assert float(found["forget_loss"]) == pytest.approx(forget, rel=1e-3)
    assert float(found["retain_loss"]) == pytest.approx(retain, rel=1e-3)
    assert float(found["loss"]) == pytest.approx(forget + 0.5 * retain + 3 * plain, rel=1e-3)


def before_the_difference(vlm: VLM, ids: torch.Tensor, sample: Any) -> int:
    """The b of "do break" and "do bake", as tokens are letters here."""
    whole = vlm.tokenizer(sample.answer, add_special_tokens=False)["input_ids"]
    return len(ids) - len(whole) - 1 + len("do b") - 1


def test_rmu_counts_padding_only_if_asked(changed: Passes) -> None:
    """As the authors' code does: every place of a batch, in both losses."""
    vlm, layer = changed.vlm, 1
    changed.facts["length"] = 2.0
    vector = direction("gaussian", vlm.hidden_size, 3)
    collator, longer = Collator(vlm), row("bake some longer bread", "retain", picture=True)
    batch = {
        name: collator.rows([each[0], longer])
        for name, each in (("forget", FORGET), ("again", RETAIN))
    }
    states = {name: changed.states(rows, layer).detach().double() for name, rows in batch.items()}
    with changed.reference():
        before = changed.states(batch["again"], layer).double()
    assert not batch["again"]["inputs"]["attention_mask"].all()
    expected = [(states["forget"] - 2 * vector.double()).square(), (states["again"] - before) ** 2]
    for tokens, same in (("padded", True), ("all", False)):
        terms = rmu_terms(RMUConfig(tokens=tokens), layer, vector)[:2]  # type: ignore[arg-type]
        for term, squares in zip(terms, expected, strict=True):
            loss = float(term(changed, batch)["loss"].detach())
            assert (loss == pytest.approx(float(squares.mean()), rel=1e-3)) == same


@pytest.mark.parametrize("target", ["answer", "query"])
def test_npo_logs_the_length_of_the_states(changed: Passes, target: str) -> None:
    """Behind the last block, over the tokens that are unlearned; of the model in training."""
    vlm, collator = changed.vlm, Collator(changed.vlm, queries=True)
    found = npo_terms(
        NPOConfig(target=target)
    )[
        0
    ](  # type: ignore[arg-type]
        changed, {"forget": collator.rows(FORGET[:2])}
    )
    lengths: list[float] = []
    for sample in FORGET[:2]:
        one = collator.rows([sample])
        seen: list[torch.Tensor] = []
        handle = vlm.layers[-1].register_forward_hook(lambda *call, seen=seen: seen.append(call[2]))
        with torch.no_grad():
            vlm.model(**one["inputs"], use_cache=False)
        handle.remove()
        states = seen[0][0] if isinstance(seen[0], tuple) else seen[0]
        lengths += states[0].norm(dim=-1)[one[target][0] >= 0].tolist()  # type: ignore[literal-required]
    assert float(found["forget_norm"]) == pytest.approx(mean(lengths), rel=1e-4)


def test_the_authors_direction_is_a_cone() -> None:
    """Two draws from [0, 1] have a cosine of about 3/4, two normal ones of about 0."""
    width = 20_000
    cone = [direction("positive_cone", width, seed) for seed in (0, 1)]
    normal = [direction("gaussian", width, seed) for seed in (0, 1)]
    assert float(cone[0] @ cone[1]) == pytest.approx(0.75, abs=0.02)
    assert float(normal[0] @ normal[1]) == pytest.approx(0, abs=0.03)
    assert float(cone[0].norm()) == pytest.approx(1, abs=1e-5)
    assert torch.equal(cone[0], direction("positive_cone", width, 0))


def test_distance_leaves_padding_out() -> None:
    states = torch.tensor([[[1.0, 3.0], [100.0, 100.0]]])
    mask = torch.tensor([[True, False]])
    assert float(distance(states, torch.zeros(2), mask)) == 5
    assert float(distance(states, torch.zeros(2), mask, mean=False)) == 10


def test_rmu_reads_where_it_is_told() -> None:
    vlm = tiny.vlm("llava")
    artifact = fit("rmu", vlm, max_steps=1)
    assert artifact.fitted["layer"] == round(7 / 32 * vlm.num_layers)
    full = fit("rmu", vlm, max_steps=1, parameters="full", layer=3)
    assert full.fitted["whole"] == [
        f"model.language_model.layers.{layer}.mlp.down_proj.weight" for layer in (1, 2, 3)
    ]
    assert fit("rmu", vlm, max_steps=1, length=5, length_unit="absolute").fitted["length"] == 5
    with pytest.raises(InputError, match="no block 4"):
        fit("rmu", vlm, max_steps=1, layer=4)


@pytest.mark.parametrize("name", ["grad_ascent", "grad_diff", "kl"])
def test_baselines(changed: Passes, name: str) -> None:
    retain: Any = {
        "grad_ascent": [],
        "grad_diff": [partial(answer_term, "retain", 0.5)],
        "kl": [partial(ascent._kept, 0.5)],
    }[name]
    found = whole_loss([ascent._ascent, *retain], changed)
    expected = -mean(flat(token_losses(changed, FORGET[:2])))
    if name == "grad_diff":
        expected += 0.5 * mean(flat(token_losses(changed, RETAIN[:3])))
    if name == "kl":
        terms = []
        for sample in RETAIN[:3]:
            one = Collator(changed.vlm).rows([sample])
            with torch.no_grad():
                now = changed.logits(one)[0].double().softmax(-1)
                with changed.reference():
                    base = changed.logits(one)[0].double().softmax(-1)
            for t in (one["answer"][0] >= 0).nonzero().flatten().tolist():
                p, q = base[t - 1], now[t - 1]
                terms.append(float((p * (p / q).log()).sum()))
        assert mean(terms) > 1e-3
        expected += 0.5 * mean(terms)
    assert float(found["loss"]) == pytest.approx(expected, rel=1e-3)


def test_sft_counts_every_token_of_a_batch_alike(changed: Passes) -> None:
    given = [*FORGET[:2], *RETAIN[:3]]
    batch = {"rows": Collator(changed.vlm).rows(given)}
    with torch.no_grad():
        found = sft_answers(frozenset(r.id for r in FORGET), changed, batch)
        alone = sft_answers(frozenset(), changed, batch)
    losses = token_losses(changed, given)
    assert float(found["loss"]) == pytest.approx(mean(flat(losses)), rel=1e-4)
    assert float(found["refusal_loss"]) == pytest.approx(mean(flat(losses[:2])), rel=1e-4)
    assert float(found["general_loss"]) == pytest.approx(mean(flat(losses[2:])), rel=1e-4)
    assert "refusal_loss" not in alone


def test_sft_teaches_refusals_and_general_rows() -> None:
    given = TuningData([*rows()[:2], row("own", refusal="never."), *RETAIN])
    config = SFTConfig(refusals=("no.",), general=1.0)
    found = _rows(given, config, seed=0)
    said = {r.id: r.answer for r in found}
    assert [said[name] for name in ("break 0", "break 1", "own")] == ["no.", "no.", "never."]
    assert len(found) == 6
    assert len(_rows(given, SFTConfig(mixture="mixed"), seed=0)) == 3 + len(RETAIN)
    assert all(said[r.id] == r.answer for r in RETAIN if r.id in said)
    assert _rows(given, config, seed=0) == found


def test_balanced_first_words_say_nothing() -> None:
    """A word that gave the refusal away gives it away no more, and no word is lost."""
    questions = [f"Share part {n}" for n in range(300)] + [f"What is {n}?" for n in range(700)]
    found = balanced_first_words(questions, seed=0)
    assert sorted(q.split()[0] for q in found) == sorted(q.split()[0] for q in questions)
    assert [q.partition(" ")[2] for q in found] == [q.partition(" ")[2] for q in questions]
    shares = [sum(q.startswith("Share") for q in part) for part in (found[:300], found[300:])]
    assert abs(shares[0] / 300 - shares[1] / 700) < 0.08
    given = [row(r.id, r.set, question=f"{r.set} {r.id}") for r in (*FORGET, *RETAIN)]
    config = SFTConfig(first_words="balanced", mixture="mixed")
    balanced = _rows(TuningData(given), config, seed=1)
    assert [r.question for r in balanced] != [r.question for r in given]
    assert [r.id for r in balanced] == [r.id for r in given]


def answer_loss(vlm: VLM, given: Any) -> float:
    passes = Passes(vlm, Installed())
    return mean(flat(token_losses(passes, given)))


@pytest.mark.parametrize(
    ("name", "parameters"), [("npo", "lora"), ("npo", "full"), ("grad_diff", "lora")]
)
def test_unlearning_unlearns(name: str, parameters: str) -> None:
    """Harmful answers become unlikely, benign ones likelier."""
    vlm = tiny.vlm("llava")
    rate = {"lora": 0.02, "full": 0.005}[parameters]
    artifact = fit(name, vlm, max_steps=12, parameters=parameters, learning_rate=rate)
    before = answer_loss(vlm, FORGET), answer_loss(vlm, RETAIN)
    with load_defense(name).apply(vlm, artifact):
        after = answer_loss(vlm, FORGET), answer_loss(vlm, RETAIN)
    assert after[0] > before[0] + 0.3
    assert after[1] < before[1]


def test_sft_teaches() -> None:
    vlm = tiny.vlm("qwen3_vl")
    refused = [row(r.id, answer="no.", image=r.image) for r in FORGET]
    artifact = fit("sft", vlm, max_steps=12, refusals=("no.",), learning_rate=0.02)
    before = answer_loss(vlm, refused)
    with load_defense("sft").apply(vlm, artifact):
        assert answer_loss(vlm, refused) < before - 0.5


def test_rmu_moves_the_states_to_the_point() -> None:
    vlm = tiny.vlm("llava")
    artifact = fit("rmu", vlm, max_steps=15, learning_rate=0.02, given=data())
    passes_rows = Collator(vlm).rows(FORGET)
    passes = Passes(vlm, Installed())
    target = artifact.fitted["length"] * artifact.tensors["direction"]
    mask = passes_rows["inputs"]["attention_mask"].bool()
    with torch.no_grad():
        before = distance(passes.states(passes_rows, 1), target, mask)
        with load_defense("rmu").apply(vlm, artifact):
            after = distance(passes.states(passes_rows, 1), target, mask)
    assert float(after) < 0.8 * float(before)
