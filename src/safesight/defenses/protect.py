"""The front door: put defenses on a `transformers` model, and take them off.

Whoever calls the model's own `generate` afterwards (a pipeline, a server, an
evaluation harness) gets the defended behaviour without knowing of it. The order of
composition is stated in `protection`.
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
    """A defense by its registry name, with settings.

    Raises:
        UnknownNameError: no such defense; the message suggests the nearest one.
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
    """Defend a model's own `generate`; `model.remove()` restores it bit for bit.

    Args:
        model: A `transformers` image-text-to-text model; the same object is returned.
        processor: Its processor.
        defense: A name, a `Defense`, or several; called again, it adds to what is there.
        artifact: From a fit, or its folder; for several defenses a mapping from their names.
            None takes the bundled one.
        **config: Settings, for a single defense given by name.

    Raises:
        UnknownNameError: no such defense.
        InputError: the settings cannot be used.
        ArtifactError: an artifact is missing, damaged, or belongs to another model.
        ModelError: the defense is on the model already.
    """
    vlm = VLM.wrap(model, processor)
    several = not isinstance(defense, str | Defense)
    defenses = list(defense) if not isinstance(defense, str | Defense) else [defense]
    if config and (several or not isinstance(defense, str)):
        raise InputError(
            f"The settings {', '.join(sorted(config))} need one defense given by name. "
            'Pass Defense objects with their own settings, such as [SASA(feature="hidden")].'
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
                "Pass a mapping from the name of each to its artifact."
            )
        artifact = {names[0]: artifact}
    unknown = sorted(set(artifact) - set(names))
    if unknown:
        raise InputError(
            f"An artifact was given for {unknown[0]!r}, which is not among {', '.join(names)}. "
            "Name the defense it belongs to."
        )
    return {
        name: item if isinstance(item, Artifact) else Artifact.load(item)
        for name, item in artifact.items()
    }
