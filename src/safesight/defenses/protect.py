"""The main entry point: attach defenses to a `transformers` model, and detach them.

Any code that later calls the model's own `generate` (a pipeline, a server, an evaluation
harness) gets the defended behaviour without any changes. `protection` states the order in
which several defenses act.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from safesight import registry
from safesight.defenses.base import AnyDefense, Defense
from safesight.errors import InputError
from safesight.fitting.artifact import Artifact
from safesight.models import VLM

__all__ = ["load_defense", "protect"]

AnyArtifact = Artifact | str | os.PathLike[str]


def load_defense(name: str, **config: Any) -> AnyDefense:
    """Create a defense from its registry name and settings.

    Raises:
        UnknownNameError: no such defense; the message suggests the closest name.
        InputError: a setting is unknown or out of range.

    Example:
        >>> load_defense("none").name
        'none'
    """
    defense = registry.load("defense", name)(**config)
    assert isinstance(defense, Defense)
    return defense


def protect(
    model: Any,
    processor: Any,
    defense: str | AnyDefense | Sequence[str | AnyDefense],
    artifact: AnyArtifact | Mapping[str, AnyArtifact] | None = None,
    **config: Any,
) -> Any:
    """Defend a model's own `generate`; `model.remove()` restores the model bit for bit.

    Args:
        model: A `transformers` image-text-to-text model; the same object is returned.
        processor: Its processor.
        defense: A name, a `Defense`, or a list of them; another call adds to those attached.
        artifact: An artifact or its folder; for several defenses, a mapping from their names.
            None uses the bundled one.
        **config: Settings for a single defense given by name.

    Raises:
        UnknownNameError: no such defense.
        InputError: a setting is invalid.
        ArtifactError: an artifact is missing, damaged, or for another model.
        ModelError: the model already has the defense.
    """
    vlm = VLM.wrap(model, processor)
    several = not isinstance(defense, str | Defense)
    defenses = list(defense) if not isinstance(defense, str | Defense) else [defense]
    if config and (several or not isinstance(defense, str)):
        raise InputError(
            f"Settings ({', '.join(sorted(config))}) work only with one defense given by name. "
            'Otherwise pass Defense objects with settings, such as [SASA(feature="hidden")].'
        )
    built = [load_defense(d, **config) if isinstance(d, str) else d for d in defenses]
    artifacts = _by_name([d.name for d in built], artifact)
    detach = []
    try:
        for item in built:
            detach.append(item.attach(vlm, artifacts.get(item.name)))
    except BaseException:
        for undo in reversed(detach):
            undo()
        raise
    return model


def _by_name(
    names: list[str], artifact: AnyArtifact | Mapping[str, AnyArtifact] | None
) -> dict[str, Artifact]:
    if artifact is None:
        return {}
    if not isinstance(artifact, Mapping):
        if len(names) != 1:
            raise InputError(
                f"One artifact was given for {len(names)} defenses. "
                "Pass a mapping from defense names to artifacts."
            )
        artifact = {names[0]: artifact}
    unknown = sorted(set(artifact) - set(names))
    if unknown:
        raise InputError(
            f"An artifact was given for {unknown[0]!r}, which is not one of {', '.join(names)}. "
            "Use the name of its defense."
        )
    return {
        name: item if isinstance(item, Artifact) else Artifact.load(item)
        for name, item in artifact.items()
    }
