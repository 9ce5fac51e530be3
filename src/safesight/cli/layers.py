"""`safesight layers`: what each layer of a model holds, as a table and a page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from safesight import registry
from safesight.cli.options import (
    Artifacts,
    Loading,
    Seed,
    loads_model,
    names_of,
)
from safesight.cli.show import examples, stdout
from safesight.console import bar, stderr, waiting
from safesight.extras import need
from safesight.grammar import arm_parts, check_arm

if TYPE_CHECKING:
    from torch import Tensor

    from safesight.analysis import LayerReport
    from safesight.models import VLM

__all__ = ["EXAMPLES", "layers"]

EXAMPLES = examples(
    "safesight layers testbed",
    "safesight layers testbed --defense safety_prompt,adashield -o layers.html",
    "safesight layers ./my-model --n 40 --heads --json layers.json",
)


@loads_model
def layers(
    loading: Loading,
    model: Annotated[str, typer.Argument(help="testbed, a folder, or a model hub's id.")],
    defense: Annotated[
        str | None,
        typer.Option(help="Whose prefills are drawn beside the model's own; several with commas."),
    ] = None,
    artifact: Artifacts = None,
    n: Annotated[int, typer.Option("--n", min=5, help="Requests of each label and form.")] = 100,
    heads: Annotated[
        bool,
        typer.Option("--heads", help="Silence every attention head too: 2 n prefills a head."),
    ] = False,
    vector: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="A fitted vector, one a layer, to compare with text's direction."
        ),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The page to write.")] = Path(
        "layers.html"
    ),
    json: Annotated[
        str | None,
        typer.Option("--json", metavar="FILE", help="Write JSON too; - prints nothing else."),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Most prompts in one prefill.")] = 16,
    seed: Seed = 0,
) -> None:
    """Look inside: where a model reads harm, and what of it reaches the answer.

    With --heads finished heads are kept beside the page, and the same command goes on from there.
    """
    arms = [] if defense is None else [name for name in names_of(defense) if name != "none"]
    for name in arms:
        check_arm(name)
    need("plotly", "report", "The page")
    with waiting(f"Loading {model}"):
        from safesight.analysis import LayerPlan, look
        from safesight.models import VLM

        _refuse_detectors(arms)
        vlm = VLM.load(model, **loading)
        plan = LayerPlan(
            n=n,
            seed=seed,
            batch_size=batch_size,
            heads=heads,
            heads_file=output.with_suffix(".heads.csv") if heads else None,
            shift=None if vector is None else _vector(vector, vlm),
            shift_source="" if vector is None else vector.name,
            defenses=_defended(vlm, arms, artifact or []),
        )
    with _watched() as watch:
        report = look(vlm, plan, watch=watch)
    _write(report, output, json)


def _refuse_detectors(arms: list[str]) -> None:
    """A detector judges a prefill and leaves it as it is.

    Raises:
        InputError: an arm is one.
    """
    from safesight.errors import InputError

    for name in arms:
        parts = [defense for defense, _ in arm_parts(name)]
        if all(registry.load("defense", part).kind == "detector" for part in parts):
            raise InputError(
                f"{name} only judges the prefill and changes no state, so its curve is the "
                "undefended one. Leave it out of --defense."
            )


def _defended(
    vlm: VLM, arms: list[str], folders: list[Path]
) -> dict[str, Callable[[], AbstractContextManager[Any]]]:
    """Name to what attaches the arm; artifacts are checked now, not in mid-run."""
    from safesight.evals.arms import build_arm
    from safesight.workflows.artifacts import artifacts_of

    given = artifacts_of(folders, arms)
    built = {name: build_arm(vlm, name, given.get(name)) for name in arms}
    return {name: partial(arm.attached, vlm) for name, arm in built.items()}


def _vector(folder: Path, vlm: VLM) -> Tensor:
    """The tensor of an artifact that has one vector a layer; of several, the one it is set to use.

    Raises:
        ArtifactError: there is none or no telling which, or the artifact is of another model.
    """
    from safesight.defenses import Artifact
    from safesight.errors import ArtifactError

    artifact = Artifact.load(folder)
    artifact.check_model(vlm)
    wanted = (vlm.num_layers, vlm.hidden_size)
    found = [name for name, tensor in artifact.tensors.items() if tensor.shape == wanted]
    if len(found) > 1:
        found = [name for name in found if name == artifact.config.get("vector")]
    if len(found) != 1:
        raise ArtifactError(
            f"{folder} does not hold one vector of {wanted[1]} numbers for each of {wanted[0]} "
            "layers. Pass the folder of a fit that keeps one vector a layer, such as tool_vector's."
        )
    return artifact.tensors[found[0]]


@contextmanager
def _watched() -> Iterator[Callable[[str, int], Callable[[int], None]]]:
    """One progress bar a measure."""
    with bar() as shown:

        def watch(what: str, steps: int) -> Callable[[int], None]:
            task = shown.add_task(what, total=steps)
            return lambda done: shown.advance(task, done)

        yield watch


def _write(report: LayerReport, output: Path, json: str | None) -> None:
    from safesight.files import write_text
    from safesight.report import write_layers

    text = report.model_dump_json(indent=2)
    write_layers(output, report)
    if json == "-":
        typer.echo(text)
        return
    if json is not None:
        write_text(Path(json), text + "\n")
    _print(report)
    stderr().print(f"Page: {output}")


def _print(report: LayerReport) -> None:
    from rich import box
    from rich.table import Table

    from safesight.report import head_sentence, layer_sentence, layer_table

    columns, rows = layer_table(report)
    table = Table(
        title="Layer by layer",
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for index, (group, title) in enumerate(columns):
        first = index == 0 or columns[index - 1][0] != group
        table.add_column(f"{group if first else ''}\n[dim]{title}[/dim]")
    for row in rows:
        table.add_row(*(f"{value}\n[dim]{more}[/dim]" if more else value for value, more in row))
    console = stdout()
    console.print()
    console.print(f"[bold]{layer_sentence(report)}[/bold]", soft_wrap=True)
    console.print()
    console.print(table)
    if report.heads is not None:
        console.print(f"{head_sentence(report.heads)}\n", soft_wrap=True)
    console.print(
        f"[dim]{report.n} harmful and {report.n} benign requests in each form, seed {report.seed}; "
        f"95% intervals; {report.seconds:.0f} s.[/dim]",
        soft_wrap=True,
    )
