"""The `safesight` program: its commands, and how it reports errors.

An error that the user can fix prints one message on standard error and exits with code 2. Ctrl-C
exits with 130, and other signals as `stopping` says. Any other exception is a bug in safesight and
keeps its traceback. Each command has its own file.
"""

from __future__ import annotations

import os
import re
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from safesight import __version__, ranks
from safesight.cli import (
    app_,
    calibrate,
    check,
    compare,
    data,
    demo,
    eval,
    fit,
    judge,
    judge_card,
    layers,
    list_,
    merge,
    power,
    reference,
    report,
    run,
    serve,
    spurious,
    transfer,
    try_,
)
from safesight.cli.arguments import Command
from safesight.cli.show import examples
from safesight.cli.stopping import exit_code, leave, no_more, stop_like_ctrl_c
from safesight.errors import InputError, SafesightError
from safesight.files import UNWRITABLE

__all__ = ["app", "main"]

USER_ERROR = 2
_OF_SEVERAL = ("eval", "fit")
"""Commands whose work several processes share."""


class _Group(TyperGroup):
    """Reports errors that the user can fix as a message."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except SafesightError as error:
            raise _stop(str(error)) from error
        except KeyboardInterrupt as stop:
            no_more()
            typer.echo(err=True)  # the line may hold a progress bar, or ^C
            raise _stop(f"Stopped. {stop}".rstrip(), exit_code()) from None
        except OSError as error:
            if error.errno not in UNWRITABLE:
                raise
            place = f"{error.filename}: " if error.filename else ""
            message = f"{place}{os.strerror(error.errno)}. Free some space, or choose a place"
            raise _stop(f"{message} that you can write to.") from error


def _stop(message: str, code: int = USER_ERROR) -> typer.Exit:
    """Print a message, in which a word without end is cut: it is what was typed, or a file's."""
    short = re.sub(r"(\S{100})\S{200,}", r"\1...", message)
    typer.echo(f"safesight{ranks.label()}: {short}", err=True)
    return typer.Exit(code)


app = typer.Typer(
    cls=_Group,
    name="safesight",
    help="Measure how unsafe a vision-language model is, defend it, and see what that costs.",
    epilog=examples(
        "safesight demo",
        "safesight eval --model testbed --defense sasa --tasks image_harm,vqa --log-dir runs/mine",
        "safesight report runs/mine -o report.html",
    ),
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="rich",
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"safesight {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    if ctx.invoked_subcommand not in _OF_SEVERAL and ranks.place().count > 1:
        raise InputError(
            f"safesight {ctx.invoked_subcommand} runs in one process. Start it without torchrun or "
            "accelerate launch, or unset WORLD_SIZE."
        )


for _name, _command, _examples in (
    ("demo", demo.demo, demo.EXAMPLES),
    ("eval", eval.evaluate, eval.EXAMPLES),
    ("fit", fit.fit, fit.EXAMPLES),
    ("calibrate", calibrate.calibrate, calibrate.EXAMPLES),
    ("merge", merge.merge, merge.EXAMPLES),
    ("judge", judge.judge, judge.EXAMPLES),
    ("compare", compare.compare, compare.EXAMPLES),
    ("report", report.report, report.EXAMPLES),
    ("run", run.run, run.EXAMPLES),
    ("serve", serve.serve, serve.EXAMPLES),
    ("layers", layers.layers, layers.EXAMPLES),
    ("spurious", spurious.spurious, spurious.EXAMPLES),
    ("transfer", transfer.transfer, transfer.EXAMPLES),
    ("try", try_.try_defense, try_.EXAMPLES),
    ("app", app_.serve_page, app_.EXAMPLES),
    ("data", data.data, data.EXAMPLES),
    ("reference", reference.reference, reference.EXAMPLES),
    ("judge-card", judge_card.judge_card, judge_card.EXAMPLES),
    ("power", power.power, power.EXAMPLES),
    ("list", list_.list_names, list_.EXAMPLES),
    ("check", check.check, check.EXAMPLES),
):
    app.command(_name, cls=Command, epilog=_examples)(_command)


def main() -> None:
    """Run the program with the arguments of the command line."""
    stop_like_ctrl_c()
    try:
        app(prog_name="safesight")
    except SystemExit as end:
        if isinstance(end.code, int) and end.code > 128:
            leave(end.code)
        raise


if __name__ == "__main__":
    main()
