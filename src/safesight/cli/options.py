"""Options that several commands share, written once."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from safesight import registry
from safesight.errors import InputError, StorageError, reason_of
from safesight.files import check_place, parsed
from safesight.grammar import check_arm, close_up

__all__ = [
    "Artifacts",
    "BatchSize",
    "Columns",
    "DataOptions",
    "HoldOut",
    "JsonFile",
    "Judge",
    "JudgedBy",
    "Limit",
    "Loading",
    "MaxTokens",
    "Model",
    "Only",
    "Seed",
    "arms_of_option",
    "check_apart",
    "check_names",
    "check_needs_data",
    "check_output",
    "facts_of",
    "loads_model",
    "names_of",
    "page_of",
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
Loading = dict[str, Any]
"""Keyword arguments of `VLM.load`, without those that were not given."""
Seed = Annotated[int, typer.Option(min=0, help="Seed for samples, fits and the bootstrap.")]
Limit = Annotated[
    int | None, typer.Option(min=1, help="Samples per task. Default: each task's own number.")
]
MaxTokens = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="The longest answer. Default: the benchmark's, else the checkpoint's, else 256.",
    ),
]
BatchSize = Annotated[int | None, typer.Option(min=1, help="Maximum batch size.")]
DataOptions = Annotated[
    list[str] | None,
    typer.Option("--data-option", metavar="KEY=VALUE", help="An option of --data; repeatable."),
]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        metavar="NAME=THEIRS",
        help="A column of --data that has another name, such as question=prompt; repeatable.",
    ),
]
JsonFile = Annotated[
    str | None,
    typer.Option("--json", metavar="FILE", help="Also write JSON; - prints only that."),
]
HoldOut = Annotated[
    list[str] | None,
    typer.Option(
        "--hold-out",
        metavar="FACT=VALUE",
        help="Leave all samples with such a fact out of the fit, such as category=weapon or "
        "concept=bomb,knife; repeatable. Evaluate on them with --only.",
    ),
]
Only = Annotated[
    list[str] | None,
    typer.Option(
        "--only",
        metavar="FACT=VALUE",
        help="Ask only the samples with such a fact, such as category=weapon, among those drawn; "
        "repeatable.",
    ),
]
Judge = Annotated[
    str | None,
    typer.Option(
        help="Judge that labels the answers; see `safesight list judges`. "
        "Default: exact for the bundled model on its own tasks, rules for anything else."
    ),
]
JudgedBy = Annotated[
    str | None,
    typer.Option(
        "--judge",
        help="Judge that labels the answers; see `safesight judge`. Default: each run's first.",
    ),
]


def names_of(text: str) -> list[str]:
    """Split a comma-separated list into names, without repeats and spaces.

    Raises:
        InputError: the list is empty.

    Example:
        >>> names_of("sasa, npo ~ int4,sasa")
        ['sasa', 'npo~int4']
    """
    names = list(dict.fromkeys(close_up(part) for part in text.split(",") if part.strip()))
    if not names:
        raise InputError(f"No name given in {text!r}. Separate names with commas.")
    return names


def arms_of_option(text: str) -> list[str]:
    """Split a comma-separated list into arms, and refuse those that cannot be built.

    Raises:
        UnknownNameError: no such defense or stress test; the message suggests the nearest one.
        InputError: the list is empty, or names in it do not go together.
    """
    names = names_of(text)
    for name in names:
        check_arm(name)
    return names


def facts_of(texts: list[str] | None, what: str) -> dict[str, list[str]]:
    """Parse the `FACT=VALUE,VALUE` arguments of a repeatable option.

    Raises:
        InputError: an argument does not have that form.
    """
    from safesight.fitting.facts import parsed_facts

    return parsed_facts(texts or [], what)


def check_needs_data(data: object, given: Mapping[str, object]) -> None:
    """Refuse options that say how to read --data where there is none.

    Raises:
        InputError: one is given.
    """
    for option in (name for name, value in given.items() if value):
        if not data:
            raise InputError(f"{option} is for files of your own. Name one with --data FILE.")


def check_names(kind: registry.Kind, names: list[str]) -> None:
    """Refuse unknown names before anything is loaded.

    Raises:
        UnknownNameError: no such name; the message suggests the nearest one.
        PluginError: another package adds a name, and it cannot be used.
    """
    for name in names:
        registry.check(kind, name)


def check_output(target: str | Path | None, *sources: str | Path | None) -> None:
    """Refuse a file that cannot be written or that is read, before the work starts.

    "-" is standard output; None means that none is wanted.

    Args:
        target: The file to write.
        sources: What the command reads.

    Raises:
        StorageError: it cannot be written.
        InputError: it is one of the sources, or the list of pictures in one.
    """
    if target not in (None, "-"):
        check_place(Path(target))
        check_apart(target, *sources)


def check_apart(target: str | Path, *sources: str | Path | None) -> None:
    """Refuse to write over what a command reads.

    Args:
        target: The file or folder to write.
        sources: Files, folders, or names of anything else, which are no place.

    Raises:
        InputError: the target is one of the sources, or the list of pictures in one.
    """
    place = Path(target).resolve()
    for source in sources:
        read = Path(os.path.expanduser(source or ""))
        if source is None or not os.path.exists(read):  # which takes any name, however long
            continue
        listed = place.parent == read.resolve() and place.stem == "metadata"
        if listed or (place.exists() and place.samefile(read)):
            raise InputError(
                f"{target} is read by this command and would be replaced. Choose another place "
                "to write to."
            )


def page_of(given: Path | None, default: str) -> Path:
    """Where a page goes: only a file that was named is replaced.

    Raises:
        StorageError: the default file exists already, or the place cannot be written.
    """
    page = given or Path(default)
    if given is None and page.exists():
        raise StorageError(
            f"{page} exists and was not replaced. Name the file to write with --output."
        )
    check_place(page)
    return page


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
        >>> values_of(["rho=0.8", "harm=ruled"], "--data-option")
        {'rho': 0.8, 'harm': 'ruled'}
    """
    values: dict[str, Any] = {}
    for name, text in pairs_of(texts, what).items():
        try:
            values[name] = parsed(text)
        except ValueError:
            values[name] = text
    return values


def loads_model(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options for loading a model, as one argument, `loading`."""
    options = inspect.signature(_loading).parameters.values()

    @functools.wraps(command)
    def run(**given: Any) -> None:
        loading = _loading(**{option.name: given.pop(option.name) for option in options})
        command(**given, loading=loading)

    own = inspect.signature(command, eval_str=True)
    kept = [each for each in own.parameters.values() if each.name != "loading"]
    told = [
        each.replace(annotation=hint, kind=inspect.Parameter.KEYWORD_ONLY)
        for each in options
        for hint in [get_type_hints(_loading, include_extras=True)[each.name]]
    ]
    run.__signature__ = own.replace(parameters=[*kept, *told])  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in (*kept, *told)}
    return run


def _option(*words: str, **more: Any) -> Any:
    return typer.Option(*words, rich_help_panel="Loading the model", **more)


def _loading(
    dtype: Annotated[
        str | None,
        _option(
            help="Type of the weights: float32, bfloat16 or float16. Default: float32 on a CPU, "
            "the checkpoint's own on a GPU."
        ),
    ] = None,
    device: Annotated[
        str | None, _option(help="cpu, cuda or cuda:1. Default: a GPU if there is one.")
    ] = None,
    device_map: Annotated[
        str | None,
        _option(help="Instead of --device: auto, or a JSON object of modules and devices."),
    ] = None,
    quantization: Annotated[
        str | None, _option(help="Quantize the weights to int8 or int4 (quanto).")
    ] = None,
    attn_implementation: Annotated[
        str | None, _option(help="eager, sdpa or flash_attention_2.")
    ] = None,
    revision: Annotated[str | None, _option(help="Branch, tag or commit of a hub model.")] = None,
    trust_remote_code: Annotated[
        bool, _option("--trust-remote-code", help="Run code that comes with the checkpoint.")
    ] = False,
) -> Loading:
    """The options that were given, under the names of `VLM.load`."""
    given = {
        "dtype": dtype,
        "device": device,
        "device_map": None if device_map is None else _places(device_map),
        "quantization_config": quantization,
        "attn_implementation": attn_implementation,
        "revision": revision,
        "trust_remote_code": trust_remote_code or None,
    }
    return {name: value for name, value in given.items() if value is not None}


def _places(text: str) -> Any:
    if not text.startswith("{"):
        return text
    try:
        return parsed(text)
    except ValueError as error:
        raise InputError(
            f"--device-map {text!r} is not a JSON object ({reason_of(error)}). Write it like "
            '\'{"model": 0, "lm_head": "cpu"}\', or use auto.'
        ) from error
