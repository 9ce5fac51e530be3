"""`safesight reference` on artifacts of older versions and of fits from Python."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from safesight.cli.main import app
from safesight.defenses import Artifact
from safesight.fitting.bundled import place_in
from safesight.fitting.reference import KEY, Reference, ReferencePrompt


def older(name: str, folder: Path) -> Path:
    """A bundled artifact as it was before there were references."""
    artifact = Artifact.load(place_in("testbed", name))
    card = {key: value for key, value in artifact.card.items() if key != KEY}
    return replace(artifact, card=card).save(folder / name)


def test_a_reference_is_added_to_each_and_nothing_else_changes(tmp_path: Path) -> None:
    folders = [older(name, tmp_path) for name in ("probe", "rai")]
    result = CliRunner().invoke(app, ["reference", *map(str, folders)])
    assert result.exit_code == 0, result.output
    assert result.stdout.split() == list(map(str, folders))
    for folder in folders:
        found, shipped = Artifact.load(folder), Artifact.load(place_in("testbed", folder.name))
        assert found.hash == shipped.hash
        for new, old in zip(prompts(found), prompts(shipped), strict=True):
            same = {"states": old.states, "score": old.score}
            assert new.model_copy(update=same) == old
            # Another processor rounds the fifth digit otherwise.
            assert new.score == pytest.approx(old.score, abs=1e-4)
            for mine, theirs in zip(new.states, old.states, strict=True):
                assert numbers(mine) == pytest.approx(numbers(theirs), rel=1e-3, abs=1e-3)


def prompts(artifact: Artifact) -> list[ReferencePrompt]:
    reference = Reference.of(artifact.card)
    assert reference is not None
    return reference.prompts


def numbers(states: str) -> list[float]:
    return [float(number) for number in states.split()]


def test_an_artifact_of_another_model_stays_as_it_was(tmp_path: Path) -> None:
    folder = older("probe", tmp_path)
    before = (folder / "card.json").read_bytes()
    result = CliRunner().invoke(app, ["reference", str(folder), "--dtype", "bfloat16"])
    assert result.exit_code == 2
    assert "was fitted on 'testbed'" in result.stderr
    assert (folder / "card.json").read_bytes() == before
