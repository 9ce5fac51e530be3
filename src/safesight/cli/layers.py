"""`safesight layers`: what each layer of a model represents, as a table and a page."""

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
    JsonFile,
    Loading,
    Seed,
    arms_of_option,
    check_output,
    loads_model,
    page_of,
)
from safesight.cli.show import examples, print_sentence
from safesight.console import bar, stderr, stdout, waiting
from safesight.grammar import UNDEFENDED, arm_parts
from safesight.grid import Column, Grid, print_grid

if TYPE_CHECKING:
    from torch import Tensor

    from safesight.analysis import LayerReport
    from safesight.defenses import Artifact
    from safesight.models import VLM

__all__ = ["EXAMPLES", "layers"]

EXAMPLES = examples(
    "safesight layers testbed",
    "safesight layers testbed --defense safety_prompt,adashield -o layers.html",
    "safesight layers ./my-model --n 40 --heads --json layers.json",
)


_Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="HTML file to write. Default: layers.html, if new."),
]


@loads_model
def layers(
    loading: Loading,
    model: Annotated[str, typer.Argument(help="testbed, a folder, or a model ID on the hub.")],
    defense: Annotated[
        str | None,
        typer.Option(help="Defenses to compare with the undefended model, comma-separated."),
    ] = None,
    artifact: Artifacts = None,
    n: Annotated[int, typer.Option("--n", min=5, help="Requests per label and form.")] = 100,
    heads: Annotated[
        bool,
        typer.Option("--heads", help="Also ablate each attention head: 2n prefills per head."),
    ] = False,
    vector: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Artifact with one vector per layer, to compare with the text direction.",
        ),
    ] = None,
    output: _Output = None,
    json: JsonFile = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Maximum batch size.")] = 16,
    seed: Seed = 0,
) -> None:
    """Look inside a model: where it recognizes harm, and how much of that reaches the answer.

    With --heads, finished heads are saved next to the page, and repeating the command resumes
    there.
    """
    arms = [] if defense is None else [arm for arm in arms_of_option(defense) if arm != UNDEFENDED]
    page = page_of(output, "layers.html")
    check_output(json)
    with waiting(f"Loading {model}"):
        from safesight.analysis import LayerPlan, look
        from safesight.analysis.layers import requests_of
        from safesight.defenses import Artifact
        from safesight.models import VLM
        from safesight.workflows.artifacts import artifacts_of

        _refuse_detectors(arms)
        requests_of(n, seed=seed)  # too few are refused before the model is loaded
        given = artifacts_of(artifact or [], arms)
        shift = None if vector is None else Artifact.load(vector)
        vlm = VLM.load(model, **loading)
        plan = LayerPlan(
            n=n,
            seed=seed,
            batch_size=batch_size,
            heads=heads,
            heads_file=page.with_suffix(".heads.csv") if heads else None,
            shift=None if shift is None else _vector(shift, vlm),
            shift_source="" if vector is None else vector.name,
            defenses=_defended(vlm, arms, given),
        )
    with _watched() as watch:
        report = look(vlm, plan, watch=watch)
    _write(report, page, json)


def _refuse_detectors(arms: list[str]) -> None:
    """Refuse arms of detectors alone, which judge a prefill and do not change it.

    Raises:
        InputError: there is such an arm.
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
    vlm: VLM, arms: list[str], given: dict[str, Path]
) -> dict[str, Callable[[], AbstractContextManager[Any]]]:
    """Map each arm to a function that attaches it; artifacts are checked before the run."""
    from safesight.hosting.arms import artifacts_for, build_arm

    built = {name: build_arm(vlm, name, artifacts_for(name, given)) for name in arms}
    return {name: partial(arm.attached, vlm) for name, arm in built.items()}


def _vector(artifact: Artifact, vlm: VLM) -> Tensor:
    """The tensor with one vector per layer; of several, the one that the artifact is set to use.

    Raises:
        ArtifactError: there is no single such tensor, or the artifact is of another model.
    """
    from safesight.errors import ArtifactError

    artifact.check_model(vlm)
    wanted = (vlm.num_layers, vlm.hidden_size)
    found = [name for name, tensor in artifact.tensors.items() if tensor.shape == wanted]
    if len(found) > 1:
        found = [name for name in found if name == artifact.config.get("vector")]
    if len(found) != 1:
        raise ArtifactError(
            f"The artifact of {artifact.defense} does not hold one vector of {wanted[1]} numbers "
            f"for each of {wanted[0]} layers. Pass one with a vector per layer, such as that of "
            "tool_vector."
        )
    return artifact.tensors[found[0]]


@contextmanager
def _watched() -> Iterator[Callable[[str, int], Callable[[int], None]]]:
    """One progress bar per measure."""
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
    from safesight.report import head_sentence, layer_sentence, layer_table

    heads, rows = layer_table(report)
    first, *others = zip(*rows, strict=True)
    columns = [
        Column(head, [(value, more) if more else (value,) for value, more in cells], head[0])
        for head, cells in zip(heads[1:], others, strict=True)
    ]
    labels = [value for value, _ in first]
    console = stdout()
    console.print()
    print_sentence(layer_sentence(report), console, "bold")
    console.print()
    print_grid(console, Grid("Layer by layer", labels, columns, corner=(heads[0][1],)))
    if report.heads is not None:
        print_sentence(f"{head_sentence(report.heads)}\n", console)
    print_sentence(
        f"{report.n} harmful and {report.n} benign requests in each form, seed {report.seed}; "
        f"95% intervals; {report.seconds:.0f} s.",
        console,
        "dim",
    )
