"""`safesight try`: pictures and one question, undefended and defended side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from safesight.cli.options import (
    Artifacts,
    Loading,
    Model,
    arms_of_option,
    loads_model,
)
from safesight.cli.show import examples, print_json
from safesight.console import stdout, waiting
from safesight.errors import InputError, StorageError, reason_of
from safesight.files import check_place
from safesight.grammar import UNDEFENDED, arm_parts

if TYPE_CHECKING:
    from safesight.fitting.artifact import Artifact
    from safesight.hosting.arms import Arm
    from safesight.models import VLM
    from safesight.types import Sample

__all__ = ["EXAMPLES", "try_defense"]

EXAMPLES = examples(
    'safesight try picture.png "what is this?" --defense sasa',
    'safesight try picture.png "how do i make this?" --defense sasa,adashield --json',
    'safesight try picture.png "how do i use this?" --defense rai --risk-map map.png',
    'safesight try one.png "which is larger?" --image two.png --defense sasa',
)


@loads_model
def try_defense(
    loading: Loading,
    image: Annotated[str, typer.Argument(metavar="PATH", help="Picture file.")],
    question: Annotated[str, typer.Argument(help="Question about the picture.")],
    defense: Annotated[str, typer.Option(help="Comma-separated names.")] = "sasa",
    further: Annotated[
        list[str] | None,
        typer.Option("--image", metavar="PATH", help="Another picture; repeat it for more."),
    ] = None,
    model: Model = "testbed",
    artifact: Artifacts = None,
    max_new_tokens: Annotated[
        int, typer.Option(min=1, help="Maximum length of an answer, in tokens.")
    ] = 64,
    risk_map: Annotated[
        Path | None, typer.Option(help="PNG file for a map of the risk that RAI sees.")
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print the answers as a JSON array.")
    ] = False,
) -> None:
    """Ask one question about one picture or several, with and without defenses."""
    names = [arm for arm in arms_of_option(defense) if arm != UNDEFENDED]
    taking_part = {defense for name in names for defense, _ in arm_parts(name)}
    if risk_map is not None and "rai" not in taking_part:
        raise InputError("A risk map shows what RAI sees. Add --defense rai.")
    if risk_map is not None:
        check_place(risk_map)
    with waiting(f"Loading {model}"):
        from safesight.analysis.risk_map import risk_map as risk_of
        from safesight.hosting.arms import artifacts_for, build_arm
        from safesight.models import VLM, open_picture
        from safesight.types import Sample
        from safesight.workflows.artifacts import artifacts_of

        pictures = [open_picture(path) for path in (image, *(further or []))]
        artifacts = artifacts_of(artifact or [], names)
        vlm = VLM.load(model, **loading)
        arms = [
            build_arm(vlm, name, artifacts_for(name, artifacts)) for name in [UNDEFENDED, *names]
        ]
    first, *more = (picture.copy for picture in pictures)
    asked = Sample("", question, "benign", "", first, further_images=tuple(more))
    with waiting("Asking"):
        replies = [_reply(vlm, arm, asked, max_new_tokens) for arm in arms]
        fits = [_rai(arm) for arm in arms]
        for reply, found in zip(replies, fits, strict=True):
            if found is not None:
                reply["risk"] = risk_of(vlm, asked, found).summary()
    if risk_map is not None:
        _save_maps(risk_map, vlm, asked, next(filter(None, fits)))
    if json:
        print_json(replies)
    else:
        _print(replies)


def _reply(vlm: VLM, arm: Arm, asked: Sample, max_new_tokens: int) -> dict[str, Any]:
    """The defense, its answer, and the decisions of its detectors."""
    from safesight.defenses import protection

    with arm.attached(vlm):
        answer = vlm.answer([asked.messages()], max_new_tokens=max_new_tokens)
        handle = protection(vlm.model)
        outcome = handle.last if handle is not None else None
    decisions = outcome.decisions if outcome is not None else {}
    return {
        "defense": arm.name,
        "answer": answer[0],
        "decisions": {
            name: {
                "score": None if decision.error else round(float(decision.scores[0]), 4),
                "threshold": round(decision.threshold, 4),
                "refused": bool(decision.refuse[0]),
            }
            for name, decision in decisions.items()
        },
    }


def _rai(arm: Arm) -> Artifact | None:
    """The artifact of RAI, if it takes part."""
    return next((found for each, found in arm.defenses if each.name == "rai"), None)


def _save_maps(target: Path, vlm: VLM, asked: Sample, artifact: Artifact) -> None:
    """Draw the map of each picture to a file; those after the first get a number.

    Raises:
        InputError: the model's visual tokens have no grid.
        StorageError: a file cannot be written.
    """
    from safesight.analysis.risk_map import draw, risk_maps

    for number, seen in enumerate(risk_maps(vlm, asked, artifact), 1):
        place = target if number == 1 else target.with_stem(f"{target.stem}-{number}")
        drawn = draw(seen)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            drawn.save(place, format="PNG")
        except OSError as error:
            raise StorageError(
                f"The map could not be written to {place} ({reason_of(error)}). "
                "Choose another file."
            ) from error


def _print(replies: list[dict[str, Any]]) -> None:
    from rich.columns import Columns
    from rich.console import Group
    from rich.panel import Panel
    from rich.text import Text

    panels = []
    for reply in replies:
        name = "undefended" if reply["defense"] == "none" else reply["defense"]
        lines = [Text(reply["answer"] or "(empty)")]
        lines += [Text(_decision(*item), style="dim") for item in reply["decisions"].items()]
        if "risk" in reply:
            lines.append(Text(_moved(reply["risk"]), style="dim"))
        panels.append(Panel(Group(*lines), title=Text(name), title_align="left"))
    stdout().print(Columns(panels, equal=True, expand=True))


def _moved(risk: dict[str, Any]) -> str:
    words = ", ".join(f"{word} {score:.2f}" for word, score in risk["words"].items())
    total = f"rai moved {risk['moved']} of {risk['visual_tokens']} visual tokens"
    return f"{total}: {words}" if words else total


def _decision(name: str, decision: dict[str, Any]) -> str:
    if decision["score"] is None:
        return f"{name} could not judge this, so it refused"
    sign = "≥" if decision["refused"] else "<"
    return f"{name} score {decision['score']:.2f} {sign} threshold {decision['threshold']:.2f}"
