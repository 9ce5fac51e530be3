"""Which defenses an engine has: artifacts read, settings checked, parts built.

Used twice: in the front end, so that nothing starts with a defense that cannot work, and in each
worker.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from safesight.activations import resid_post
from safesight.defenses.front_door import load_defense
from safesight.errors import ArtifactError, InputError
from safesight.fitting.artifact import Artifact
from safesight.fitting.bundled import is_bundled, place_in
from safesight.fitting.ranges import CalibrationRange
from safesight.fitting.reference import Reference
from safesight.fitting.stored import Stored
from safesight.generation.edits import LastTokenEdit, VisualTokenEdit
from safesight.generation.parts import Parts
from safesight.grammar import UNDEFENDED
from safesight.models.loading import public_name
from safesight.vllm.about import fingerprint
from safesight.vllm.host import Facts, as_vlm

if TYPE_CHECKING:
    from safesight.defenses.base import AnyDefense
    from safesight.generation.edits import Edit
    from safesight.generation.prefill import Detector
    from safesight.vllm.settings import Entry, Settings

__all__ = ["Attached", "attached", "bundled_place", "first_changed", "layers_read"]

_TRANSFORMERS = "use `safesight serve` on transformers"

_ELSEWHERE = {
    "input": "rewrites the prompt before the engine sees it. Use `safesight serve --engine vllm`, "
    "which writes it into the chat template",
    "weights": "changes weights. Serve the checkpoint that `safesight merge` writes, without it",
}
"""Why a kind of defense does not run inside the engine."""
_SEVERAL = "asks the model several times for one answer, which vLLM cannot do inside a request"


@dataclass(frozen=True)
class Attached:
    """The defenses of one engine."""

    detectors: Mapping[str, Detector]
    edits: Mapping[str, Edit]
    artifacts: Mapping[str, Artifact]
    """One for each defense that has one."""
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    """One for every defense, in the order in which they act."""

    def references(self) -> dict[str, Reference]:
        """What the artifacts say about their model."""
        found = {name: Reference.of(each.card) for name, each in self.artifacts.items()}
        return {name: each for name, each in found.items() if each is not None}

    def ranges(self) -> dict[str, CalibrationRange]:
        """What the prompts were like that set each detector's threshold, where that is known."""
        fitted = {name: self.artifacts[name] for name in self.detectors if name in self.artifacts}
        found = {name: CalibrationRange.of(each.card) for name, each in fitted.items()}
        return {name: each for name, each in found.items() if each is not None}

    def shares_prefixes(self, *, per_request: bool) -> bool:
        """Whether requests may share the cache of a common prefix.

        A detector of last tokens never misses one, as the last token is always computed. A replay
        needs the states of the whole prompt. An edit of last tokens leaves keys in the cache that
        belong to one prompt alone; one of visual tokens leaves the same for all, unless some
        requests are without it.
        """
        if any(each.replay_from is not None for each in self.detectors.values()):
            return False
        visual = all(isinstance(each, VisualTokenEdit) for each in self.edits.values())
        return visual and not (self.edits and per_request)


def attached(settings: Settings, facts: Facts, instead: str = _TRANSFORMERS) -> Attached:
    """Read what the settings name.

    Args:
        settings: What the operator wrote.
        facts: The model.
        instead: What to do with defenses that vLLM cannot run, as a command.

    Raises:
        UnknownNameError: there is no such defense.
        InputError: a defense cannot run in vLLM, or two of them not together.
        ArtifactError: an artifact is missing, damaged or of another model.
    """
    detectors: dict[str, Detector] = {}
    edits: dict[str, Edit] = {}
    artifacts: dict[str, Artifact] = {}
    fingerprints: dict[str, str] = {}
    for entry in settings.defenses:
        if entry.name in (*detectors, *edits):
            raise InputError(f"{entry.name!r} is named twice. Name it once.")
        defense = load_defense(entry.name, **entry.config)
        if defense.kind == "pipeline" and entry.name != UNDEFENDED:
            raise InputError(f"{entry.name} {_SEVERAL}: {instead}.")
        if defense.kind in _ELSEWHERE and entry.name != UNDEFENDED:
            raise InputError(f"{entry.name} {_ELSEWHERE[defense.kind]}.")
        artifact = _artifact(entry, defense, facts)
        parts = _parts(defense, artifact, facts)
        if entry.name != UNDEFENDED:
            fingerprints[entry.name] = fingerprint(defense, artifact)
        if artifact is not None:
            artifacts[entry.name] = artifact
        if parts.detector is not None:
            detectors[entry.name] = parts.detector
        elif parts.edit is not None:
            edits[entry.name] = parts.edit
        elif parts != Parts():
            raise InputError(f"{entry.name} {_SEVERAL}: {instead}.")
    _check_order(detectors, edits, instead)
    _check_edits(edits)
    return Attached(detectors, edits, artifacts, fingerprints)


def bundled_place(defense: str, model: str) -> Path:
    """The folder of the artifact that comes with the package for this model.

    Args:
        defense: The defense's name.
        model: The model's name or folder.

    Raises:
        ArtifactError: there is none for this model.

    Example:
        >>> bundled_place("sasa", "testbed").parts[-2:]
        ('testbed', 'sasa')
    """
    name = public_name(model)
    if not is_bundled(defense, name):
        raise ArtifactError(
            f"{defense} has no bundled artifact for {model!r}. Fit one for this model: "
            f"safesight fit {defense} --model {model} --data FILE -o FOLDER, and pass the folder."
        )
    return place_in(name, defense)


def _artifact(entry: Entry, defense: AnyDefense, facts: Facts) -> Artifact | None:
    if entry.artifact is not None:
        found = Artifact.load(entry.artifact)
    elif defense.fitted:
        found = Artifact.load(bundled_place(entry.name, facts.place))
    else:
        return None
    model = found.card.get("model", {})
    fitted, served = model.get("dtype"), str(facts.dtype).removeprefix("torch.")
    if fitted != served:
        raise ArtifactError(
            f"The {entry.name} artifact was fitted in {fitted}, and the engine runs in {served}. "
            f"Start it with --dtype {fitted}, or fit with --dtype {served}."
        )
    if Reference.of(found.card) is None:
        raise ArtifactError(
            f"The {entry.name} artifact has no reference, with which vLLM's states are compared "
            "before it serves. Add one: safesight reference FOLDER --model MODEL"
        )
    return found


def _parts(defense: AnyDefense, artifact: Artifact | None, facts: Facts) -> Parts:
    config = defense.settings(artifact)
    if not config.enabled:
        return Parts()
    stored = Stored(Artifact(defense.name, {}) if artifact is None else artifact, as_vlm(facts))
    return defense.parts(as_vlm(facts), config, defense.read(stored, config))


def _check_order(
    detectors: Mapping[str, Detector], edits: Mapping[str, Edit], instead: str
) -> None:
    """Refuse a detector that would see states that an edit has changed.

    With transformers it judges a prefill of its own, without the edits. Here there is one prefill,
    and a block's output is read before it is changed, so nothing after that block may be read.
    """
    for name, edit in edits.items():
        for detector, each in detectors.items():
            if max(layers_read(each)) > first_changed(edit):
                raise InputError(
                    f"{detector} reads states that {name} changes, which its threshold was not set "
                    f"for. Name one of them, or, for both, {instead}."
                )


def _check_edits(edits: Mapping[str, Edit]) -> None:
    for name, edit in edits.items():
        if not isinstance(edit, VisualTokenEdit):
            continue
        if edit.whole:
            raise InputError(
                f"{name} with top_k needs a whole prompt in one pass, which vLLM may divide. "
                "Fit it with a ratio instead."
            )
        if edit.site.place == "resid_pre" and edit.site.layer > 0:
            raise InputError(f"{name} changes the input of a later block, which vLLM cannot show.")


def first_changed(edit: Edit) -> int:
    """The block whose output is the first to be changed; -1 for the input of the first block."""
    if isinstance(edit, LastTokenEdit):
        return min(edit.changes, default=sys.maxsize)
    return edit.site.layer if edit.site.place == "resid_post" else -1


def layers_read(detector: Detector) -> list[int]:
    """The blocks whose outputs a detector reads.

    Raises:
        InputError: it reads something else.
    """
    layers = [site.layer for site in detector.sites]
    if [resid_post(layer) for layer in layers] != list(detector.sites):
        raise InputError("A detector that reads the input of a block cannot run in vLLM.")
    return layers
