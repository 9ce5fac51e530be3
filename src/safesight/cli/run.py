"""`safesight run`: an experiment from a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from safesight.cli.show import examples

__all__ = ["EXAMPLES", "run"]

EXAMPLES = examples(
    "safesight run recipes/image_tools.yaml -o image_tools.json",
    "safesight run recipes/image_tools.yaml -o quick.json --n 30",
)


def run(
    recipe: Annotated[Path, typer.Argument(help="A YAML file; see the recipes folder.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="JSON file to write the results to.")
    ],
    model: Annotated[str | None, typer.Option(help="Overrides the recipe's model.")] = None,
    n: Annotated[int | None, typer.Option(min=1, help="Samples per task.")] = None,
    seed: Annotated[int | None, typer.Option(help="Overrides the recipe's seed.")] = None,
) -> None:
    """Run an experiment and print its table; repeating the command resumes a stopped run."""
    from safesight.experiments import run_recipe

    run_recipe(recipe, output, model=model, n=n, seed=seed)
