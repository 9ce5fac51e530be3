"""The bundled world: concepts, pictures, sentences and the evaluation tasks."""

from __future__ import annotations

import hashlib
import itertools
import random
import re

import pytest

from safesight.benchmarks import load_benchmark
from safesight.errors import InputError
from safesight.testbed.concepts import BENIGN, CONCEPTS, DUAL_USE, HARMFUL, HARMFUL_KINDS, concept
from safesight.testbed.language import PHRASINGS
from safesight.testbed.scenes import PLACES, SIZE, STYLES, objects_scene, word_scene

TASKS = ("text_harm", "image_harm", "typographic_harm", "over_refusal", "sensitive_benign", "vqa")


def _task(name):
    return load_benchmark(name)


def test_the_world_is_as_large_as_promised():
    assert len(CONCEPTS) >= 150
    assert len({c.name for c in CONCEPTS}) == len(CONCEPTS)
    for kind in HARMFUL_KINDS:
        assert sum(c.kind == kind for c in HARMFUL) >= 6
    assert len(HARMFUL) >= 24
    assert any(not c.in_text_refusals for c in HARMFUL)
    assert any(not c.in_vision for c in HARMFUL)
    assert {c.name for c in HARMFUL}.isdisjoint(c.name for c in (*BENIGN, *DUAL_USE))


def test_a_scene_renders_the_same_every_time_and_differs_between_styles():
    scenes = [objects_scene([concept("cat")], random.Random(5), styles=[s]) for s in STYLES]
    hashes = [hashlib.sha256(s.render().tobytes()).hexdigest() for s in scenes]
    again = [hashlib.sha256(s.render().tobytes()).hexdigest() for s in scenes]
    assert hashes == again
    assert hashes[0] != hashes[1]


@pytest.mark.parametrize("count", [2, 3, 4])
def test_objects_lie_where_the_scene_says(count):
    rng = random.Random(count)
    scene = objects_scene(rng.sample(CONCEPTS, count), rng)
    for item, place in zip(scene.items, scene.places, strict=True):
        vertical, horizontal = place.split()
        assert (item.top + item.size / 2 < SIZE / 2) == (vertical == "top")
        assert (item.left + item.size / 2 < SIZE / 2) == (horizontal == "left")
    assert list(scene.places) == sorted(scene.places, key=PLACES.index)


def test_every_written_word_fits_into_the_picture():
    for thing, seed in itertools.product(CONCEPTS, range(3)):
        scene = word_scene(thing.name, random.Random(seed))
        ((name, (left, top, right, bottom)),) = scene.regions()
        assert name == thing.name
        assert 0 <= left < right <= SIZE, thing.name
        assert 0 <= top < bottom <= SIZE, thing.name


@pytest.mark.parametrize("name", TASKS)
def test_samples_are_reproducible_and_the_splits_do_not_meet(name):
    task = _task(name)
    assert [s.question for s in task(12)] == [s.question for s in task(12)]
    test, fit = task(40), task(40, split="fit")
    assert {s.id for s in test}.isdisjoint(s.id for s in fit)
    drawn = {s.image().tobytes() for s in test if s.image}
    assert drawn.isdisjoint(s.image().tobytes() for s in fit if s.image)
    assert [s.id for s in task(5)] == [s.id for s in task(12)][:5]
    with pytest.raises(InputError, match="no split 'tset'"):
        task(1, split="tset")


@pytest.mark.parametrize("name", ["image_harm", "typographic_harm"])
def test_a_picture_attack_never_names_its_object_in_the_text(name):
    for sample in _task(name)(60):
        assert sample.label == "harmful"
        assert sample.image is not None
        assert not re.search(rf"\b{sample.target}\b", sample.question)


def test_benign_twins_share_everything_but_the_object():
    harmful = {s.id: s for name in TASKS[:3] for s in _task(name)(30)}
    for twin in _task("over_refusal")(60):
        original = harmful[twin.facts["twin"]]
        assert twin.label == "benign"
        assert twin.facts["form"] == original.facts["form"]
        assert twin.facts["verb"] == original.facts["verb"]
        neutral = [
            s.question.replace(concept(s.target).phrase, "X").replace(s.target, "X")
            for s in (twin, original)
        ]
        assert neutral[0] == neutral[1]
        if twin.image is not None and twin.facts["form"] == "beside":
            assert twin.image().tobytes() == original.image().tobytes()


@pytest.mark.parametrize("name", TASKS)
def test_facts_name_the_phrasing_and_everything_that_is_shown_or_named(name):
    for sample in _task(name)(60):
        facts, words = sample.facts, set(re.findall(r"[a-z]+", sample.question))
        assert facts["concept"] == facts["concepts"][0]
        assert facts["category"] == concept(facts["concept"]).kind
        assert set(facts["categories"]) == {concept(each).kind for each in facts["concepts"]}
        named = {each.name for each in CONCEPTS if each.name in words}
        assert named - {"orange"} <= set(facts["concepts"]), "orange is a color, too"
        if facts["request"] == "how_to":
            assert facts["phrasing"] in PHRASINGS
            assert f"{facts['phrasing']} {facts['verb']} " in sample.question


def test_sensitive_questions_show_harmful_things_and_ask_nothing_harmful():
    for sample in _task("sensitive_benign")(60):
        assert concept(sample.facts["concept"]).harmful
        assert sample.label == "benign"
        assert sample.facts["request"] == "vqa"
