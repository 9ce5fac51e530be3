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
    typer.Option("--artifact", metavar="DIR", help="Folder of a fitted defense; repeatable."),
]
Model = Annotated[
    str, typer.Option("--model", "-m", help="testbed, a folder, or a model ID on the hub.")
]
Dtype = Annotated[
    str | None, typer.Option(help="float32, bfloat16 or float16. Default on a CPU: float32.")
]
Device = Annotated[
    str | None, typer.Option(help="cpu, cuda or cuda:1. Default: a GPU if there is one.")
]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run code that comes with the checkpoint.")
]
Seed = Annotated[int, typer.Option(help="Seed for samples, fits and the bootstrap.")]
Limit = Annotated[
    int | None, typer.Option(min=1, help="Samples per task. Default: each task's own number.")
]
BatchSize = Annotated[int | None, typer.Option(min=1, help="Maximum batch size.")]
DataSettings = Annotated[
    list[str] | None,
    typer.Option("--data-set", metavar="KEY=VALUE", help="An option of the rows; repeatable."),
]
Judge = Annotated[
    str, typer.Option(help="Judge that labels the answers; see `safesight list judges`.")
]


def names_of(text: str) -> list[str]:
    """Split a comma-separated list into names, without repeats.

    Raises:
        InputError: the list is empty.

    Example:
        >>> names_of("sasa, probe,sasa")
        ['sasa', 'probe']
    """
    names = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not names:
        raise InputError(f"No name given in {text!r}. Separate names with commas.")
    return names


def check_names(kind: registry.Kind, names: list[str]) -> None:
    """Refuse unknown names before anything is loaded.

    Raises:
        UnknownNameError: no such name; the message suggests the nearest one.
    """
    for name in names:
        registry.describe(kind, name)


def pairs_of(texts: list[str], what: str) -> dict[str, str]:
    """Parse the `NAME=VALUE` arguments of a repeatable option.

    Raises:
        InputError: an argument does not have that form, or a name is repeated.

    Example:
        >>> pairs_of(["sasa=runs/a"], "--artifact")
        {'sasa': 'runs/a'}
    """
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (equals and name and value):
            raise InputError(f"{what} {text!r} does not have the form NAME=VALUE.")
        if name in found:
            raise InputError(f"{what} sets {name!r} twice. Set it once.")
        found[name] = value
    return found


def values_of(texts: list[str], what: str) -> dict[str, Any]:
    """Like `pairs_of`, but values that are valid JSON are parsed; the caller checks them.

    Raises:
        InputError: an argument does not have that form, or a name is repeated.

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
    """The loading options that were given."""
    given = {"dtype": dtype, "device": device, "trust_remote_code": trust_remote_code or None}
    return {name: value for name, value in given.items() if value is not None}
