"""`safesight run`: an experiment from a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from safesight.cli.show import examples

__all__ = ["EXAMPLES", "run"]

EXAMPLES = examples(
    "safesight run image_tools -o image_tools.json",
    "safesight run image_tools -o quick.json --n 30",
    "safesight run my-recipe.yaml -o results.json",
)


def run(
    recipe: Annotated[
        str, typer.Argument(help="image_tools, which comes with safesight, or a YAML file.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="JSON file to write the results to.")
    ],
    model: Annotated[str | None, typer.Option(help="Overrides the recipe's model.")] = None,
    n: Annotated[int | None, typer.Option(min=1, help="Samples per task.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Overrides the recipe's seed.")] = None,
) -> None:
    """Run an experiment and print its table; repeating the command resumes a stopped run."""
    from safesight.experiments import run_recipe

    run_recipe(recipe, output, model=model, n=n, seed=seed)
