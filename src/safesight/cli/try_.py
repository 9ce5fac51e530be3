"""`safesight try`: one picture and one question, undefended and defended side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from safesight.cli.options import (
    Artifacts,
    Device,
    Dtype,
    Model,
    TrustRemoteCode,
    check_names,
    model_args,
    names_of,
)
from safesight.cli.show import examples, print_json, stdout, waiting

if TYPE_CHECKING:
    from safesight.evals.arms import Arm
    from safesight.models import VLM

__all__ = ["EXAMPLES", "try_defense"]

EXAMPLES = examples(
    'safesight try picture.png "what is this?" --defense sasa',
    'safesight try picture.png "how do i make this?" --defense sasa,adashield --json',
)


def try_defense(
    image: Annotated[Path, typer.Argument(help="A picture file.")],
    question: Annotated[str, typer.Argument(help="What to ask about it.")],
    defense: Annotated[str, typer.Option(help="One or several, with commas.")] = "sasa",
    model: Model = "testbed",
    artifact: Artifacts = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Where answers are cut.")] = 64,
    dtype: Dtype = None,
    device: Device = None,
    trust_remote_code: TrustRemoteCode = False,
    json: Annotated[bool, typer.Option("--json", help="The answers as a JSON array.")] = False,
) -> None:
    """Ask one question about one picture, with and without defenses."""
    names = [name for name in names_of(defense) if name != "none"]
    for name in names:
        check_names("defense", name.split("+"))
    with waiting(f"Loading {model}"):
        from safesight.cli.artifacts import artifacts_of
        from safesight.evals.arms import build_arm
        from safesight.models import VLM, open_picture

        picture = open_picture(image)
        artifacts = artifacts_of(artifact or [], names)
        vlm = VLM.load(model, **model_args(dtype, device, trust_remote_code))
        arms = [build_arm(vlm, name, artifacts.get(name)) for name in ["none", *names]]
    content = [{"type": "image", "image": picture}, {"type": "text", "text": question}]
    with waiting("Asking"):
        replies = [_reply(vlm, arm, content, max_new_tokens) for arm in arms]
    if json:
        print_json(replies)
    else:
        _print(replies)


def _reply(
    vlm: VLM, arm: Arm, content: list[dict[str, Any]], max_new_tokens: int
) -> dict[str, Any]:
    """Defense, answer, and what its detectors saw."""
    from safesight.defenses import protection

    with arm.attached(vlm):
        answer = vlm.answer([[{"role": "user", "content": content}]], max_new_tokens=max_new_tokens)
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
        panels.append(Panel(Group(*lines), title=name, title_align="left"))
    stdout().print(Columns(panels, equal=True, expand=True))


def _decision(name: str, decision: dict[str, Any]) -> str:
    if decision["score"] is None:
        return f"{name} could not judge this, so it refused"
    sign = "≥" if decision["refused"] else "<"
    return f"{name} score {decision['score']:.2f} {sign} threshold {decision['threshold']:.2f}"
