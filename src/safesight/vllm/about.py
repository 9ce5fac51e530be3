"""What an engine says of its defenses, so that a client can know what answers it.

A request with `vllm_xargs: {"safesight": "describe"}` gets no answer but an error, status 400, that
holds this record as JSON. vLLM checks requests in its front end, with a class that it finds by name
and never makes an object of. So the record is in the name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from safesight import __version__
from safesight.records import Record

if TYPE_CHECKING:
    from safesight.defenses.base import AnyDefense
    from safesight.fitting.artifact import Artifact

__all__ = ["About", "fingerprint"]

_PREFIX = "Requests_"


def fingerprint(defense: AnyDefense, artifact: Artifact | None) -> str:
    """Hex hash of all that decides what a defense does to a model.

    Args:
        defense: The defense.
        artifact: Its artifact, if it has one.

    Raises:
        ArtifactError: the artifact is for another defense.
    """
    settings = defense.settings(artifact).model_dump(mode="json")
    parts = [__version__, defense.name, settings, None if artifact is None else artifact.hash]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class About(Record):
    """The defenses of one server."""

    defenses: Mapping[str, str]
    """Names of those inside the engine, in the order in which they act, and what `fingerprint`
    says of each."""
    per_request: bool
    """Whether a request may turn them off."""
    template: Mapping[str, str] = {}
    """The same of defenses in the chat template, which no request turns off."""

    @property
    def class_name(self) -> str:
        """A name that holds all of it.

        Example:
            >>> about = About(defenses={"probe": "a1"}, per_request=True)
            >>> About.of_class(about.class_name) == about
            True
        """
        return _PREFIX + self.model_dump_json().encode().hex()

    @classmethod
    def of_class(cls, name: str) -> About:
        """What `class_name` made a name of.

        Raises:
            AttributeError: it is another name.
        """
        try:
            return cls.model_validate_json(bytes.fromhex(name.removeprefix(_PREFIX)))
        except ValueError as error:  # not hexadecimal, or not such a record
            raise AttributeError(name) from error

    def told(self) -> str:
        """The sentence that a client gets."""
        return f"The defenses of this server: {self.model_dump_json()}"

    @classmethod
    def in_answer(cls, text: str) -> About | None:
        """The record in what a server said; None if there is none.

        Example:
            >>> about = About(defenses={}, per_request=False)
            >>> About.in_answer(f"Error: {about.told()} (400)") == about
            True
        """
        _, _, rest = text.partition("The defenses of this server: ")
        try:
            found: Any = json.JSONDecoder().raw_decode(rest)[0]
            return cls.model_validate(found)
        except (ValidationError, ValueError):
            return None
