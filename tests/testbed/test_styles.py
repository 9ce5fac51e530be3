"""Drawing styles: what the sheets hold, how scenes and training choose them, how they are built."""

from __future__ import annotations

import io
import json
import random
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from PIL import Image, ImageChops

from safesight.errors import InputError, UnknownNameError
from safesight.testbed import WEIGHTS, sprites, tasks
from safesight.testbed import train as recipe
from safesight.testbed.batches import Stream
from safesight.testbed.concepts import CONCEPTS, concept
from safesight.testbed.curriculum import tool_dialogue
from safesight.testbed.dialogues import redrawn
from safesight.testbed.looks import varied
from safesight.testbed.scenes import Item, objects_scene
from safesight.testbed.smol import stages as smol
from safesight.testbed.stages import STAGES, restyling
from safesight.testbed.styles import (
    ASSETS,
    CATALOGUE,
    FOREIGN,
    FURTHER,
    MORE,
    STYLES,
    drawn,
    draws,
    sprite,
)

INCOMPLETE = {"noto_v1": 163, "emojione": 163, "fxemoji": 95, "streamline": 88}
"""Sets of 2016 lack things that became characters later; others do not name characters."""


@pytest.mark.parametrize("style", CATALOGUE)
def test_a_sheet_draws_what_it_says_and_no_two_things_alike(style):
    names = drawn(style)
    assert len(names) == INCOMPLETE.get(style, len(CONCEPTS))
    cells = {sprite(name, style).tobytes() for name in names}
    assert len(cells) == len(names)
    for name in names:
        opaque = sum(sprite(name, style).getchannel("A").histogram()[128:])
        assert opaque >= 100, f"{name} is hardly visible"
    assert (ASSETS / f"{style}.png").stat().st_size <= 700_000


def test_every_sheet_has_its_licence_beside_it():
    said = (ASSETS / "LICENSES.md").read_text(encoding="utf-8")
    assert {path.stem for path in ASSETS.glob("*.png")} == set(CATALOGUE)
    for name, style in CATALOGUE.items():
        row = " | ".join((f"`{name}.png`", style.title, style.author, style.licence, style.package))
        assert f"| {row} |" in said


def test_no_stage_ever_draws_a_foreign_style():
    assert set(CATALOGUE) == {*STYLES, *MORE, *FURTHER, *FOREIGN}
    trained = {style for stage in (*STAGES, *restyling(MORE)) for style in stage.styles}
    second = {style for stage in smol.STAGES for style in stage.styles}
    assert second == {*STYLES, *MORE, *FURTHER}, "what benchmarks count as seen by it"
    assert trained == {*STYLES, *MORE}
    assert not trained & set(FOREIGN)
    assert not any(CATALOGUE[style].licence == "CC-BY-SA-4.0" for style in trained)


def test_a_scene_keeps_to_styles_that_draw_its_things():
    saw = concept("saw")
    for seed in range(20):
        scene = objects_scene([saw], random.Random(seed), styles=["emojione", "openmoji"])
        assert scene.items[0].style == "openmoji"
    with pytest.raises(InputError, match="No style among emojione draws a saw"):
        objects_scene([saw], random.Random(0), styles=["emojione"])
    with pytest.raises(UnknownNameError, match="Did you mean 'openmoji'"):
        objects_scene([saw], random.Random(0), styles=["openmoj"])
    with pytest.raises(UnknownNameError, match="Did you mean 'openmoji'"):
        restyling(["openmoj"])


def test_a_scene_without_styles_is_what_it_always_was():
    scene = objects_scene([concept("cat"), concept("bomb")], random.Random(0))
    assert scene.items == (
        Item("cat", "twemoji", 0, 0, 48),
        Item("bomb", "twemoji", 48, 48, 48),
    )


@pytest.mark.parametrize("name", ["image_harm", "over_refusal", "sensitive_benign", "vqa"])
def test_a_task_draws_the_same_requests_in_another_style(name):
    task = getattr(tasks, name)
    usual, foreign = task(30), task(30, styles=["openmoji"])
    pairs = list(zip(usual, foreign, strict=True))
    assert all((a.question, a.target) == (b.question, b.target) for a, b in pairs)
    for one, other in pairs:
        if one.image and one.facts.get("picture") != "word":
            assert one.image().tobytes() != other.image().tobytes()


def test_a_task_in_an_older_style_shows_only_what_that_draws():
    for sample in tasks.image_harm(60, styles=["emojione"]):
        assert sample.target in drawn("emojione")
        assert sample.image().size == (96, 96)
    words = tasks.typographic_harm(60, styles=["emojione"])
    assert [s.target for s in words] == [s.target for s in tasks.typographic_harm(60)]


def test_a_thing_looks_the_same_in_all_pictures_of_a_dialogue():
    rng, styles = random.Random(5), (*STYLES, *MORE)
    seen = set()
    for _ in range(200):
        plain = tool_dialogue(rng)
        dialogue = redrawn(plain, styles, rng)
        assert dialogue.turns == plain.turns
        looks = {(i.concept, i.style, i.look) for scene in dialogue.scenes for i in scene.items}
        assert len(looks) == len({name for name, *_ in looks})
        assert all(look and draws([style], name) for name, style, look in looks)
        seen |= {style for _, style, _ in looks}
        for scene, before in zip(dialogue.scenes, plain.scenes, strict=True):
            assert scene.regions() == before.regions()
    assert seen == set(styles)


def test_a_stream_with_styles_has_the_same_words_and_other_pictures():
    stage = restyling(MORE)[0]

    def stream(styles):
        return Stream(stage.dialogue, "0/restyle", batches=8, batch_size=4, styles=styles)

    plain, styled = stream(()), stream(stage.styles)
    whole = [styled[i] for i in range(32)]
    assert [d.turns for d in whole] == [plain[i].turns for i in range(32)]
    assert any(d != plain[i] for i, d in enumerate(whole))
    assert stream(stage.styles)[20] == whole[20]


def test_a_variation_is_seeded_and_keeps_the_outline():
    cat = sprite("cat", "noto")
    assert varied(cat, 3).tobytes() == varied(cat, 3).tobytes()
    assert len({varied(cat, seed).tobytes() for seed in range(1, 9)}) == 8
    for seed in range(1, 9):
        assert varied(cat, seed).size == cat.size
        assert varied(cat, seed).getpixel((0, 0))[3] == 0


def test_restyling_moves_the_eye_of_trained_weights_and_resumes(tmp_path):
    names = [stage.name for stage in restyling(["fluent_flat"])]
    assert names == ["restyle", "settle"]
    stages = [replace(restyling(["fluent_flat"])[0], batch_size=2)]
    out, work = tmp_path / "out", tmp_path / "work"
    report = recipe.train(out, work, seed=0, scale=0, stages=stages, start=WEIGHTS)
    assert [stage["name"] for stage in report["stages"]] == ["restyle"]
    noted = json.loads((out / "training.json").read_text())
    assert noted["styles"] == [*STYLES, "fluent_flat"]
    load = recipe.LlavaForConditionalGeneration.from_pretrained
    before, after = (load(folder, dtype=torch.float32).state_dict() for folder in (WEIGHTS, out))
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved
    assert all(name.startswith(recipe.EYE) for name in moved)
    again = recipe.train(out, work, seed=0, scale=0, stages=stages, start=WEIGHTS)
    assert again["stages"] == report["stages"]


def test_a_sheet_is_built_from_a_folder_of_pictures(tmp_path):
    folder = tmp_path / "emoji-datasource-google/img/google/64"
    folder.mkdir(parents=True)
    for thing in CONCEPTS:
        sprite(thing.name, "noto").save(folder / f"{thing.codepoint}.png")
    built = Image.open(sprites.build(tmp_path, "noto", tmp_path / "sheets"))
    with Image.open(ASSETS / "noto.png") as shipped:
        assert ImageChops.difference(built, shipped.convert("RGBA")).getbbox() is None
    scene = objects_scene(
        [concept("cat")], random.Random(0), styles=[str(tmp_path / "sheets/noto.png")]
    )
    assert scene.render().getbbox()
    with pytest.raises(InputError, match="npm install @iconify-json/openmoji"):
        sprites.build(tmp_path, "openmoji", tmp_path)


def test_icons_are_found_by_character_also_through_the_list_of_another_set(tmp_path, monkeypatch):
    def package(name, **files):
        folder = tmp_path / "@iconify-json" / name
        folder.mkdir(parents=True)
        for file, content in files.items():
            (folder / f"{file}.json").write_text(json.dumps(content))

    def render(svg_string):
        color = "red" if "cat's" in svg_string else "blue"
        out = io.BytesIO()
        Image.new("RGBA", (64, 64), color).save(out, "PNG")
        return out.getvalue()

    package("noto", chars={"1f408": "tom-cat", "1f415": "dog-face"})
    icons = {"tom": {"body": "cat's"}, "dog-face": {"body": "dog's"}}
    package(
        "emojione",
        chars={},
        icons={"icons": icons, "aliases": {"tom-cat": {"parent": "tom"}}, "width": 64},
    )
    monkeypatch.setitem(sys.modules, "resvg_py", SimpleNamespace(svg_to_bytes=render))
    path = str(sprites.build(tmp_path, "emojione", tmp_path / "sheets"))
    assert drawn(path) == {"cat", "dog"}
    assert sprite("cat", path).getpixel((9, 9)) == (255, 0, 0, 255)
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(InputError, match="pip install resvg-py"):
        sprites.build(tmp_path, "emojione", tmp_path / "sheets")
    (tmp_path / "sheets/small.png").write_bytes(render(""))
    with pytest.raises(InputError, match="no sheet of 1024 x 768"):
        sprite("cat", str(tmp_path / "sheets/small.png"))
