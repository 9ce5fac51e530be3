"""What every defense is: a name, a configuration, a fit, and parts that act on a model.

A defense never runs anything by itself: it hands `Parts` to `protection`, which
puts them around the model's own `generate` in one stated order. Read next:
`protect` (attach to a model), `none` (the smallest defense), `sasa` (a full one).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeAlias, TypeVar, cast

from pydantic import ValidationError

from safesight.defenses.contract import Contract
from safesight.errors import ArtifactError, InputError
from safesight.fitting.artifact import Artifact
from safesight.fitting.bundled import bundled
from safesight.fitting.config import DefenseConfig
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
    """Base of all defenses. A subclass is final; methods share functions, not ancestors.

    `Defense[SASAConfig, SASAFitted]` has settings of the first type and reads its artifact into
    the second, a frozen dataclass. A defense with nothing to fit is a `Defense[..., None]`.
    """

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
    headline: ClassVar[tuple[str, ...] | None] = None
    """Registry names of the controls shown under it on the demo's first screen; None if it is not
    on that screen itself."""
    in_demo: ClassVar[bool] = False
    """Whether `safesight demo` shows it. Asked of built-in defenses only; if it needs an artifact,
    that of the bundled model comes with the package."""
    contract: ClassVar[Contract] = Contract()
    """How the contract suite tries it on tiny models."""
    Config: type[ConfigT] = cast("type[ConfigT]", DefenseConfig)
    """Class of the settings; a defense with settings of its own sets it."""

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

    def read(self, stored: Stored, config: ConfigT) -> FittedT:
        """What the artifact holds, checked. A defense with `fitted` has its own.

        Args:
            stored: The artifact's numbers.
            config: The settings that will be used.

        Raises:
            ArtifactError: a number or a tensor is missing, or not what a fit writes.
        """
        return cast("FittedT", None)

    @abstractmethod
    def parts(self, vlm: VLM, config: ConfigT, fitted: FittedT) -> Parts:
        """What to put around this model's generate; changes nothing yet.

        Args:
            vlm: The model under test.
            config: The artifact's settings, with those of this instance on top.
            fitted: From `read`.
        """

    def resolve(self, vlm: VLM, artifact: Artifact | None = None) -> tuple[ConfigT, FittedT]:
        """The settings and fitted numbers that `apply` would use on this model, all checked.

        Args:
            vlm: The model under test.
            artifact: From `fit`; None takes the bundled one, if this defense needs any.

        Raises:
            ArtifactError: the artifact is missing, damaged, or of another model or defense.
        """
        if artifact is not None:
            artifact.check_model(vlm)
        elif self.fitted:
            artifact = bundled(self.name, vlm)
        config = self.settings(artifact)
        stored = Stored(Artifact(self.name, {}) if artifact is None else artifact, vlm)
        return config, self.read(stored, config)

    def build(self, vlm: VLM, artifact: Artifact | None = None) -> Parts:
        """The parts that `apply` would put around this model's generate. Raises as `resolve`."""
        return self.parts(vlm, *self.resolve(vlm, artifact))

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
        if not self.config.enabled:
            return handle.add(self.name, self.kind, None)
        return handle.add(self.name, self.kind, lambda: self.build(handle.vlm, artifact))

    def settings(self, artifact: Artifact | None) -> ConfigT:
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


AnyDefense: TypeAlias = Defense[Any, Any]
"""A defense whose settings and fitted numbers are not known here."""


def _first(error: ValidationError) -> str:
    """The first complaint as one sentence."""
    detail = error.errors()[0]
    place = ".".join(map(str, detail["loc"])) or "these settings"
    return f"{place}={detail['input']!r}: {detail['msg']}."
