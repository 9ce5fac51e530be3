"""`safesight reference`: let an engine such as vLLM compare a model with an artifact's."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from safesight.cli.options import Loading, Model, loads_model
from safesight.cli.show import examples
from safesight.console import stdout, waiting

__all__ = ["EXAMPLES", "reference"]

EXAMPLES = examples(
    "safesight reference artifacts/sasa --model Qwen/Qwen3-VL-2B-Instruct --dtype bfloat16",
)


@loads_model
def reference(
    loading: Loading,
    folders: Annotated[list[Path], typer.Argument(help="Folders of artifacts.")],
    model: Model = "testbed",
) -> None:
    """Write into artifacts what their model makes of a few prompts.

    `safesight fit` does it, too. This is for artifacts of older versions and of fits from Python.
    """
    with waiting(f"Loading {model}"):
        from safesight.defenses import Artifact, load_defense
        from safesight.defenses.reference import with_reference
        from safesight.models import VLM

        artifacts = [Artifact.load(folder) for folder in folders]
        vlm = VLM.load(model, **loading)
    for folder, artifact in zip(folders, artifacts, strict=True):
        defense = load_defense(artifact.defense)
        with waiting(f"Running {artifact.defense}"):
            with_reference(vlm, defense, artifact).save(folder)
        stdout().print(f"{folder}", soft_wrap=True)
