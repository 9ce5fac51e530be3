"""`safesight merge`: write fitted weights as a checkpoint that loads anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from safesight.cli.options import Loading, loads_model
from safesight.cli.show import examples
from safesight.console import stderr, waiting
from safesight.errors import ArtifactError
from safesight.files import check_place

__all__ = ["EXAMPLES", "merge"]

EXAMPLES = examples(
    "safesight merge artifacts/npo -o checkpoints/npo",
    "safesight merge artifacts/npo -o adapters/npo --adapter",
)


@loads_model
def merge(
    loading: Loading,
    artifact: Annotated[Path, typer.Argument(help="Folder of a fitted sft, npo, rmu, ...")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")],
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="The model it was fitted on, if that has moved."),
    ] = None,
    adapter: Annotated[
        bool, typer.Option("--adapter", help="Write only a PEFT adapter, without the model.")
    ] = False,
) -> None:
    """Write fitted weights as a plain checkpoint, with the processor."""
    check_place(output, folder=True)
    with waiting("Merging"):
        from safesight.defenses import Artifact
        from safesight.models import VLM
        from safesight.training.export import check_mergeable, export_adapter
        from safesight.training.export import merge as merge_into

        fitted = Artifact.load(artifact)
        check_mergeable(fitted)  # before a large model is loaded
        if adapter:
            export_adapter(fitted, output)
        else:
            about = fitted.card.get("model", {})
            name = model or about.get("name")
            if not name:
                raise ArtifactError(
                    f"{artifact} does not say which model it is for. Name it with --model."
                )
            loading.setdefault("dtype", about.get("dtype"))
            merge_into(VLM.load(name, **loading), fitted, output)
    stderr().print(f"{fitted.defense} merged: {fitted.hash[:12]}")
    typer.echo(output)
