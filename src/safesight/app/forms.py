"""What the page itself sends to Gradio's queue, so that anything else is refused before.

Gradio takes the fields of a question as they come and writes a traceback to the terminal for each
that its components cannot read.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from os.path import isfile
from typing import Any

__all__ = ["Forms"]


class Forms:
    """The shapes of what the page sends.

    Args:
        inputs: How many fields each function of the page takes, by its number.
        names: The defenses that can be chosen.
        examples: How many examples there are.

    Example:
        >>> forms = Forms({0: 3}, ["sasa"], examples=1)
        >>> forms.known({"fn_index": 0, "data": [None, "what is it?", ["sasa"]]})
        True
        >>> forms.known({"fn_index": 0, "data": [None, "what is it?", ["magic"]]})
        False
    """

    def __init__(self, inputs: Mapping[int, int], names: Collection[str], examples: int) -> None:
        self._inputs, self._names, self._examples = dict(inputs), frozenset(names), examples

    def known(self, body: Any) -> bool:
        """Whether the page could have sent this body."""
        if not isinstance(body, dict):
            return False
        index, data = body.get("fn_index"), body.get("data")
        if type(index) is not int or index not in self._inputs or not isinstance(data, list):
            return False
        if len(data) != self._inputs[index]:
            return False
        if not data:  # an example was pressed
            event = body.get("event_data")
            number = event.get("example") if isinstance(event, dict) else None
            return type(number) is int and 0 <= number < self._examples
        fields: tuple[Callable[[Any], bool], ...] = (_pictures, _text, self._chosen)
        return all(fits(value) for fits, value in zip(fields, data, strict=False))

    def _chosen(self, value: Any) -> bool:
        names = [] if value is None else value
        return isinstance(names, list) and all(
            isinstance(name, str) and name in self._names for name in names
        )


def _text(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _pictures(value: Any) -> bool:
    pictures = [] if value is None else value
    return isinstance(pictures, list) and all(map(_picture, pictures))


def _picture(value: Any) -> bool:
    if not isinstance(value, dict) or not _text(value.get("caption")):
        return False
    file = value.get("image")
    path = file.get("path") if isinstance(file, dict) else None
    return isinstance(path, str) and "\0" not in path and isfile(path)
