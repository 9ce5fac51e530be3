"""The image-tool experiment: runs from its recipe, goes on where it stopped, says what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from safesight import registry
from safesight.errors import InputError
from safesight.experiments import image_tools as experiment
from safesight.experiments import read_recipe, run_recipe
from safesight.models import VLM
from tests.house.source import ROOT

RECIPE = ROOT / "recipes/image_tools.yaml"


def recipe(folder: Path, **settings: object) -> Path:
    path = folder / "recipe.yaml"
    given = {"experiment": "image_tools", "tasks": ["image_harm"], "n": 3, **settings}
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


def test_the_committed_recipe_is_sound() -> None:
    settings = read_recipe(RECIPE)
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
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, settings: dict[str, object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        run_recipe(recipe(tmp_path, **settings), tmp_path / "out.json")
    with pytest.raises(InputError, match="cannot be read"):
        read_recipe(tmp_path / "gone.yaml")
