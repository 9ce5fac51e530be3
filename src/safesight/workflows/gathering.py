"""What a fit is fitted on: samples of tasks, prompts of one's own, or rows with answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safesight import registry
from safesight.data import read_data
from safesight.errors import InputError
from safesight.training.rows import holds_rows
from safesight.workflows.artifacts import FitPlan, data_for, takes_own_answers
from safesight.workflows.own_data import FitSplit, fit_split, training_split

if TYPE_CHECKING:
    from safesight.defenses import AnyDefense

__all__ = ["Source", "gathered"]


_TABLES = (".csv", ".tsv", ".parquet")
"""Endings of files that hold prompts and never rows with answers."""


@dataclass(frozen=True)
class Source:
    """What --data names; nothing for the tasks of the plan."""

    name: str | None = None
    """A file of prompts or, for a method that trains on given answers, of rows; or a data set."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Names of columns in a file of prompts, by the schema's names."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of a data set."""


def gathered(defense: AnyDefense, plan: FitPlan, model: str, source: Source) -> FitSplit:
    """The samples or rows for a fit; those of a file with its name.

    Args:
        defense: The defense to fit.
        plan: The tasks, if there is no source; of a file, the seed, the share and what to hold out.
        model: Its name; a bundled model has rows of its own.
        source: What to fit on.

    Raises:
        InputError: the source cannot be used, or not by this defense.
    """
    trains = bool(defense.needs & {"forget_set", "neutral_set"})
    name, registered = source.name, source.name in registry.names("dataset")
    given = trains and not (takes_own_answers(defense) and defense.config.answers == "self")
    if source.columns and (given or registered or name is None):
        raise InputError(
            "--column renames the columns of a file of prompts. Leave it out, or name such a file "
            f"with --data.{_hint(defense) if given else ''}"
        )
    if name is None or registered:
        return FitSplit(data_for(defense, plan, model, name, source.options), ())
    if given or (trains and holds_rows(name)):
        if Path(name).suffix.lower() in _TABLES:
            raise InputError(
                f"{defense.name} is fitted on questions with answers, in a JSON or JSONL file, "
                f"which {name} is not.{_hint(defense)}"
            )
        rows = data_for(defense, plan, model, name, source.options)
        return FitSplit(rows, (), source=name, file=rows.hash)
    if source.options:
        raise InputError(f"{name} is not a data set with options. Leave out --data-option.")
    data = read_data(name, source.columns)
    split = training_split if trains else fit_split
    return split(data, seed=plan.seed, share=plan.share, held_out=plan.held_out)


def _hint(defense: AnyDefense) -> str:
    """What a method that trains can do with prompts."""
    if not takes_own_answers(defense):
        return ""
    return " On prompts without answers it trains with --set answers=self."
