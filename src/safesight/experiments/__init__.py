"""Experiments: questions about models that need more than a scorecard, each run from a recipe.

A recipe is a YAML file whose `experiment` names one of `EXPERIMENTS`. Read next: `image_tools`.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from safesight.errors import InputError
from safesight.extras import need

__all__ = ["EXPERIMENTS", "read_recipe", "run_recipe"]

EXPERIMENTS: Mapping[str, str] = {"image_tools": "safesight.experiments.image_tools:run"}
"""Name to the function `(settings, output) -> None` that runs it."""


def read_recipe(path: str | Path) -> dict[str, Any]:
    """The settings in a recipe.

    Raises:
        InputError: the file cannot be read, is not YAML, or names no experiment.
    """
    import yaml

    try:
        recipe = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        raise InputError(f"The recipe {str(path)!r} cannot be read ({error}).") from error
    if not isinstance(recipe, dict) or recipe.get("experiment") not in EXPERIMENTS:
        raise InputError(
            f"The recipe {str(path)!r} does not name an experiment. "
            f"Write `experiment:` and one of {', '.join(EXPERIMENTS)}."
        )
    return recipe


def run_recipe(path: str | Path, output: str | Path, **changes: Any) -> None:
    """Run a recipe with some settings changed; finished parts are not repeated.

    Args:
        path: The recipe.
        output: The JSON file of results, written as it grows.
        **changes: Settings that replace the recipe's; None leaves a setting unchanged.

    Raises:
        InputError: the recipe or a setting cannot be used.
    """
    recipe = read_recipe(path)
    need("statsmodels", "eval", "An experiment")
    module, _, name = EXPERIMENTS[recipe.pop("experiment")].partition(":")
    settings = {**recipe, **{key: value for key, value in changes.items() if value is not None}}
    getattr(import_module(module), name)(settings, Path(output))
