"""What every defense promises, tried on every registered defense. New ones need no line here."""

from __future__ import annotations

import copy
import itertools
import logging
from typing import Any

import pytest
import torch
from transformers import DynamicCache

from safesight import registry
from safesight.defenses import Artifact, Defense, Parts, load_defense, protect, protection
from safesight.errors import ArtifactError, InputError, ModelError
from safesight.models import VLM
from tests import tiny
from tests.contracts import defense_helpers as helpers
from tests.contracts.defense_helpers import (
    DEFENSES,
    DETECTORS,
    STILL,
    answers,
    build,
    fingerprint,
    fitted,
    prompts,
    trimmed,
)
from tests.contracts.rotation import dealt

SOME_FAMILIES = ("llava", "qwen3_vl")
EDITS, PIPELINES, INPUTS = (
    [name for name in DEFENSES if name != "none" and helpers.CLASSES[name].kind == kind]
    for kind in ("activation", "pipeline", "input")
)


@pytest.fixture(params=DEFENSES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_metadata(name: str) -> None:
    kind = registry.load("defense", name)
    assert issubclass(kind, Defense)
    assert kind.__bases__ == (Defense,), "defenses share functions, not ancestors"
    assert kind.name == name
    assert kind.kind in ("input", "detector", "activation", "pipeline", "weights")
    assert kind.paper
    sets = {"forget_set", "retain_set", "neutral_set"}
    assert kind.needs <= {"activations", "gradients", "labels"} | sets


def test_unknown_settings_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="strenght"):
        load_defense(name, strenght=1)


def test_every_default_names_its_source(name: str) -> None:
    config = registry.load("defense", name).Config
    sources: dict[str, str] = {}
    for ancestor in reversed(config.__mro__):
        sources |= helpers.field_docs(ancestor)
    for field in config.model_fields:
        assert "Source: " in sources.get(field, ""), f"{name}.{field} does not say its source"


@pytest.mark.parametrize(("name", "family"), [*zip(DEFENSES, itertools.cycle(tiny.FAMILIES))])
def test_off_is_off(name: str, family: str) -> None:
    vlm = tiny.vlm(family)
    plain = helpers.steps(vlm, prompts())
    with load_defense(name, enabled=False).apply(vlm):
        assert helpers.same_steps(helpers.steps(vlm, prompts()), plain)


@pytest.mark.parametrize(("name", "family"), dealt(STILL, 0, SOME_FAMILIES))
def test_a_method_at_its_own_zero_is_off_too(name: str, family: str) -> None:
    """A disabled method never runs; one with its own zero does, and must not move a bit either."""
    vlm = tiny.vlm(family)
    plain = helpers.steps(vlm, prompts())
    defense, artifact = helpers.still(name, family)
    assert defense.config.enabled
    assert defense.build(vlm, artifact) != Parts(), "it never ran"
    with defense.apply(vlm, artifact):
        assert helpers.same_steps(helpers.steps(vlm, prompts()), plain)


@pytest.mark.parametrize(("name", "family"), dealt(DEFENSES, 0))
def test_acts_on_the_model_under_test_and_leaves_it_as_it_was(name: str, family: str) -> None:
    """On differs from off, and off after on is bit for bit what it was before."""
    vlm, defense = tiny.vlm(family), build(name)
    artifact = helpers.some_refused(defense, fitted(name, family), vlm, prompts())
    before, plain = fingerprint(vlm.model), helpers.steps(vlm, prompts())
    with defense.apply(vlm, artifact), helpers.count_forwards(vlm.layers[0]) as forwards:
        defended = helpers.steps(vlm, prompts())
    assert forwards, "the given model never ran"
    # An edit of a few tokens may leave a random model's choices as they were, not its scores.
    assert helpers.same_steps(defended, plain) == (name == "none")
    assert fingerprint(vlm.model) == before
    assert helpers.same_steps(helpers.steps(vlm, prompts()), plain)


@pytest.mark.parametrize(("name", "family"), dealt(DEFENSES, 0, SOME_FAMILIES))
def test_leaves_the_model_as_it_was_after_errors(name: str, family: str) -> None:
    vlm, defense = tiny.vlm(family), build(name)
    before = fingerprint(vlm.model)
    with pytest.raises(KeyError), defense.apply(vlm, fitted(name, family)):
        raise KeyError
    assert fingerprint(vlm.model) == before

    def fail(*_: object) -> None:
        raise KeyError

    with defense.apply(vlm, fitted(name, family)):
        expected = answers(vlm, prompts())
        hook = vlm.layers[-1].register_forward_hook(fail)
        with pytest.raises(KeyError):
            answers(vlm, prompts())
        hook.remove()
        assert answers(vlm, prompts()) == expected, "it still defends after an error"
    assert fingerprint(vlm.model) == before


def test_protect_and_remove(name: str) -> None:
    model, processor = tiny.fresh("llava")
    vlm = VLM.wrap(model, processor)
    answers(vlm, prompts())  # in its first forward transformers installs hooks of its own
    before = fingerprint(model)
    artifact = build(name).fit(vlm, helpers.fit_data(), progress=False)
    with build(name).apply(vlm, artifact):
        inside = answers(vlm, prompts())
    assert fingerprint(model) == before
    assert protect(model, processor, build(name), artifact) is model
    assert answers(vlm, prompts()) == inside
    assert protection(model).names == [name]
    with pytest.raises(ModelError, match="unprotect"):
        protect(model, processor, name, artifact)
    assert protection(model).names == [name]
    model.remove()
    assert fingerprint(model) == before
    assert protection(model) is None


def test_the_prompts_and_the_samples_are_of_all_shapes() -> None:
    """Every contract of this file is tried on all of them."""

    def shape(row: Any) -> list[int]:
        return [sum(part["type"] == "image" for part in turn["content"]) for turn in row]

    one_turn, talks = ([0], [1]), ([1, 0, 1], [0, 0, 0, 0])
    assert {tuple(shape(row)) for row in prompts()} == {*map(tuple, (*one_turn, *talks))}
    data = helpers.fit_data()
    for label in (data.harmful, data.benign):
        shown = [shape(each.messages()) for each in label]
        assert all(each in shown for each in (*one_turn, *talks, [2]))


@pytest.mark.parametrize(("name", "family"), dealt(DEFENSES, 1))
def test_batch_equals_its_rows(name: str, family: str) -> None:
    vlm, defense = tiny.vlm(family), build(name)
    artifact = helpers.some_refused(defense, fitted(name, family), vlm, prompts())
    with defense.apply(vlm, artifact):
        together = answers(vlm, prompts())
        alone = [answers(vlm, [prompt])[0] for prompt in prompts()]
        backwards = answers(vlm, prompts()[::-1])[::-1]
    assert together == alone
    assert together == backwards


@pytest.mark.parametrize(("name", "family"), dealt(DEFENSES, 1, SOME_FAMILIES))
def test_the_side_of_the_padding_does_not_matter(name: str, family: str) -> None:
    """What a defense reads and changes is at the same tokens, wherever they stand.

    Answers are not compared: transformers itself goes on from a pad token where a row ends in
    one, with any defense and without.
    """
    vlm, defense = tiny.vlm(family), build(name)
    artifact = helpers.some_refused(defense, fitted(name, family), vlm, prompts())
    left = dict(vlm.encode(prompts()))
    right = helpers.right_padded(left)
    with defense.apply(vlm, artifact):
        expected, decisions = helpers.prompt_states(vlm, left)
        found, again = helpers.prompt_states(vlm, right)
    assert len(found) == len(expected) > 0
    for mine, theirs in zip(found, expected, strict=True):
        assert torch.allclose(mine, theirs, atol=1e-4)
    assert again.keys() == decisions.keys()
    for detector, decision in decisions.items():
        assert torch.equal(again[detector].refuse, decision.refuse)
        assert torch.allclose(again[detector].scores, decision.scores, atol=1e-4)


@pytest.mark.parametrize(("name", "family"), dealt(DEFENSES, 2))
def test_cached_equals_uncached(name: str, family: str) -> None:
    vlm, defense = tiny.vlm(family), build(name)
    artifact = helpers.some_refused(defense, fitted(name, family), vlm, prompts())
    # Without a cache transformers would take a placeholder that was generated for a picture.
    words = {"suppress_tokens": [vlm.image_token_id]}
    with defense.apply(vlm, artifact):
        cached = answers(vlm, prompts(), **words)
        assert cached == answers(vlm, prompts(), use_cache=False, **words)


@pytest.mark.parametrize(("name", "family"), dealt(DEFENSES, 0, SOME_FAMILIES))
def test_saved_equals_fitted(name: str, family: str, tmp_path) -> None:
    vlm, defense = tiny.vlm(family), build(name)
    artifact = helpers.some_refused(defense, fitted(name, family), vlm, prompts())
    loaded = Artifact.load(artifact.save(tmp_path / "a"))
    assert loaded.hash == artifact.hash
    assert loaded.card == artifact.card
    with defense.apply(vlm, artifact):
        expected = answers(vlm, prompts())
    with defense.apply(vlm, loaded):
        assert answers(vlm, prompts()) == expected


@pytest.mark.parametrize(("name", "family"), dealt(DEFENSES, 1, SOME_FAMILIES))
def test_fit_changes_nothing_and_repeats(name: str, family: str) -> None:
    vlm = tiny.vlm(family)
    before, dice = fingerprint(vlm.model), torch.get_rng_state()
    again = build(name).fit(vlm, helpers.fit_data(), seed=0, progress=False)
    assert fingerprint(vlm.model) == before
    assert torch.equal(torch.get_rng_state(), dice)
    assert again.hash == fitted(name, family).hash


def test_fit_and_detectors_see_through_other_defenses(name: str) -> None:
    vlm = tiny.vlm("llava")
    with load_defense("safety_prompt").apply(vlm):
        again = build(name).fit(vlm, helpers.fit_data(), seed=0, progress=False)
    assert again.hash == fitted(name, "llava").hash


def test_other_models_are_refused(name: str) -> None:
    artifact = fitted(name, "llava")
    if artifact.identity is None:
        assert not registry.load("defense", name).fitted
        return
    other = VLM.wrap(*tiny.fresh("llava", seed=1))
    with pytest.raises(ArtifactError, match=f"safesight fit {name}"):
        build(name).apply(other, artifact).__enter__()
    half, processor = tiny.fresh("llava")
    with pytest.raises(ArtifactError, match="bfloat16"):
        protect(half.to(torch.bfloat16), processor, name, artifact)
    assert protection(half) is None


def test_other_defenses_artifacts_are_refused(name: str) -> None:
    vlm = tiny.vlm("llava")
    other = next(other for other in DEFENSES if other not in ("none", name))
    if name == "none":
        return
    with pytest.raises(ArtifactError, match=other):
        build(name).apply(vlm, fitted(other, "llava")).__enter__()
    assert protection(vlm.model) is None


def test_half_precision(name: str) -> None:
    model, processor = tiny.fresh("llava")
    vlm, defense = VLM.wrap(model.bfloat16(), processor), build(name)
    artifact = defense.fit(vlm, helpers.fit_data(), progress=False)
    assert artifact.hash == defense.fit(vlm, helpers.fit_data(), progress=False).hash
    with defense.apply(vlm, artifact):
        assert len(answers(vlm, prompts())) == len(prompts())


@pytest.mark.parametrize("other", ["safety_prompt", "probe"])
def test_two_defenses_compose_and_come_off(name: str, other: str) -> None:
    if name == other:
        return
    vlm = tiny.vlm("llava")
    before = fingerprint(vlm.model)
    one, two = build(name), build(other)
    first, second = fitted(name, "llava"), fitted(other, "llava")
    with one.apply(vlm, first):
        alone = answers(vlm, prompts())
        with two.apply(vlm, second):
            inner_last = answers(vlm, prompts())
        assert answers(vlm, prompts()) == alone
    assert fingerprint(vlm.model) == before
    with two.apply(vlm, second), one.apply(vlm, first):
        inner_first = answers(vlm, prompts())
    if {one.kind, two.kind} != {"input"}:  # their order is that of attachment
        assert inner_last == inner_first
    assert fingerprint(vlm.model) == before


@pytest.mark.parametrize(("name", "family"), dealt(DETECTORS, 3))
def test_the_prefill_runs_once(name: str, family: str) -> None:
    vlm, defense = tiny.vlm(family), build(name)
    artifact = helpers.some_refused(defense, fitted(name, family), vlm, prompts())
    length = vlm.encode(prompts())["input_ids"].shape[1]
    with defense.apply(vlm, artifact):
        with helpers.count_forwards(vlm.layers[0]) as first:
            answers(vlm, prompts())
        with helpers.count_forwards(vlm.layers[-1]) as last:
            answers(vlm, prompts())
    assert first == [length, 1, 1, 1, 1], "one prefill, then one token at a time"
    assert len(last) in (5, 6), "the last block runs at most once more"


@pytest.mark.parametrize(("name", "family"), dealt(DETECTORS, 0))
def test_safe_rows_are_untouched(name: str, family: str) -> None:
    vlm, defense = tiny.vlm(family), build(name)
    artifact = helpers.some_refused(defense, fitted(name, family), vlm, prompts())
    plain = helpers.steps(vlm, prompts())
    with defense.apply(vlm, artifact):
        defended = helpers.steps(vlm, prompts())
        refused = helpers.last_decision(vlm).refuse
    assert 0 < int(refused.sum()) < len(refused)
    width = plain.sequences.shape[1]
    assert torch.equal(defended.sequences[~refused, :width], plain.sequences[~refused])
    assert bool((defended.sequences[~refused, width:] == vlm.tokenizer.pad_token_id).all())
    for mine, theirs in zip(defended.scores, plain.scores, strict=True):
        assert torch.equal(mine[~refused], theirs[~refused])


@pytest.mark.parametrize(("name", "family"), dealt(DEFENSES, 4))
def test_a_batch_is_streamed_as_it_is_returned(name: str, family: str) -> None:
    """Row by row, and nothing of an answer that was refused."""
    vlm, defense = tiny.vlm(family), build(name)
    artifact = helpers.some_refused(defense, fitted(name, family), vlm, prompts())
    heard = helpers.Heard(len(prompts()))
    with defense.apply(vlm, artifact):
        returned = answers(vlm, prompts(), streamer=heard)
        refused = helpers.last_decision(vlm).refuse.tolist() if name in DETECTORS else []
    assert [trimmed(vlm, torch.tensor(tokens)) for tokens in heard.answers] == returned
    assert [row in heard.replaced for row in range(len(refused))] == refused
    assert heard.ended


@pytest.mark.parametrize("name", DETECTORS)
def test_refused_batches_stop_after_the_prefill(name: str) -> None:
    vlm, defense = tiny.vlm("llava"), build(name)
    with (
        defense.apply(vlm, helpers.all_refused(fitted(name, "llava"))),
        helpers.count_forwards(vlm.layers[0]) as forwards,
    ):
        texts = vlm.answer(prompts(), max_new_tokens=30)
    assert len(forwards) == 1
    assert texts == [defense.config.refusal] * len(prompts())


@pytest.mark.parametrize("name", DETECTORS)
def test_fails_closed(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    vlm, defense = tiny.vlm("llava"), build(name)
    with defense.apply(vlm, fitted(name, "llava")):
        detector = protection(vlm.model)._entries[0].parts.detector
        monkeypatch.setattr(type(detector), "judge", helpers.broken)
        with caplog.at_level(logging.ERROR, logger="safesight"):
            texts = vlm.answer(prompts())
        decision = helpers.last_decision(vlm)
    assert texts == [defense.config.refusal] * len(prompts())
    assert bool(decision.refuse.all())
    assert "this detector is broken" in decision.error
    assert name in caplog.text


@pytest.mark.parametrize("name", EDITS)
def test_an_answer_that_was_not_edited_is_not_returned(name: str) -> None:
    """Such as that of a model whose generate bypasses its decoder blocks."""
    vlm = tiny.vlm("llava")
    around = build(name).build(vlm, fitted(name, "llava")).around

    def bypassing(**inputs: object) -> torch.Tensor:
        return torch.nn.functional.pad(inputs["input_ids"], (0, 1), value=100)

    with pytest.raises(ModelError, match=r"not defended|not applied"):
        around(bypassing, dict(vlm.encode(prompts())))


@pytest.mark.parametrize("name", PIPELINES)
def test_what_is_no_prompt_reaches_no_question_of_a_pipeline(name: str) -> None:
    """A cache, even an empty one, and the tokenizer of a stop string belong to the answer alone."""
    vlm = tiny.vlm("llava")
    extra = {"stop_strings": ["no such text"], "tokenizer": vlm.tokenizer}
    with build(name).apply(vlm, fitted(name, "llava")):
        plain = answers(vlm, prompts())
        for more in (extra, {"past_key_values": DynamicCache(config=vlm.model.config)}):
            assert answers(vlm, prompts(), **more) == plain


@pytest.mark.parametrize("name", [*PIPELINES, *INPUTS])
def test_a_prompt_that_is_partly_in_a_cache_is_not_rewritten(name: str) -> None:
    vlm, cache = tiny.vlm("llava"), DynamicCache(config=tiny.vlm("llava").model.config)
    inputs = vlm.encode(prompts())
    vlm.generate(inputs, max_new_tokens=2, past_key_values=cache)
    with (
        build(name).apply(vlm, fitted(name, "llava")),
        pytest.raises(InputError, match="no past_key_values"),
    ):
        vlm.generate(inputs, max_new_tokens=2, past_key_values=cache)


def test_copies_are_refused(name: str) -> None:
    vlm = tiny.vlm("llava")
    with (
        build(name).apply(vlm, fitted(name, "llava")),
        pytest.raises(ModelError, match="unprotect"),
    ):
        copy.deepcopy(vlm.model)


def test_parts_match_the_kind(name: str) -> None:
    defense = build(name)
    parts = defense.build(tiny.vlm("llava"), fitted(name, "llava"))
    own = {
        "input": parts.rewrite,
        "detector": parts.detector,
        "activation": parts.around,
        "weights": parts.attached,
    }
    part = own.pop({"pipeline": "activation"}.get(defense.kind, defense.kind))
    assert part is not None or parts == Parts()
    assert all(part is None for part in own.values())
