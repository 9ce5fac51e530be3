"""What a row of a data file may hold, as a pydantic model.

Every format gives strings, numbers, lists and nothing else, so all of them are read by this one
schema. Where a format cannot hold a list (CSV), its JSON or its parts, separated by semicolons,
stand for it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from safesight.types import Label

__all__ = ["COLUMNS", "Row", "Turn", "faults_of"]

_SURROGATE = re.compile("[\ud800-\udfff]")
_LABELS: dict[str, Label] = {
    "harmful": "harmful",
    "unsafe": "harmful",
    "benign": "benign",
    "safe": "benign",
}


_NAMES = {"id", "group", "category", "source", "goal", "picture", "image", "target", "reference"}
"""Columns whose cells are names: spaces around them mean nothing."""


class Turn(BaseModel):
    """One turn of a conversation; `<image>` parts stand for the row's pictures, in order."""

    model_config = ConfigDict(extra="ignore")

    role: Literal["system", "user", "assistant"]
    content: str | list[dict[str, Any]]

    @field_validator("content")
    @classmethod
    def _known_parts(cls, content: str | list[dict[str, Any]]) -> str | list[dict[str, Any]]:
        if isinstance(content, str):
            return content
        for part in content:
            kind = part.get("type")
            if kind not in ("text", "image"):
                raise ValueError(f"a part has the type {kind!r}, not text or image")
            if kind == "text" and not isinstance(part.get("text"), str):
                raise ValueError("a part of type text has no text")
        return content

    @property
    def parts(self) -> list[dict[str, Any]]:
        """The content as a list of parts; pictures are placeholders."""
        if isinstance(self.content, str):
            return [{"type": "text", "text": self.content}]
        return [
            {"type": "text", "text": part["text"]} if part["type"] == "text" else {"type": "image"}
            for part in self.content
        ]

    @property
    def text(self) -> str:
        """All text of the turn."""
        return " ".join(part["text"] for part in self.parts if part["type"] == "text")


class Row(BaseModel):
    """One prompt.

    Example:
        >>> Row.model_validate({"question": "what is this?", "label": "Safe"}).label
        'benign'
    """

    model_config = ConfigDict(extra="ignore", coerce_numbers_to_str=True, frozen=True)

    id: str | None = Field(None, description="Unique; made from the content if absent.")
    question: str | None = Field(None, description="What the user asks, in words.")
    messages: list[Turn] | None = Field(
        None, description="Several turns, the last one the user's, in place of `question`."
    )
    image: Any = Field(None, description="The path of a picture, relative to the file.")
    images: list[Any] | None = Field(None, description="Several pictures, in place of `image`.")
    label: Label = Field(description="`harmful` or `benign` (also `unsafe`, `safe`).")
    target: str = Field(
        "", description="What a right answer names: the object, or the answer to the question."
    )
    goal: str | None = Field(
        None,
        description="What a harmful request is after, where its words alone do not say it: judges "
        "that do not see the picture read this.",
    )
    category: str | None = Field(None, description="The kind of harm, for tables and hold-outs.")
    group: str | None = Field(
        None, description="One goal asked in several ways: kept together in splits and intervals."
    )
    picture: str | None = Field(None, description="The kind of picture: photo, typography, ...")
    source: str | None = Field(None, description="Where the row comes from, such as a data set.")
    system: str | None = Field(None, description="A system prompt.")
    prefill: str | None = Field(None, description="Words that the answer is made to begin with.")
    answer: str | None = Field(
        None, description="What a model answered. Only `safesight judge` reads it."
    )

    @model_validator(mode="before")
    @classmethod
    def _cleaned(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            raise ValueError("it is not an object with columns")
        known = {str(name): value for name, value in values.items() if not _is_empty(value)}
        for name, value in known.items():
            text = json.dumps(value, ensure_ascii=False, default=str)
            if _SURROGATE.search(text):
                raise ValueError(f"its {name} has half a character (a lone surrogate)")
        if "reference" in known:
            if "target" in known:
                raise ValueError("it has both target and reference; keep one")
            known["target"] = known.pop("reference")
        for name in _NAMES & known.keys():
            if isinstance(known[name], str):
                known[name] = known[name].strip()
        for name in ("images", "messages"):
            if isinstance(known.get(name), str):
                known[name] = _listed(known[name], name)
        return known

    @field_validator("label", mode="before")
    @classmethod
    def _known_label(cls, label: Any) -> Any:
        found = _LABELS.get(str(label).strip().lower())
        if found is None:
            raise ValueError(f"the label is {label!r}, not harmful or benign")
        return found

    @model_validator(mode="after")
    def _one_question(self) -> Row:
        if (self.question is None) == (self.messages is None):
            raise ValueError(
                "it has neither question nor messages"
                if self.question is None
                else "it has both question and messages; keep one"
            )
        if self.image is not None and self.images is not None:
            raise ValueError("it has both image and images; keep one")
        if self.messages is not None:
            _check_turns(self)
        return self

    @property
    def pictures(self) -> list[Any]:
        """All pictures of the row, as the file gives them."""
        if self.images is not None:
            return list(self.images)
        return [] if self.image is None else [self.image]


def _check_turns(row: Row) -> None:
    turns = row.messages or []
    if not turns or turns[-1].role != "user":
        raise ValueError(
            "its messages do not end with a turn of the user; use prefill to begin one"
        )
    if any(turn.role == "system" for turn in turns[1:]):
        raise ValueError("its messages have a system turn that is not the first")
    if row.system is not None and turns[0].role == "system":
        raise ValueError("it has a system prompt twice")
    places = sum(part["type"] == "image" for turn in turns for part in turn.parts)
    if places and places != len(row.pictures):
        raise ValueError(
            f"its messages have places for {places} pictures, and it has {len(row.pictures)}"
        )


def _is_empty(value: Any) -> bool:
    """Whether a cell holds nothing: None, NaN, an empty string or list."""
    if value is None or (isinstance(value, float) and value != value):
        return True
    return isinstance(value, str | list) and (not value or str(value).isspace())


def _listed(text: str, name: str) -> list[Any]:
    """A list from one cell: its JSON, or for pictures its parts between semicolons."""
    if text.lstrip().startswith("["):
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"its {name} are not a list in JSON") from error
        if isinstance(found, list):
            return found
    if name == "messages":
        raise ValueError("its messages are not a list in JSON")
    return [part.strip() for part in text.split(";") if part.strip()]


def faults_of(error: ValidationError) -> list[str]:
    """What is wrong with a row, one short phrase each.

    Example:
        >>> try:
        ...     Row.model_validate({"question": "?", "label": "bad"})
        ... except ValidationError as error:
        ...     faults_of(error)
        ["the label is 'bad', not harmful or benign"]
    """
    found = []
    for each in error.errors():
        place = ".".join(str(part) for part in each["loc"])
        message = each["msg"].removeprefix("Value error, ")
        if each["type"] == "missing":
            found.append(f"it has no {place}")
        elif each["type"] == "value_error":
            found.append(message)
        else:
            found.append(f"{place}: {message[0].lower()}{message[1:]}")
    return found


COLUMNS: dict[str, str] = {
    name: field.description or "" for name, field in Row.model_fields.items()
}
"""Every column, and what it is for."""
