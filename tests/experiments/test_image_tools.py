"""The image-tool experiment: runs from its recipe, goes on where it stopped, says what is wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from safesight import registry
from safesight.errors import InputError, SafesightError, UnknownNameError
from safesight.experiments import RECIPES, read_recipe, run_recipe
from safesight.experiments import image_tools as experiment
from safesight.models import VLM
from safesight.types import Sample


def recipe(folder: Path, settings: dict[Any, Any] | None = None, **more: object) -> Path:
    path = folder / "recipe.yaml"
    given = {
        "experiment": "image_tools",
        "tasks": ["image_harm"],
        "n": 3,
        **(settings or {}),
        **more,
    }
    path.write_text(yaml.safe_dump(given))
    return path


def test_it_runs_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out.json"
    path = recipe(tmp_path, conditions=["direct", "tool", "tool_unsafe", "length"])
    run_recipe(path, out)
    first = json.loads(out.read_text())
    assert set(first["answers"]) == {
        f"image_harm/{name}" for name in ("direct", "tool", "tool_unsafe", "length")
    }
    assert {row["broken"] for rows in first["answers"].values() for row in rows} <= {True, False}
    tokens = {row["condition"]: row["prompt_tokens"] for row in first["rates"]}
    assert tokens["tool"] <= tokens["length"] < tokens["tool"] + 10
    assert tokens["tool"] == tokens["tool_unsafe"]
    monkeypatch.setattr(experiment, "_answered", lambda *_: pytest.fail("ran again"))
    run_recipe(path, out)
    assert json.loads(out.read_text()) == first
    with pytest.raises(InputError, match="another recipe"):
        run_recipe(path, out, n=2)


def test_the_description_is_the_models_own(tmp_path: Path) -> None:
    samples = registry.load("benchmark", "image_harm")(2)
    vlm = VLM.load("testbed")
    settings = experiment.Recipe(n=2)
    made = experiment._made(vlm, settings, "describe", vlm.tool_setup(), samples, 0)
    texts = experiment._described(vlm, settings, samples)
    assert [each.messages[-2]["content"][0]["text"] for each in made] == texts
    assert all(texts)


def test_other_pictures_show_something_else() -> None:
    settings = experiment.Recipe(n=20)
    sample = registry.load("benchmark", "image_harm")(1)[0]
    pool = experiment._pool("image_harm", 20, 0)
    same = [s.image().tobytes() for s in pool if s.image and s.target == sample.target]
    for index in range(5):
        shown = experiment._other("image_harm", settings, index, sample)
        assert shown.tobytes() not in same


def test_a_picture_of_another_answer_may_not_show_the_same_thing() -> None:
    asked, other = (
        Sample(str(i), "?", "benign", target, facts={"concepts": things})
        for i, (target, things) in enumerate((("carrot", ["carrot"]), ("no", ["carrot", "donut"])))
    )
    assert experiment._alike(asked, other)
    assert not experiment._alike(asked, replace(other, facts={"concepts": ["donut"]}))


def test_the_committed_recipe_is_sound() -> None:
    assert RECIPES == ("image_tools",)
    settings = read_recipe("image_tools")
    assert settings.pop("experiment") == "image_tools"
    made = experiment.Recipe(**settings)
    assert len(made.conditions) == 12
    assert set(made.tasks) <= set(registry.names("benchmark"))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"experiment": "nothing"}, "does not name an experiment"),
        ({"conditons": []}, "conditons"),
        ({"conditions": ["toool"]}, "no condition"),
        ({"n": 0}, "n:"),
        ({"n": 10**20}, "n:"),
        ({"seed": -1}, "seed:"),
        ({"tasks": []}, "tasks:"),
        ({"tasks": ["vqaa"]}, "Did you mean 'vqa'"),
        ({"tasks": ["mirage_harm"]}, "no metrics for 'mirage_harm'"),
        ({"tasks": ["image_harm+one_word"]}, "no metrics for"),
        ({"unsafe_pictures": "vqaa"}, "Did you mean 'vqa'"),
        ({5: 6}, "the setting 5"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, settings: dict[Any, Any], says: str) -> None:
    with pytest.raises(SafesightError, match=says):
        run_recipe(recipe(tmp_path, settings), tmp_path / "out.json")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[" * 20_000, "is not YAML"),
        ("experiment: [image_tools]", "does not name an experiment"),
        ("experiment: {image_tools: 1}", "does not name an experiment"),
        ("a: 'b", "is not YAML"),
        (b"\xff\xfe\0", "is not YAML"),
        ("- image_tools", "does not name an experiment"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused(tmp_path: Path, text: str | bytes, says: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=says):
        read_recipe(path)


def test_a_recipe_that_is_not_there_is_named_or_guessed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be read \(No such file or directory\)"):
        read_recipe(tmp_path / "gone.yaml")
    with pytest.raises(UnknownNameError, match="Did you mean 'image_tools'"):
        read_recipe("image_tool")


@pytest.mark.parametrize(
    "old", ["{", "[]", b"\xff", "[" * 100_000, '{"answers": 5}', '{"answers": {"a": [{"b": 1}]}}']
)
def test_a_file_that_holds_no_results_is_left_alone(tmp_path: Path, old: str | bytes) -> None:
    out = tmp_path / "out.json"
    out.write_bytes(old if isinstance(old, bytes) else old.encode())
    before = out.read_bytes()
    with pytest.raises(InputError, match="is damaged, or holds something else"):
        run_recipe(recipe(tmp_path), out)
    assert out.read_bytes() == before
