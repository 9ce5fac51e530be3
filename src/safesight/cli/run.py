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
    recipe: Annotated[Path, typer.Argument(help="A YAML file; see the folder recipes.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The JSON file of results to write.")
    ],
    model: Annotated[str | None, typer.Option(help="In place of the recipe's.")] = None,
    n: Annotated[int | None, typer.Option(min=1, help="Samples a task, in its place.")] = None,
    seed: Annotated[int | None, typer.Option(help="In place of the recipe's.")] = None,
) -> None:
    """Run an experiment and print its table; the same command again goes on where it stopped."""
    from safesight.experiments import run_recipe

    run_recipe(recipe, output, model=model, n=n, seed=seed)
