"""Rows to train on: read, checked, refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from safesight.defenses import FitData, load_defense
from safesight.errors import InputError
from safesight.training.batches import Draws
from safesight.training.rows import TuningData, holds_rows, read_rows
from tests import tiny
from tests.training.helpers import data, row


def test_sets_are_told_apart() -> None:
    rows = TuningData([row("a"), row("b", "retain"), row("c")])
    assert [r.id for r in rows.forget] == ["a", "c"]
    assert [r.id for r in rows.retain] == ["b"]


@pytest.mark.parametrize(("kept", "missing"), [("forget", "retain"), ("retain", "forget")])
def test_an_empty_set_is_refused(kept: str, missing: str) -> None:
    with pytest.raises(InputError, match=f"The {missing} set is empty"):
        TuningData([row("a", kept)])


def test_an_id_in_both_sets_is_refused() -> None:
    with pytest.raises(InputError, match="'a' is in the forget set and in the retain set"):
        TuningData([row("a"), row("a", "retain")])


def test_a_doubled_id_is_refused() -> None:
    with pytest.raises(InputError, match="Two rows have the id 'a'"):
        TuningData([row("a"), row("a"), row("b", "retain")])


def test_the_same_question_in_both_sets_is_refused_if_the_picture_is_the_same() -> None:
    same = {"question": "what is this?", "image": lambda: tiny.picture(1)}
    with pytest.raises(InputError, match="'a' and the retain row 'b' ask the same"):
        TuningData([row("a", **same), row("b", "retain", **same)])
    other = {**same, "image": lambda: tiny.picture(2)}
    assert len(TuningData([row("a", **same), row("b", "retain", **other)]).rows) == 2


def test_a_harmful_row_is_not_retained() -> None:
    with pytest.raises(InputError, match="'b' is harmful and in the retain set"):
        TuningData([row("a"), row("b", "retain", label="harmful")])


def test_missing_answers_and_questions_are_refused() -> None:
    with pytest.raises(InputError, match="'b' has no question"):
        TuningData([row("a"), row("b", "retain", question=" ")])
    rows = TuningData([row("a", answer=""), row("b", "retain")])
    rows.need_answers("npo", "retain")
    with pytest.raises(InputError, match="forget row 'a' has no answer, and npo"):
        rows.need_answers("npo", "forget", "retain")


@pytest.mark.parametrize("name", ["sft", "npo", "rmu", "grad_ascent", "grad_diff", "kl"])
def test_methods_refuse_what_they_cannot_train_on(name: str) -> None:
    vlm = tiny.vlm("llava")
    with pytest.raises(InputError, match="--data FILE"):
        load_defense(name).fit(vlm, FitData((), ()))
    with pytest.raises(InputError, match="The retain set is empty"):
        load_defense(name).fit(vlm, data(row("a")))


def write(folder: Path, *entries: Any, lines: bool = True) -> Path:
    path = folder / "rows.json"
    text = "\n".join(map(json.dumps, entries)) if lines else json.dumps(entries)
    path.write_text(text)
    return path


GOOD = {"id": "1", "question": "what?", "answer": "that.", "label": "benign"}


@pytest.mark.parametrize("lines", [True, False])
def test_files_are_read(tmp_path: Path, lines: bool) -> None:
    tiny.picture(3).save(tmp_path / "p.png")
    bad = {"id": 2, "question": "how?", "label": "harmful", "image": "p.png", "refusal": "no."}
    one, two = read_rows(write(tmp_path, GOOD, bad, lines=lines))
    assert (one.id, one.set, one.picture()) == ("1", "retain", None)
    assert (two.id, two.set, two.answer, two.refusal) == ("2", "forget", "", "no.")
    picture = two.picture()
    assert picture is not None
    assert picture.tobytes() == tiny.picture(3).tobytes()


def test_a_mark_of_the_byte_order_and_odd_ends_of_line_change_nothing(tmp_path: Path) -> None:
    """Editors of Windows write the first; answers of models hold the others."""
    told = {**GOOD, "set": "forget", "answer": "one\u2028two\x0cthree\u0085four"}
    text = "\ufeff" + json.dumps(told, ensure_ascii=False) + "\r\n"
    (tmp_path / "rows.jsonl").write_text(text, encoding="utf-8")
    assert holds_rows(tmp_path / "rows.jsonl")
    (found,) = read_rows(tmp_path / "rows.jsonl")
    assert (found.set, found.answer) == ("forget", told["answer"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": None}, "row 1: its label is missing. It must be harmful or benign"),
        ({"label": "bad"}, "its label is 'bad'"),
        ({"set": "keep"}, "its set is 'keep'"),
        ({"question": None}, "has no question"),
        ({"answer": 3}, "answer is 3, not a text"),
        ({"image": "gone.png"}, "there is no picture"),
        ({"lable": "benign"}, "has 'lable'"),
        ({"images": ["a.png", "b.png"]}, "at most one picture"),
        ({"messages": [{"role": "user", "content": "x"}]}, "is one question"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_rows(write(tmp_path, {**GOOD, **change}))


def test_bad_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_rows(tmp_path / "gone.jsonl")
    path = tmp_path / "rows.jsonl"
    path.write_text("{")
    with pytest.raises(InputError, match="neither a JSON array nor"):
        read_rows(path)
    path.write_text("3")
    with pytest.raises(InputError, match="is not an object"):
        read_rows(path)
    (tmp_path / "p.png").write_text("no picture")
    broken = read_rows(write(tmp_path, {**GOOD, "image": "p.png"}))[0]
    with pytest.raises(InputError, match=r"p\.png.*not in a readable format"):
        broken.picture()


def test_the_hash_sees_everything() -> None:
    first = TuningData([row("a"), row("b", "retain")])
    changed = [
        {"answer": "x"},
        {"refusal": "no."},
        {"image": lambda: tiny.picture(1)},
        {"question": "y"},
    ]
    hashes = {TuningData([row("a", **c), row("b", "retain")]).hash for c in changed}
    assert len({first.hash, *hashes}) == 1 + len(changed)
    assert FitData((), (), tuning=first.rows).hash != FitData((), ()).hash


def test_draws_go_through_every_source_in_its_own_order() -> None:
    draws = Draws({"a": range(5), "b": range(3)}, length=15, seed=1)
    items = [draws[i] for i in range(15)]
    assert sorted(item["a"] for item in items[:5]) == list(range(5))
    assert sorted(item["b"] for item in items[:3]) == list(range(3))
    again = Draws({"a": range(5), "b": range(3)}, length=15, seed=1)
    assert [again[i] for i in reversed(range(15))] == items[::-1]
    assert [item["a"] for item in items[:5]] != [item["a"] for item in items[5:10]]
