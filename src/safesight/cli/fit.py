"""`safesight fit`: what a defense needs to know of a model, into a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from safesight.cli.options import (
    Device,
    Dtype,
    Model,
    Seed,
    TrustRemoteCode,
    check_names,
    model_args,
    names_of,
    pairs_of,
)
from safesight.cli.show import examples, print_json, stderr, waiting

__all__ = ["EXAMPLES", "fit"]

EXAMPLES = examples(
    "safesight fit sasa -o artifacts/sasa",
    "safesight fit sasa --model ./my-model -o artifacts/mine --set feature=hidden",
    "safesight fit probe --tasks image_harm,over_refusal -o artifacts/probe",
    "safesight fit rai -o artifacts/rai --set gamma=auto --set ratio=auto",
)


def fit(
    defense: Annotated[str, typer.Argument(help="See `safesight list defenses`.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write.")],
    model: Model = "testbed",
    tasks: Annotated[
        str, typer.Option(help="Whose fit split is used; an attack left out stays unseen.")
    ] = "text_harm,image_harm,over_refusal,sensitive_benign,vqa",
    pool: Annotated[int, typer.Option(min=1, help="Samples of each task in the pool.")] = 4000,
    share: Annotated[float, typer.Option(help="Of the pool that is used.")] = 0.05,
    calibration: Annotated[
        int, typer.Option(min=1, help="Samples of each task for the threshold; benign ones only.")
    ] = 400,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting of the defense; repeatable."),
    ] = None,
    seed: Seed = 0,
    dtype: Dtype = None,
    device: Device = None,
    trust_remote_code: TrustRemoteCode = False,
    json: Annotated[bool, typer.Option("--json", help="The artifact's card as JSON.")] = False,
) -> None:
    """Fit a defense on a model; the weights are not changed.

    The folder is written as a whole or not at all.
    """
    check_names("defense", [defense])
    chosen = names_of(tasks)
    check_names("benchmark", chosen)
    with waiting(f"Loading {model}"):
        from safesight.cli.artifacts import FitPlan, fit_data
        from safesight.defenses import load_defense
        from safesight.models import VLM

        fitter = load_defense(defense, **_values(settings or []))
        data = fit_data(FitPlan(chosen, pool, share, calibration, seed))
        vlm = VLM.load(model, **model_args(dtype, device, trust_remote_code))
    artifact = fitter.fit(vlm, data, seed=seed)
    artifact.save(output)
    if json:
        print_json({"defense": artifact.defense, "hash": artifact.hash, **artifact.card})
    else:
        stderr().print(f"{defense} fitted on {vlm.name}: {artifact.hash[:12]}")
        typer.echo(output)


def _values(settings: list[str]) -> dict[str, Any]:
    """Values as JSON where they are JSON, as text otherwise; the defense checks them."""
    import json

    values: dict[str, Any] = {}
    for name, text in pairs_of(settings, "--set").items():
        try:
            values[name] = json.loads(text)
        except ValueError:
            values[name] = text
    return values
