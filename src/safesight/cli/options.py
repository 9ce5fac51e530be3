"""Options that several commands share, written once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from safesight import registry
from safesight.errors import InputError

__all__ = [
    "Artifacts",
    "BatchSize",
    "DataSettings",
    "Device",
    "Dtype",
    "Judge",
    "Limit",
    "Model",
    "Seed",
    "TrustRemoteCode",
    "check_names",
    "model_args",
    "names_of",
    "pairs_of",
    "values_of",
]

Artifacts = Annotated[
    list[Path] | None,
    typer.Option("--artifact", metavar="DIR", help="A fitted defense; may be repeated."),
]
Model = Annotated[
    str, typer.Option("--model", "-m", help="testbed, a folder, or a model hub's id.")
]
Dtype = Annotated[
    str | None, typer.Option(help="float32, bfloat16 or float16; float32 on a CPU if not given.")
]
Device = Annotated[
    str | None, typer.Option(help="cpu, cuda, cuda:1; a GPU if there is one and none is given.")
]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run code that comes with the checkpoint.")
]
Seed = Annotated[int, typer.Option(help="Of samples, fits and bootstrap.")]
Limit = Annotated[
    int | None, typer.Option(min=1, help="Samples a task; each task's own number if not given.")
]
BatchSize = Annotated[int | None, typer.Option(min=1, help="Most answers in one batch.")]
DataSettings = Annotated[
    list[str] | None,
    typer.Option("--data-set", metavar="KEY=VALUE", help="An option of the rows; repeatable."),
]
Judge = Annotated[str, typer.Option(help="Who gives verdicts; see `safesight list judges`.")]


def names_of(text: str) -> list[str]:
    """The names of a comma list, once each.

    Raises:
        InputError: there is none.

    Example:
        >>> names_of("sasa, probe,sasa")
        ['sasa', 'probe']
    """
    names = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not names:
        raise InputError(f"{text!r} names nothing. Give names with commas between them.")
    return names


def check_names(kind: registry.Kind, names: list[str]) -> None:
    """Refuse unknown names, before anything is loaded.

    Raises:
        UnknownNameError: no such name; the message suggests the nearest one.
    """
    for name in names:
        registry.describe(kind, name)


def pairs_of(texts: list[str], what: str) -> dict[str, str]:
    """The `NAME=VALUE` words of a repeated option.

    Raises:
        InputError: a word is not of that form, or a name comes twice.

    Example:
        >>> pairs_of(["sasa=runs/a"], "--artifact")
        {'sasa': 'runs/a'}
    """
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (equals and name and value):
            raise InputError(f"{what} {text!r} is not of the form NAME=VALUE.")
        if name in found:
            raise InputError(f"{what} names {name!r} twice. Give it once.")
        found[name] = value
    return found


def values_of(texts: list[str], what: str) -> dict[str, Any]:
    """The same with values as JSON where they are JSON; who takes them checks them.

    Raises:
        InputError: a word is not of that form, or a name comes twice.

    Example:
        >>> values_of(["rho=0.8", "harm=ruled"], "--data-set")
        {'rho': 0.8, 'harm': 'ruled'}
    """
    values: dict[str, Any] = {}
    for name, text in pairs_of(texts, what).items():
        try:
            values[name] = json.loads(text)
        except ValueError:
            values[name] = text
    return values


def model_args(dtype: str | None, device: str | None, trust_remote_code: bool) -> dict[str, Any]:
    """What was said of loading, without what was not."""
    given = {"dtype": dtype, "device": device, "trust_remote_code": trust_remote_code or None}
    return {name: value for name, value in given.items() if value is not None}
