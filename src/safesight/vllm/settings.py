"""What an operator writes under "safesight" in the `additional_config` of an engine.

    {"defenses": [{"name": "sasa", "artifact": "artifacts/sasa"}], "per_request": false}

An entry may hold settings of its defense beside its name and artifact. Importing this file does
not load torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from safesight.errors import InputError
from safesight.grammar import UNDEFENDED

__all__ = ["KEY", "Entry", "Settings", "settings_of"]

KEY = "safesight"


class Entry(BaseModel):
    """One defense, with its artifact and settings."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str
    artifact: Path | None = None
    """Its folder; None uses the one that is bundled for the bundled model."""

    @property
    def config(self) -> dict[str, Any]:
        """Settings of the defense."""
        return dict(self.model_extra or {})


class Settings(BaseModel):
    """Everything under "safesight"."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    defenses: tuple[Entry, ...] = Field(min_length=1)
    """In the order in which they act; "none" for an engine without defenses."""
    per_request: bool = False
    """Whether a request may turn the defenses off with `vllm_xargs: {"safesight": "off"}`."""
    allow_unvalidated: bool = False
    """Whether to run on a version of vLLM that was not tested."""
    decision_log: Path | None = None
    """JSONL file for refusals, as that of `safesight serve`."""
    template: tuple[str, ...] = ()
    """Defenses that `safesight serve` has put into the chat template; clients are told of them."""

    @property
    def defended(self) -> bool:
        """Whether a defense acts inside the engine."""
        return any(each.name != UNDEFENDED for each in self.defenses)


def settings_of(vllm_config: Any) -> Settings | None:
    """The settings of an engine; None if it has no entry for safesight.

    Raises:
        InputError: the entry is empty, or not as it should be.
    """
    more = vllm_config.additional_config
    if not isinstance(more, dict) or KEY not in more:
        return None
    given = more[KEY]
    example = '{"safesight": {"defenses": [{"name": "probe", "artifact": "artifacts/probe"}]}}'
    if not isinstance(given, dict) or not given.get("defenses"):
        raise InputError(
            "The engine's additional_config names safesight and no defense. "
            f"Write it like {example}."
        )
    try:
        return Settings.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(
            f"The engine's additional_config has an invalid {KEY}.{place}: {first['msg']}. "
            f"Write it like {example}."
        ) from error
