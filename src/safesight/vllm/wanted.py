"""From the names of defenses to what an engine needs for them: settings, template, dtype."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from safesight import registry
from safesight.defenses.front_door import load_defense
from safesight.errors import InputError
from safesight.fitting.artifact import Artifact
from safesight.fitting.bundled import place_in
from safesight.grammar import BUNDLED, UNDEFENDED
from safesight.vllm.attached import bundled_place
from safesight.vllm.settings import Entry, Settings
from safesight.vllm.templates import template_with

if TYPE_CHECKING:
    from safesight.models import VLM

__all__ = ["Wanted", "wanted_of"]


_INSIDE = ("detector", "activation")
"""Kinds of defenses that can act in the engine."""


@dataclass(frozen=True)
class Wanted:
    """The defenses of an engine, by where they act."""

    inside: tuple[Entry, ...]
    """In the engine."""
    before: tuple[str, ...]
    """In the chat template."""

    def settings(self, *, per_request: bool = False, decision_log: Path | None = None) -> Settings:
        """What the engine is told.

        Args:
            per_request: Whether a request may turn the defenses off.
            decision_log: JSONL file for refusals.

        Raises:
            InputError: there is nothing to turn off or to log, or a request could not turn all off.
        """
        if per_request and self.before:
            raise InputError(
                f"{self.before[0]} is in the chat template, where a request cannot turn it off. "
                "Leave out --allow."
            )
        if not self.inside and (per_request or decision_log is not None):
            option = "--allow" if per_request else "--decision-log"
            raise InputError(f"No defense is in the engine. Leave out {option}.")
        log = None if decision_log is None else decision_log.absolute()
        return Settings(
            defenses=self.inside or (Entry(name=UNDEFENDED),),
            per_request=per_request,
            decision_log=log,
            template=self.before,
        )

    def dtype(self, given: str | None) -> str | None:
        """The type of the weights, which the artifacts decide.

        Args:
            given: What the operator asks for; the artifacts are compared with it later.

        Raises:
            InputError: two artifacts were fitted in different types.
        """
        if given is not None:
            return given
        places = [each.artifact or place_in(BUNDLED, each.name) for each in self.inside]
        cards = [Artifact.load(place).card for place in places if (place / "card.json").is_file()]
        found = {str(card.get("model", {}).get("dtype")) for card in cards}
        if len(found) > 1:
            raise InputError(
                f"The artifacts were fitted in {' and '.join(sorted(found))}, and an engine has "
                "one type. Fit them in the same with --dtype."
            )
        return next(iter(found), None)

    def template(self, vlm: VLM) -> str:
        """The model's chat template with the defenses in it.

        Args:
            vlm: The model; its weights are not used.

        Raises:
            InputError: a defense cannot be written into it.
        """
        return template_with(vlm, [load_defense(name) for name in self.before])


def wanted_of(folders: Mapping[str, Path | None], model: str | None = None) -> Wanted:
    """Where each defense acts.

    Args:
        folders: The folder of each one's artifact; None for the bundled one, or where none is
            needed.
        model: The model that is served, if it is known by name.

    Raises:
        UnknownNameError: there is no such defense.
        InputError: an artifact is given to a defense that takes none.
        ArtifactError: a defense has no artifact for this model.
    """
    inside: list[Entry] = []
    before: list[str] = []
    for name, folder in folders.items():
        if name == UNDEFENDED:
            continue
        kind = registry.load("defense", name)
        if kind.kind != "input":
            if folder is None and model is not None and kind.fitted and kind.kind in _INSIDE:
                folder = bundled_place(name, model)
            place = None if folder is None else folder.absolute()
            inside.append(Entry(name=name, artifact=place))
        elif folder is not None:
            raise InputError(f"{name} takes no artifact. Leave out {str(folder)!r}.")
        else:
            before.append(name)
    return Wanted(tuple(inside), tuple(before))
