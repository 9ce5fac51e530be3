"""Which defenses answer a request: the operator's, or others that the operator allows."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from safesight.errors import InputError, SafesightError
from safesight.grammar import UNDEFENDED
from safesight.hosting.arms import Arm, build_arm
from safesight.server.refusals import RequestError

if TYPE_CHECKING:
    from safesight.defenses import Artifact
    from safesight.models import VLM

__all__ = ["Choices", "check_allowed"]

_KEPT = 64
"""Arms that are kept; each threshold is an arm of its own."""


class Choices:
    """The arms of a server. The first use of an arm checks its artifacts.

    Args:
        vlm: The model.
        names: The operator's defenses, all attached together; none of them for the bare model.
        artifacts: By defense; the others use the bundled one if they need one.
        allowed: What a request may choose from; "none" for no defense at all.
        allow_threshold: Whether a request may set the threshold of one detector.

    Raises:
        InputError: the allow-list names a defense that is not served.
        SafesightError: a defense or an artifact cannot be used.
    """

    def __init__(
        self,
        vlm: VLM,
        names: Sequence[str],
        artifacts: Mapping[str, Artifact],
        *,
        allowed: Sequence[str] = (),
        allow_threshold: bool = False,
    ) -> None:
        self._vlm, self._names, self._artifacts = vlm, tuple(names), artifacts
        self._allowed, self._allow_threshold = tuple(allowed), allow_threshold
        self._arms: OrderedDict[tuple[tuple[str, ...], float | None], Arm] = OrderedDict()
        self._turn = threading.Lock()
        check_allowed(names, allowed)
        self.default = self._built(self._names, None)
        """The operator's defenses."""
        self.detectors = tuple(d.name for d, _ in self.default.defenses if d.kind == "detector")
        """The detectors among the operator's defenses."""
        self.guard = self._built(self.detectors, None)
        """The operator's detectors alone."""
        if allow_threshold and not self.detectors:
            raise InputError(
                "No detector is served, so requests have no threshold to set. "
                "Leave out --allow-threshold."
            )

    def chosen(self, wanted: Any) -> Arm:
        """The arm for the field `safesight` of a request.

        Args:
            wanted: None, or an object with `defense` (a name or a list of them) and `threshold`.

        Raises:
            RequestError: the field is malformed, or wants what the operator does not allow.
        """
        if wanted is None:
            return self.default
        if not isinstance(wanted, dict):
            raise _refused("The field is not an object. Send {'defense': ['sasa']}.", "safesight")
        if unknown := wanted.keys() - {"defense", "threshold"}:
            raise _refused(
                f"{min(unknown)[:40]!r} is not a field of it. Use defense and threshold.",
                "safesight",
            )
        names = self._names_of(wanted["defense"]) if "defense" in wanted else self._names
        threshold = wanted.get("threshold")
        if threshold is not None:
            self._check_threshold(names, threshold)
        return self._arm(names, threshold)

    def _names_of(self, wanted: Any) -> tuple[str, ...]:
        names = [wanted] if isinstance(wanted, str) else wanted
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise _refused("Defenses are a list of names.", "safesight.defense")
        if len(set(names)) < len(names) or (UNDEFENDED in names and len(names) > 1):
            raise _refused("Name each defense once, or 'none' alone.", "safesight.defense")
        names = names or [UNDEFENDED]
        if refused := [name for name in names if name not in self._allowed]:
            offered = ", ".join(self._allowed) or "none of them"
            raise _refused(
                f"{refused[0][:40]!r} cannot be chosen on this server; it allows {offered}. "
                "Leave the field out for the server's own defense.",
                "safesight.defense",
            )
        return () if names == [UNDEFENDED] else tuple(names)

    def _check_threshold(self, names: tuple[str, ...], threshold: Any) -> None:
        number = isinstance(threshold, int | float) and not isinstance(threshold, bool)
        if not self._allow_threshold:
            raise _refused("This server does not let requests set it.", "safesight.threshold")
        if not number:  # which numbers there are is known to the detector
            raise _refused("It is not a number.", "safesight.threshold")
        if len(names) != 1 or names[0] not in self.detectors:
            raise _refused(
                "It belongs to one detector. Choose one in safesight.defense.",
                "safesight.threshold",
            )

    def _arm(self, names: tuple[str, ...], threshold: float | None) -> Arm:
        if names == self._names and threshold is None:
            return self.default
        with self._turn:
            key = (names, threshold)
            if key not in self._arms:
                self._arms[key] = self._built(names, threshold)
                while len(self._arms) > _KEPT:
                    self._arms.popitem(last=False)
            self._arms.move_to_end(key)
            return self._arms[key]

    def _built(self, names: tuple[str, ...], threshold: float | None) -> Arm:
        config = {} if threshold is None else {"threshold": threshold}
        artifacts = {name: self._artifacts[name] for name in names if name in self._artifacts}
        try:
            return build_arm(self._vlm, "+".join(names) or UNDEFENDED, artifacts, **config)
        except SafesightError as error:
            if threshold is None:
                raise
            raise _refused(str(error), "safesight.threshold") from error


def check_allowed(names: Sequence[str], allowed: Sequence[str]) -> None:
    """Refuse an allow-list that names a defense that is not served.

    Args:
        names: The operator's defenses.
        allowed: What a request may choose from.

    Raises:
        InputError: it does.
    """
    strangers = [name for name in allowed if name not in (*names, UNDEFENDED)]
    if strangers:
        raise InputError(
            f"Requests cannot be allowed to choose {strangers[0]!r}, which is not served. "
            f"Add --defense {strangers[0]}, or leave it out of --allow."
        )


def _refused(message: str, param: str) -> RequestError:
    return RequestError(f"{param} cannot be used: {message}", code="defense_refused", param=param)
