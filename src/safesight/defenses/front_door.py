"""The public entry point: attach defenses to a `transformers` model, and remove them.

Anything that then calls the model's own `generate` (a pipeline, a server, an evaluation harness)
is defended without changes. `generation.composition` documents the order of composition.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, cast, overload

from torch import nn

from safesight import registry
from safesight.defenses.base import AnyDefense, Defense
from safesight.errors import InputError
from safesight.fitting.artifact import Artifact
from safesight.generation.composition import protection
from safesight.models import VLM

__all__ = ["load_defense", "protect", "unprotect"]

AnyArtifact = Artifact | str | os.PathLike[str]
Artifacts = AnyArtifact | Mapping[str, AnyArtifact] | None
Defenses = str | AnyDefense | Sequence[str | AnyDefense]


def load_defense(name: str, **config: Any) -> AnyDefense:
    """A defense by its registry name, with settings.

    Raises:
        UnknownNameError: there is no such defense; the message suggests the closest name.
        InputError: a setting is unknown or out of range.

    Example:
        >>> load_defense("none").name
        'none'
    """
    defense = registry.load("defense", name)(**config)
    assert isinstance(defense, Defense)
    return defense


@overload
def protect(model: VLM, defense: Defenses, artifact: Artifacts = None, **config: Any) -> Any: ...
@overload
def protect(
    model: Any, processor: Any, defense: Defenses, artifact: Artifacts = None, **config: Any
) -> Any: ...
def protect(model: Any, *given: Any, **config: Any) -> Any:
    """Defend a model's own `generate`, for a `with` block or until `unprotect(model)`.

    Call it as `protect(vlm, defense)` or `protect(model, processor, defense)`; another
    call adds to the attached defenses. Leaving the block removes what this call attached and
    restores the model, bit for bit.

    Args:
        model: A `VLM`, or a `transformers` image-text-to-text model.
        given: The processor, unless `model` is a `VLM`; then the `defense`: a name, a `Defense`,
            or a list of them; then the `artifact` from a fit, or its folder. For several
            defenses, pass a mapping from their names; None uses the bundled artifact. Keywords
            work, too.
        config: Settings, for a single defense given by name.

    Returns:
        The `transformers` model, the same object.

    Raises:
        UnknownNameError: there is no such defense.
        InputError: the settings are invalid.
        ArtifactError: an artifact is missing, damaged, or belongs to another model.
        ModelError: the defense is already attached.

    Example:
        >>> from safesight import VLM
        >>> vlm = VLM.load("testbed")
        >>> with protect(vlm, "sasa") as model:
        ...     model is vlm.model
        True
    """
    if isinstance(model, VLM):
        return _protect_vlm(model, *given, **config)
    if not isinstance(model, nn.Module):
        raise InputError(f"protect takes a VLM or a transformers model, not {model!r}.")
    return _protect_model(model, *given, **config)


def unprotect(model: Any) -> None:
    """Remove every defense from a model or `VLM`; does nothing if there is none.

    Example:
        >>> from safesight import VLM
        >>> unprotect(VLM.load("testbed"))
    """
    model = model.model if isinstance(model, VLM) else model
    if not isinstance(model, nn.Module):
        raise InputError(f"unprotect takes a VLM or a transformers model, not {model!r}.")
    handle = protection(model)
    if handle is not None:
        handle.remove()


def _protect_vlm(
    vlm: VLM, defense: Defenses | None = None, artifact: Artifacts = None, **config: Any
) -> Any:
    return _protect(vlm, vlm.model, defense, artifact, config)


def _protect_model(
    model: Any,
    processor: Any,
    defense: Defenses | None = None,
    artifact: Artifacts = None,
    **config: Any,
) -> Any:
    if defense is None:
        raise InputError(
            "protect needs the model's processor and a defense: protect(model, processor, "
            '"sasa"), or protect(vlm, "sasa") with a VLM.'
        )
    return _protect(VLM.wrap(model, processor), model, defense, artifact, config)


def _protect(
    vlm: VLM, model: Any, defense: Defenses | None, artifact: Artifacts, config: dict[str, Any]
) -> Any:
    """Attach the defenses to `vlm.model`; `model` is the caller's object, perhaps a wrapper."""
    by_name = isinstance(defense, str)
    if config and not by_name:
        raise InputError(
            f"The settings {', '.join(sorted(config))} need one defense given by name. "
            'Pass Defense objects with their own settings, such as [SASA(feature="hidden")].'
        )
    one = by_name or not isinstance(defense, Sequence)
    wanted: Sequence[Any] = [defense] if one else cast("Sequence[Any]", defense)
    built = [_built(each, config) for each in wanted]
    if not built:
        raise InputError('No defense was given. Name one, such as "sasa".')
    artifacts = _by_name([d.name for d in built], artifact)
    undo: list[Callable[[], None]] = []
    with ExitStack() as attached:
        for item in built:
            undo.append(attached.callback(item.attach(vlm, artifacts.get(item.name))))
        handle = protection(vlm.model)
        assert handle is not None
        handle.enterable(model, undo)
        attached.pop_all()  # everything is attached, so nothing is undone here
    return model


def _built(defense: Any, config: dict[str, Any]) -> AnyDefense:
    if isinstance(defense, str):
        return load_defense(defense, **config)
    if not isinstance(defense, Defense):
        raise InputError(
            f'{defense!r} is not a defense. Pass a name, such as "sasa", a Defense object, or a '
            "list of them."
        )
    return defense


def _by_name(names: list[str], artifact: Artifacts) -> dict[str, Artifact]:
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
    for item in artifact.values():
        if not isinstance(item, Artifact | str | os.PathLike):
            raise InputError(
                f"{item!r} is not an artifact. Pass what a fit returned, or its folder."
            )
    return {
        name: item if isinstance(item, Artifact) else Artifact.load(item)
        for name, item in artifact.items()
    }
