"""What every defense is: a name, a configuration, a fit, and parts that act on a model.

A defense never runs anything by itself: it hands `Parts` to `protection`, which
puts them around the model's own `generate` in one stated order. Read next:
`protect` (attach to a model), `none` (the smallest defense), `sasa` (a full one).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import ValidationError

from safesight.errors import ArtifactError, InputError
from safesight.fitting.artifact import Artifact
from safesight.fitting.bundled import bundled
from safesight.fitting.config import DefenseConfig
from safesight.generation.call_types import Inputs
from safesight.generation.parts import Kind, Parts
from safesight.generation.protected_model import Protection, protection

if TYPE_CHECKING:
    from safesight.fitting.data import FitData
    from safesight.models import VLM

__all__ = ["Defense", "DefenseConfig", "Inputs", "Kind", "Parts"]


class Defense(ABC):
    """Base of all defenses. A subclass is final; methods share functions, not ancestors."""

    name: ClassVar[str]
    """As in the registry."""
    kind: ClassVar[Kind]
    paper: ClassVar[str]
    """Title, authors, year and link."""
    needs: ClassVar[frozenset[str]] = frozenset()
    """What a fit needs, of: activations, gradients, labels, forget_set, retain_set,
    neutral_set."""
    fitted: ClassVar[bool] = False
    """Whether it cannot run without an artifact."""
    control: ClassVar[str | None] = None
    """Registry name of the same defense without its essential step; it takes part beside it."""
    Config: ClassVar[type[DefenseConfig]] = DefenseConfig

    def __init__(self, **config: Any) -> None:
        """Check the settings.

        Raises:
            InputError: a setting is unknown or out of range.
        """
        try:
            self.config = self.Config(**config)
        except ValidationError as error:
            raise InputError(
                f"{self.name} cannot take {_first(error)} "
                f"Its settings are {', '.join(self.Config.model_fields)}."
            ) from error

    def fit(self, vlm: VLM, data: FitData, *, seed: int = 0, progress: bool = True) -> Artifact:
        """What `apply` needs on this model; the model is not changed.

        Here, for defenses with nothing to fit: their settings alone.
        """
        return Artifact(self.name, self.config.model_dump(mode="json"))

    @abstractmethod
    def parts(self, vlm: VLM, artifact: Artifact | None) -> Parts:
        """What to put around this model's generate; changes nothing yet."""

    @contextmanager
    def apply(self, vlm: VLM, artifact: Artifact | None = None) -> Iterator[VLM]:
        """Inside, `vlm.model.generate(**inputs)` is defended; afterwards it is as before.

        Args:
            vlm: The model under test.
            artifact: From `fit`; None takes the bundled one, if this defense needs any.

        Raises:
            ArtifactError: the artifact is missing or belongs to another model or defense.
        """
        detach = self.attach(vlm, artifact)
        try:
            yield vlm
        finally:
            detach()

    def attach(self, vlm: VLM, artifact: Artifact | None = None) -> Callable[[], None]:
        """Put this defense on a model; call the result to take it off.

        Args:
            vlm: The model under test.
            artifact: From `fit`; None takes the bundled one, if this defense needs any.

        Raises:
            ModelError: the same defense is on the model already.
            ArtifactError: the artifact is missing, or belongs to another model or defense.
        """
        handle = protection(vlm.model) or Protection(vlm)
        if self.config.strength == 0:
            return handle.add(self.name, self.kind, None)
        if artifact is not None:
            artifact.check_model(handle.vlm)
        elif self.fitted:
            artifact = bundled(self.name, handle.vlm)
        return handle.add(self.name, self.kind, lambda: self.parts(handle.vlm, artifact))

    def settings(self, artifact: Artifact | None) -> DefenseConfig:
        """The artifact's settings, with those given to this instance on top.

        Raises:
            ArtifactError: the artifact is another defense's, was fitted with other settings, or
                holds settings this version does not know.
        """
        if artifact is None:
            return self.config
        if artifact.defense != self.name:
            raise ArtifactError(
                f"This artifact belongs to {artifact.defense!r}, not to {self.name!r}. "
                f"Pass the folder of a {self.name} fit."
            )
        given = {name: getattr(self.config, name) for name in self.config.model_fields_set}
        try:
            merged = self.Config(**{**artifact.config, **given})
            saved = self.Config(**artifact.config)
        except ValidationError as error:
            raise ArtifactError(
                f"The artifact cannot be used: {_first(error)} Fit it again with this version."
            ) from error
        changed = [
            name
            for name in sorted(given.keys() - self.Config.at_use)
            if getattr(merged, name) != getattr(saved, name)
        ]
        if changed:
            raise ArtifactError(
                f"The artifact was fitted with {changed[0]}={getattr(saved, changed[0])!r}, not "
                f"{getattr(merged, changed[0])!r}. Drop that setting, or fit {self.name} again."
            )
        return merged


def _first(error: ValidationError) -> str:
    """The first complaint as one sentence."""
    detail = error.errors()[0]
    place = ".".join(map(str, detail["loc"])) or "these settings"
    return f"{place}={detail['input']!r}: {detail['msg']}."
