"""Experiments: questions about models that need more than a scorecard, each run from a recipe.

A recipe is a YAML file whose `experiment` names one of `EXPERIMENTS`; those in the folder `recipes`
are found by name. Read next: `image_tools`.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from safesight.errors import InputError, UnknownNameError, reason_of
from safesight.extras import need
from safesight.files import check_place

__all__ = ["EXPERIMENTS", "RECIPES", "place_of", "read_recipe", "run_recipe"]

EXPERIMENTS: Mapping[str, str] = {"image_tools": "safesight.experiments.image_tools:run"}
"""Name to the function `(settings, output) -> None` that runs it."""

_SHIPPED = Path(__file__).with_name("recipes")
RECIPES = tuple(sorted(path.stem for path in _SHIPPED.glob("*.yaml")))
"""The names of the recipes that come with the package."""


def place_of(recipe: str | Path) -> Path:
    """The file of a recipe: of one that comes with the package by its name, else the path.

    Example:
        >>> place_of("image_tools").name, place_of("mine.yaml").name
        ('image_tools.yaml', 'mine.yaml')
    """
    return _SHIPPED / f"{recipe}.yaml" if str(recipe) in RECIPES else Path(recipe)


def read_recipe(recipe: str | Path) -> dict[str, Any]:
    """The settings in a recipe.

    Args:
        recipe: The name of one that comes with the package, or a file.

    Raises:
        UnknownNameError: it is neither a file nor such a name.
        InputError: the file cannot be read, is not YAML, or names no experiment.
    """
    import yaml

    path = place_of(recipe)
    if not path.suffix and not path.exists():
        raise UnknownNameError("recipe", str(recipe), RECIPES)
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"The recipe {str(recipe)!r} cannot be read ({reason_of(error)}). Check its path."
        ) from error
    except (UnicodeError, yaml.YAMLError, RecursionError) as error:
        raise InputError(
            f"The recipe {str(recipe)!r} is not YAML ({reason_of(error)}). "
            "Write lines of the form `name: value`."
        ) from error
    known = list(EXPERIMENTS)
    if not isinstance(found, dict) or found.get("experiment") not in known:
        raise InputError(
            f"The recipe {str(recipe)!r} does not name an experiment. "
            f"Write `experiment:` and one of {', '.join(known)}."
        )
    if odd := [name for name in found if not isinstance(name, str)]:
        raise InputError(f"The recipe {str(recipe)!r} has the setting {odd[0]!r}. Remove it.")
    return found


def run_recipe(recipe: str | Path, output: str | Path, **changes: Any) -> None:
    """Run a recipe with some settings changed; finished parts are not repeated.

    Args:
        recipe: The name of one that comes with the package, or a file.
        output: The JSON file of results, written as it grows.
        **changes: Settings that replace the recipe's; None leaves a setting unchanged.

    Raises:
        InputError: the recipe or a setting cannot be used.
        StorageError: the results cannot be written there.
    """
    found = read_recipe(recipe)
    check_place(Path(output))
    need("statsmodels", "eval", "An experiment")
    module, _, name = EXPERIMENTS[found.pop("experiment")].partition(":")
    settings = {**found, **{key: value for key, value in changes.items() if value is not None}}
    getattr(import_module(module), name)(settings, Path(output))
