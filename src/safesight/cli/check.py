"""`safesight check`: whether a model works with the defenses."""

from __future__ import annotations

from typing import Annotated

import typer

from safesight.cli.options import Loading, loads_model
from safesight.cli.show import examples, print_json
from safesight.console import stdout, waiting

__all__ = ["EXAMPLES", "check"]

EXAMPLES = examples("safesight check testbed", "safesight check ./my-model --dtype bfloat16 --json")


@loads_model
def check(
    loading: Loading,
    model: Annotated[str, typer.Argument(help="testbed, a folder, or a model ID on the hub.")],
    json: Annotated[bool, typer.Option("--json", help="Print the checks as JSON.")] = False,
) -> None:
    """Check a model's parts, and run a detector, an edit and a training step on it.

    Exits with code 1 if a check fails.
    """
    with waiting(f"Loading {model}"):
        from safesight.defenses.check import check as self_check
        from safesight.models import VLM

        vlm = VLM.load(model, **loading)
    with waiting("Checking"):
        found = self_check(vlm)
    if json:
        print_json(found.to_dict())
    else:
        stdout().print(str(found), soft_wrap=True)
    if not found.ok:
        raise typer.Exit(1)
