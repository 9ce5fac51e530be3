"""JSON that strangers send."""

from __future__ import annotations

import json
import time
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safesight.errors import InputError
from safesight.server.json_bodies import MAX_DEPTH, MAX_VALUES, read_json

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inside: st.lists(inside) | st.dictionaries(st.text(), inside),
    max_leaves=8,
)


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(st.text(), VALUES), st.booleans())
def test_json_objects_are_read(value: dict[str, object], ascii_only: bool) -> None:
    assert read_json(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60) | st.text('{}[]":,\\udc0123.eE-+ \n', max_size=40).map(str.encode))
def test_anything_is_read_or_refused(body: bytes) -> None:
    with suppress(InputError):
        assert isinstance(read_json(body), dict)


DEEP = MAX_DEPTH - 1


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "expecting value"),
        (b"{", "expecting property name"),
        (b"{} x", "extra data"),
        (b'{"a": 01}', "not JSON"),
        (b'{"a": "\n"}', "invalid control character"),
        (b"[]", "not an object"),
        (b"1", "not an object"),
        (b"null", "not an object"),
        (b'"text"', "not an object"),
        (b'{"a": 1, "a": 2}', "a key twice"),
        (b'{"b": [{"a": 1, "\\u0061": 1}]}', "a key twice"),
        (b'{"a": NaN}', "NaN is not a number"),
        (b'{"a": Infinity}', "Infinity is not a number"),
        (b'{"a": [-Infinity]}', "-Infinity is not a number"),
        (b'{"a": 1e999}', "a number is too large"),
        (b'{"a": -1e999}', "a number is too large"),
        (b'{"a": 18446744073709551616}', "more than 64 bits"),
        (b'{"a": -9223372036854775809}', "more than 64 bits"),
        (b'{"a": ' + b"9" * 5000 + b"}", "more than 64 bits"),
        (b'{"a": "\xff"}', "UTF-8"),
        (b'{"a": "\xed\xa0\x80"}', "UTF-8"),
        ('{"a": 1}'.encode("utf-16"), "UTF-8"),
        (b'\xef\xbb\xbf{"a": 1}', "BOM"),
        (b'{"a": "\\ud800"}', "surrogate"),
        (b'{"a": ["\\udc00\\ud800"]}', "surrogate"),
        (b'{"\\ud800": 1}', "surrogate"),
        (b'{"a": ' + b"[" * (DEEP + 1) + b"]" * (DEEP + 1) + b"}", "levels deep"),
        (b'{"a": ' * (DEEP + 2) + b"1" + b"}" * (DEEP + 2), "levels deep"),
        (b'{"a": ' + b"[" * 50_000 + b"]" * 50_000 + b"}", "nested"),
        (b'{"a": ' * 40_000 + b"1" + b"}" * 40_000, "nested"),
        (b'{"a": [' + b"1," * MAX_VALUES + b"1]}", "more than 100000 values"),
    ],
    ids=range(31),
)
def test_what_cannot_be_used_is_refused(body: bytes, why: str) -> None:
    with pytest.raises(InputError, match=why) as refused:
        read_json(body)
    assert len(str(refused.value)) < 250


def test_what_is_allowed_at_the_edge() -> None:
    assert read_json(b'{"a": ' + b"[" * DEEP + b"]" * DEEP + b"}")
    assert read_json(b'{"a": [18446744073709551615, -9223372036854775808, 1e308, 1e-999]}')
    assert read_json(b'{"a": "\\ud83d\\ude00", "b": "\\u0000"}') == {"a": "\U0001f600", "b": "\0"}
    text = ",:[{" * MAX_VALUES
    assert read_json(json.dumps({text: text}).encode()) == {text: text}


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": "' + b"\\" * 2_000_000,
        b'{"a": "' + b'\\"' * 1_000_000,
        b'"' * 2_000_001,
        b'{"a": [' + b"0," * 1_000_000,
        b"[" * 2_000_000,
        b'{"a": [' + b'"",' * 30_000 + b'"\\ud800' * 300_000,
    ],
    ids=range(6),
)
def test_time_grows_with_the_size_alone(body: bytes) -> None:
    started = time.monotonic()
    with pytest.raises(InputError):
        read_json(body)
    assert time.monotonic() - started < 5
