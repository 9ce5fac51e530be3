"""Reads the JSON object in a body that a stranger sent.

`json.loads` alone accepts what is not JSON (NaN, Infinity), what two readers understand in two
ways (a key twice), and what fails later: numbers that become infinite, halves of surrogate pairs,
which no tokenizer takes, nesting that exhausts the stack, and millions of values, which take
seconds.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from itertools import chain
from typing import Any, NoReturn

from safesight.errors import InputError

__all__ = ["MAX_DEPTH", "MAX_VALUES", "read_json"]

MAX_DEPTH = 64
"""How deeply objects and arrays may be nested; a tool's schema needs about 20."""
MAX_VALUES = 100_000
"""How many values and keys there may be in all."""
_TEXT = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
"""A text; one without an end is a single match as well, so that the time stays linear."""
_MAX_DIGITS = 20
_INTEGERS = range(-(2**63), 2**64)


class _Refused(Exception):
    """Why a body is refused, as part of a sentence."""


def read_json(body: bytes) -> dict[str, Any]:
    """The JSON object that a body holds.

    Raises:
        InputError: it is not UTF-8, not JSON or not an object; a key is given twice; a number is
            not finite or has more than 64 bits; it is nested too deeply or has too many values; a
            text holds half a surrogate pair.

    Example:
        >>> read_json(b'{"n": 1}')
        {'n': 1}
    """
    try:
        _check_count(body)
        value = json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_object,
            parse_constant=_constant,
            parse_float=_float,
            parse_int=_integer,
        )
        _check(value)
    except UnicodeError:
        raise InputError("The body is not valid UTF-8. Encode it in UTF-8.") from None
    except RecursionError:
        raise InputError(_sentence("it is nested too deeply")) from None
    except json.JSONDecodeError as error:
        reason = f"{error.msg[:1].lower()}{error.msg[1:]} at character {error.pos}"
        raise InputError(f"The body is not JSON: {reason}. Send a JSON object.") from None
    except _Refused as error:
        raise InputError(_sentence(str(error))) from None
    if not isinstance(value, dict):
        raise InputError(_sentence("it is not an object"))
    return value


def _sentence(reason: str) -> str:
    return f"The JSON of the body cannot be used: {reason}. Send a JSON object without that."


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _Refused("an object has a key twice")
    return found


def _constant(name: str) -> NoReturn:
    raise _Refused(f"{name} is not a number of JSON")


def _float(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise _Refused("a number is too large")
    return number


def _integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS or int(digits) not in _INTEGERS:
        raise _Refused("a whole number has more than 64 bits")
    return int(digits)


def _check_count(body: bytes) -> None:
    outline = _TEXT.sub(b"", body)
    if sum(map(outline.count, (b",", b":", b"[", b"{"))) > MAX_VALUES:
        raise _Refused(f"it has more than {MAX_VALUES} values")


def _check(value: Any) -> None:
    """Depth and texts, without recursion."""
    open_values: list[Iterator[Any]] = [iter([value])]
    while open_values:
        for found in open_values[-1]:
            if isinstance(found, str):
                _check_text(found)
            elif isinstance(found, (dict, list)):
                if len(open_values) > MAX_DEPTH:
                    raise _Refused(f"it is nested more than {MAX_DEPTH} levels deep")
                inside = found if isinstance(found, list) else chain(found.keys(), found.values())
                open_values.append(iter(inside))
                break
        else:
            open_values.pop()


def _check_text(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise _Refused("a text holds half a surrogate pair") from None
