"""An arm: one model with no defense, one or several, and an identity.

The identity is a hash of everything that can change an answer: the model's weights, config and
dtype, its processor, tokenizer and generation config, the defenses, their settings and the
content of their artifacts. Answers with different identities are never mixed. Nothing is
attached until `attached` is entered.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from safesight import __version__, registry
from safesight.defenses import AnyDefense, Artifact, load_defense
from safesight.errors import InputError, PluginError
from safesight.fitting.bundled import bundled
from safesight.grammar import arm_parts

if TYPE_CHECKING:
    from safesight.models import VLM

__all__ = ["Arm", "artifacts_for", "build_arm"]

_Given = TypeVar("_Given", bound="str | Path | Artifact")


@dataclass(frozen=True)
class Arm:
    """Defenses and their artifacts. Build one with `build_arm`."""

    name: str
    """The defense as requested: "none", "sasa", "safety_prompt+sasa"."""
    defenses: tuple[tuple[AnyDefense, Artifact | None], ...]
    identity: str

    @contextmanager
    def attached(self, vlm: VLM) -> Iterator[VLM]:
        """Inside, the model's generate is defended; afterwards it is restored."""
        with ExitStack() as stack:
            for defense, artifact in self.defenses:
                stack.enter_context(defense.apply(vlm, artifact))
            yield vlm


def build_arm(
    vlm: VLM,
    name: str,
    artifacts: Mapping[str, str | Path | Artifact] | None = None,
    **config: Any,
) -> Arm:
    """Build the arm for a name such as "sasa", "none", "safety_prompt+sasa" or "npo~int4".

    Args:
        vlm: The model under test.
        name: Registered defenses joined by "+". A defense that changes the weights may be
            followed by "~" and a stress test.
        artifacts: Defense to the result of `fit`, or its folder. The others use the bundled one
            if they need one.
        **config: Settings of the defense; only for a single defense.

    Raises:
        UnknownNameError: no such defense or stress test.
        InputError: settings or an artifact that no defense of the arm takes.
        ArtifactError: an artifact is missing, damaged or belongs to another model or defense.
    """
    parts = arm_parts(name)
    for defense, stress in parts:
        if defense == "none" and stress is not None:
            raise InputError(
                f"{name!r} does not change weights. Put {stress!r} after a defense that does."
            )
    names = [defense for defense, _ in parts]
    if config and len(names) > 1:
        raise InputError(
            f"The settings {', '.join(sorted(config))} cannot be applied to {name!r}. "
            "Settings need a single defense."
        )
    built = [load_defense(part, **config) for part in names]
    given = dict(artifacts or {})
    if spare := sorted(given.keys() - {defense.name for defense in built if defense.fitted}):
        if spare[0] in names:
            raise InputError(f"{spare[0]!r} is not fitted and takes no artifact. Leave it out.")
        raise InputError(
            f"{name!r} takes no artifact of {spare[0]!r}. Leave it out, or add {spare[0]!r} to "
            "the defenses."
        )
    pairs = tuple(
        (defense, _artifact_of(defense, given.get(defense.name), vlm, stress))
        for defense, (_, stress) in zip(built, parts, strict=True)
        if defense.name != "none"  # nothing to attach: the bare model answers
    )
    return Arm(name, pairs, _identity(vlm, pairs))


def artifacts_for(name: str, artifacts: Mapping[str, _Given]) -> dict[str, _Given]:
    """The artifacts of a run that an arm uses, by defense.

    Example:
        >>> artifacts_for("safety_prompt+sasa", {"sasa": "a", "npo": "b"})
        {'sasa': 'a'}
    """
    taking = {defense for defense, _ in arm_parts(name)}
    return {defense: given for defense, given in artifacts.items() if defense in taking}


def _artifact_of(
    defense: AnyDefense, given: str | Path | Artifact | None, vlm: VLM, stress: str | None
) -> Artifact | None:
    if stress is not None and defense.kind != "weights":
        raise InputError(
            f"{defense.name} does not change weights, so {stress!r} cannot be applied to it. Use "
            "it with a defense that does, such as npo."
        )
    if not defense.fitted or not defense.config.enabled:
        return None
    if given is None:
        artifact = bundled(defense.name, vlm)
    else:
        artifact = given if isinstance(given, Artifact) else Artifact.load(given)
    artifact.check_model(vlm)
    defense.settings(artifact)  # refuse another defense's artifact now, not during the run
    if stress is None:
        return artifact
    worked = registry.load("stress_test", stress)(vlm, artifact)
    if not isinstance(worked, Artifact):
        raise PluginError(
            f"The stress test {stress!r} gives the type {type(worked).__name__}, not an artifact. "
            "Repair the package that it comes with."
        )
    return worked


def _identity(vlm: VLM, pairs: tuple[tuple[AnyDefense, Artifact | None], ...]) -> str:
    parts: Mapping[str, Any] = {
        "safesight": __version__,
        "model": vlm.identity,
        "processor": _processor_hash(vlm.processor),
        "tokenizer": _tokenizer_hash(vlm.tokenizer),
        "generation": _generation(vlm.model.generation_config),
        "defenses": [
            [defense.name, defense.config.model_dump(mode="json"), artifact and artifact.hash]
            for defense, artifact in pairs
        ],
    }
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _generation(config: Any) -> dict[str, Any]:
    """The checkpoint's generation config: end tokens, length, penalties.

    Unset entries are left out, so that settings added by a new transformers version change nothing.
    """
    volatile = {"transformers_version", "_from_model_config"}
    return {
        name: value
        for name, value in config.to_dict().items()
        if value is not None and name not in volatile
    }


@lru_cache(maxsize=4)  # a vocabulary of 150,000 words takes seconds
def _tokenizer_hash(tokenizer: Any) -> str:
    """Hash of how the tokenizer encodes text and decodes tokens."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        rules = tokenizer.get_vocab()
    else:
        rules = json.loads(backend.to_str())
        # Padding and truncation of the last batch: every call sets them and leaves them set.
        rules |= {"padding": None, "truncation": None}
    cleans = getattr(tokenizer, "clean_up_tokenization_spaces", None)
    text = json.dumps([rules, tokenizer.special_tokens_map, cleans], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _processor_hash(processor: Any) -> str:
    """Hash of how the processor treats text and pictures: its template and picture settings."""
    template = getattr(processor, "chat_template", None) or processor.tokenizer.chat_template
    pictures = processor.image_processor.to_dict()
    text = json.dumps([template, pictures], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
