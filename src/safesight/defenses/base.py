"""What every defense has: a name, settings, a fit, and parts that act on a model.

A defense never runs anything itself. It passes `Parts` to `protection`, which wraps the
model's own `generate` with them in a fixed order. Read next: `protect` (attach to a model),
`none` (the smallest defense), `sasa` (a full one).
"""

from __future__ import annotations

import reprlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeAlias, TypeVar, cast

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from safesight.defenses.check import require
from safesight.defenses.contract import Contract
from safesight.errors import ArtifactError, InputError, PluginError
from safesight.fitting.artifact import Artifact
from safesight.fitting.bundled import bundled
from safesight.fitting.config import DefenseConfig
from safesight.fitting.provenance import about_model
from safesight.fitting.ranges import CalibrationRange
from safesight.fitting.stored import Stored
from safesight.generation.call_types import Inputs
from safesight.generation.composition import Protection, protection
from safesight.generation.parts import Kind, Parts

if TYPE_CHECKING:
    from safesight.fitting.data import FitData
    from safesight.models import VLM

__all__ = ["AnyDefense", "Defense", "DefenseConfig", "Inputs", "Kind", "Parts", "Stored"]

ConfigT = TypeVar("ConfigT", bound=DefenseConfig)
FittedT = TypeVar("FittedT")


class Defense(ABC, Generic[ConfigT, FittedT]):
    """Base of all defenses. Subclasses are final; defenses share functions, not base classes.

    `Defense[SASAConfig, SASAFitted]` takes its settings from the first type and reads its artifact
    into the second, a frozen dataclass. A defense with nothing to fit is a `Defense[..., None]`.
    """

    name: ClassVar[str]
    """The registry name."""
    kind: ClassVar[Kind]
    paper: ClassVar[str]
    """Title, authors, year and link."""
    needs: ClassVar[frozenset[str]] = frozenset()
    """What a fit needs. Choose from: activations, gradients, labels, forget_set, retain_set,
    neutral_set."""
    fitted: ClassVar[bool] = False
    """Whether it needs an artifact to run."""
    control: ClassVar[str | None] = None
    """Registry name of the same defense without its essential step; evaluations run both."""
    headline: ClassVar[tuple[str, ...] | None] = None
    """Registry names of the controls shown below it on the demo's first screen; None keeps the
    defense off that screen."""
    in_demo: ClassVar[bool] = False
    """Whether `safesight demo` shows it. Only for built-in defenses; if it needs an artifact, the
    package includes one for the bundled model."""
    attacks: ClassVar[tuple[str, ...]] = ()
    """Registry names of attacks in words that know it; adaptive evaluations run them."""
    contract: ClassVar[Contract] = Contract()
    """How the contract suite tests it on tiny models."""
    Config: type[ConfigT] = cast("type[ConfigT]", DefenseConfig)
    """The settings class; a defense with its own settings overrides it."""

    def __init__(self, **config: Any) -> None:
        """Check the settings.

        Raises:
            InputError: a setting is unknown or out of range.
        """
        try:
            self.config = self.Config(**config)
        except ValidationError as error:
            known = f" Its settings are {', '.join(self.Config.model_fields)}."
            unknown = error.errors()[0]["type"] == "extra_forbidden"
            raise InputError(
                f"Invalid setting for {self.name}: {_first(error, self.Config)}"
                f"{known if unknown else ''}"
            ) from error

    def fit(self, vlm: VLM, data: FitData, *, seed: int = 0, progress: bool = True) -> Artifact:
        """Compute what `apply` needs on this model, without changing the model.

        The default is for defenses with nothing to fit: it stores their settings.
        """
        card = {"model": about_model(vlm)}
        return Artifact(self.name, self.config.model_dump(mode="json"), card=card)

    def read(self, stored: Stored, config: ConfigT) -> FittedT:
        """The artifact's contents, validated. A defense with `fitted` overrides this.

        Args:
            stored: The artifact's numbers.
            config: The settings that will be used.

        Raises:
            ArtifactError: a number or a tensor is missing or invalid.
        """
        return cast("FittedT", None)

    @abstractmethod
    def parts(self, vlm: VLM, config: ConfigT, fitted: FittedT) -> Parts:
        """What to wrap this model's generate with; nothing is changed yet.

        Args:
            vlm: The model under test.
            config: The artifact's settings, overridden by those of this instance.
            fitted: The result of `read`.
        """

    def resolve(self, vlm: VLM, artifact: Artifact | None = None) -> tuple[ConfigT, FittedT]:
        """The settings and fitted values that `apply` would use on this model, validated.

        Args:
            vlm: The model under test.
            artifact: From `fit`; None uses the bundled one, if this defense needs one.

        Raises:
            ArtifactError: the artifact is missing, damaged, or for another model or defense.
        """
        return self._resolved(vlm, self._found(vlm, artifact))

    def _found(self, vlm: VLM, artifact: Artifact | None) -> Artifact | None:
        """The artifact to use: the given one, the bundled one, or none if none is needed."""
        if artifact is not None:
            artifact.check_model(vlm)
        elif self.fitted:
            return bundled(self.name, vlm)
        return artifact

    def _resolved(self, vlm: VLM, artifact: Artifact | None) -> tuple[ConfigT, FittedT]:
        config = self.settings(artifact)
        stored = Stored(Artifact(self.name, {}) if artifact is None else artifact, vlm)
        return config, self.read(stored, config)

    def build(self, vlm: VLM, artifact: Artifact | None = None) -> Parts:
        """The parts that `apply` would use on this model. Same errors as `resolve`."""
        found = self._found(vlm, artifact)
        parts = self.parts(vlm, *self._resolved(vlm, found))
        if not isinstance(parts, Parts):
            raise PluginError(
                f"The defense {self.name!r} gives {type(parts).__name__} instead of its Parts. "
                "Repair the package that it comes with."
            )
        if parts.detector is None or found is None:
            return parts
        return replace(parts, calibrated=CalibrationRange.of(found.card))

    @contextmanager
    def apply(self, vlm: VLM, artifact: Artifact | None = None) -> Iterator[VLM]:
        """Defend `vlm.model.generate(**inputs)` inside the block and restore it afterwards.

        Args:
            vlm: The model under test.
            artifact: From `fit`; None uses the bundled one, if this defense needs one.

        Raises:
            ArtifactError: the artifact is missing or is for another model or defense.
        """
        detach = self.attach(vlm, artifact)
        try:
            yield vlm
        finally:
            detach()

    def attach(self, vlm: VLM, artifact: Artifact | None = None) -> Callable[[], None]:
        """Attach this defense to a model; call the result to detach it.

        Args:
            vlm: The model under test.
            artifact: From `fit`; None uses the bundled one, if this defense needs one.

        Raises:
            ModelError: the model already has this defense, or fails the self-check.
            ArtifactError: the artifact is missing, or is for another model or defense.
        """
        handle = protection(vlm.model) or Protection(vlm)
        if not self.config.enabled:
            return handle.add(self.name, self.kind, None)

        def built() -> Parts:
            parts = self.build(handle.vlm, artifact)
            require(handle.vlm, self.kind)
            return parts

        return handle.add(self.name, self.kind, built)

    def settings(self, artifact: Artifact | None) -> ConfigT:
        """The artifact's settings, overridden by those given to this instance.

        Raises:
            ArtifactError: the artifact is for another defense, was fitted with other settings, or
                holds settings that this version does not know, or switches the defense off.
        """
        if artifact is None:
            return self.config
        if artifact.defense != self.name:
            raise ArtifactError(
                f"This artifact belongs to {artifact.defense!r}, not to {self.name!r}. "
                f"Pass a folder written by a {self.name} fit."
            )
        given = {name: getattr(self.config, name) for name in self.config.model_fields_set}
        try:
            merged = self.Config(**{**artifact.config, **given})
            saved = self.Config(**artifact.config)
        except ValidationError as error:
            raise ArtifactError(
                f"The artifact cannot be used: {_first(error, self.Config)} "
                "Fit it again with this version."
            ) from error
        if not merged.enabled and "enabled" not in given:
            raise ArtifactError(
                f"This {self.name} artifact is switched off (enabled=False), so it would defend "
                f"nothing. Pass enabled=True to use it, or fit {self.name} again."
            )
        changed = [
            name
            for name in sorted(given.keys() - self.Config.at_use)
            if getattr(merged, name) != getattr(saved, name)
        ]
        if changed:
            raise ArtifactError(
                f"The artifact was fitted with {changed[0]}={getattr(saved, changed[0])!r}, not "
                f"{getattr(merged, changed[0])!r}. Omit that setting, or fit {self.name} again."
            )
        return merged


AnyDefense: TypeAlias = Defense[Any, Any]
"""A defense whose settings and fitted types are unknown."""


_BOUNDS = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}


def _first(error: ValidationError, settings: type[BaseModel]) -> str:
    """The first error as one sentence."""
    detail = error.errors()[0]
    place = ".".join(map(str, detail["loc"])) or "these settings"
    given = reprlib.repr(detail["input"])  # an artifact may hold anything, of any length
    bounds = _bounds(settings.model_fields.get(place))
    if bounds and detail["type"].startswith(("greater_than", "less_than")):
        return f"{place}={given}. It has to be {bounds}."
    return f"{place}={given}: {detail['msg']}."


def _bounds(field: FieldInfo | None) -> str:
    """The range of a setting in words; empty if it has none."""
    found = [] if field is None else field.metadata
    return " and ".join(
        f"{word} {getattr(each, name)}"
        for name, word in _BOUNDS.items()
        for each in found
        if getattr(each, name, None) is not None
    )
