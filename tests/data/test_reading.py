"""Rows of every format become the same samples, and every wrong row is named with its line."""

from __future__ import annotations

import csv
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from safesight.data import add_task, read_data
from safesight.data.samples import checked, read_answered
from safesight.errors import InputError
from safesight.types import Sample

ROWS: list[dict[str, Any]] = [
    {"id": "1", "question": 'what\nis "this"; eh?', "label": "harmful", "image": "a.png"},
    {"id": "2", "question": "a cake?", "label": "benign", "target": "cake", "group": "cakes"},
    {"id": "3", "question": "both?", "label": "unsafe", "images": ["a.png", "b.png"]},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, color in (("a.png", "red"), ("b.png", "blue")):
        Image.new("RGB", (4, 4), color).save(tmp_path / name)
    return tmp_path


def jsonl(folder: Path, rows: list[dict[str, Any]], name: str = "rows.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def array(folder: Path, rows: list[dict[str, Any]]) -> Path:
    path = folder / "rows.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def table(folder: Path, rows: list[dict[str, Any]], name: str = "rows.csv") -> Path:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with (folder / name).open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, columns, delimiter="\t" if name.endswith("tsv") else ",")
        writer.writeheader()
        for row in rows:
            images = {"images": ";".join(row["images"])} if "images" in row else {}
            writer.writerow({**row, **images})
    return folder / name


def tabs(folder: Path, rows: list[dict[str, Any]]) -> Path:
    return table(folder, rows, "rows.tsv")


def parquet(folder: Path, rows: list[dict[str, Any]]) -> Path:
    import pandas

    path = folder / "rows.parquet"
    pandas.DataFrame(rows).to_parquet(path)
    return path


def pictures(folder: Path, rows: list[dict[str, Any]]) -> Path:
    names = {"image": "file_name", "images": "file_names"}
    renamed = [{names.get(key, key): value for key, value in row.items()} for row in rows]
    jsonl(folder, renamed, "metadata.jsonl")
    return folder


FORMATS: list[Callable[[Path, list[dict[str, Any]]], Path]] = [
    jsonl,
    array,
    table,
    tabs,
    parquet,
    pictures,
]


def shown(sample: Sample) -> list[Any]:
    colors = [picture().getpixel((0, 0)) for picture in sample.pictures]
    facts = dict(sample.facts)
    return [sample.id, sample.question, sample.label, sample.target, facts, colors]


@pytest.mark.parametrize("write", FORMATS)
def test_every_format_gives_the_same_samples(
    folder: Path, write: Callable[[Path, list[dict[str, Any]]], Path]
) -> None:
    red, blue = (255, 0, 0), (0, 0, 255)
    assert [shown(sample) for sample in read_data(write(folder, ROWS)).samples] == [
        ["1", 'what\nis "this"; eh?', "harmful", "", {}, [red]],
        ["2", "a cake?", "benign", "cake", {"group": "cakes"}, []],
        ["3", "both?", "harmful", "", {}, [red, blue]],
    ]


def test_pictures_inside_a_parquet_file_are_opened_when_they_are_needed(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = {"question": ["a", "b"], "label": ["harmful", "benign"]}
    rows["image"] = [Image.new("RGB", (4, 4), "red"), None]
    datasets.Dataset.from_dict(rows).to_parquet(tmp_path / "rows.parquet")
    first, second = read_data(tmp_path / "rows.parquet").samples
    assert [picture().getpixel((0, 0)) for picture in first.pictures] == [(255, 0, 0)]
    assert second.pictures == ()


def test_a_conversation_keeps_its_turns_and_the_places_of_its_pictures(folder: Path) -> None:
    text, place = {"type": "text", "text": "look"}, {"type": "image"}
    turns = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [text, place]},
        {"role": "assistant", "content": "a cup"},
        {"role": "user", "content": [place, {"type": "text", "text": "and this?"}]},
    ]
    row = {"messages": turns, "images": ["a.png", "b.png"], "label": "benign", "prefill": "Sure,"}
    (sample,) = read_data(jsonl(folder, [row])).samples
    assert (sample.question, sample.system) == ("and this?", "be brief")
    said = sample.messages()
    assert [turn["role"] for turn in said] == ["system", "user", "assistant", "user", "assistant"]
    colors = [
        part["image"].getpixel((0, 0)) if part["type"] == "image" else part["text"]
        for turn in said
        for part in turn["content"]
    ]
    red, blue = (255, 0, 0), (0, 0, 255)
    assert colors == ["be brief", "look", red, "a cup", blue, "and this?", "Sure,"]


def test_columns_can_have_other_names(folder: Path) -> None:
    rows = [{"prompt": "a?", "safety": "safe", "file": "a.png"}]
    names = {"question": "prompt", "label": "safety", "image": "file"}
    (sample,) = read_data(table(folder, rows), names).samples
    assert (sample.question, sample.label, len(sample.pictures)) == ("a?", "benign", 1)
    with pytest.raises(InputError, match=r"no column 'nosuch' for question. It has file, prompt"):
        read_data(table(folder, rows), {"question": "nosuch"})
    with pytest.raises(InputError, match="no column 'prompt' to map to"):
        read_data(table(folder, rows), {"prompt": "question"})


GOOD = {"question": "a?", "label": "benign"}
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no label": ({"question": "a?"}, "it has no label"),
    "unknown label": ({**GOOD, "label": "bad"}, "the label is 'bad', not harmful or benign"),
    "no question": ({"label": "benign"}, "neither question nor messages"),
    "empty question": ({**GOOD, "question": " "}, "neither question nor messages"),
    "two questions": ({**GOOD, "messages": [{"role": "user", "content": "b?"}]}, "keep one"),
    "no picture": ({**GOOD, "image": "nosuch.png"}, r"there is no picture .*nosuch\.png"),
    "a number as picture": ({**GOOD, "image": 5}, "of type int, not the path"),
    "picture twice": ({**GOOD, "image": "a.png", "images": ["a.png"]}, "image and images"),
    "target twice": ({**GOOD, "target": "x", "reference": "y"}, "target and reference"),
    "last turn": (
        {"label": "benign", "messages": [{"role": "assistant", "content": "b"}]},
        "do not end with a turn of the user",
    ),
    "unknown role": (
        {"label": "benign", "messages": [{"role": "robot", "content": "b"}]},
        r"messages.0.role: input should be",
    ),
    "places": (
        {
            "label": "benign",
            "messages": [{"role": "user", "content": [{"type": "image"}, {"type": "image"}]}],
            "image": "a.png",
        },
        "places for 2 pictures, and it has 1",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_row_is_named_with_its_line(folder: Path, name: str) -> None:
    row, message = WRONG[name]
    with pytest.raises(InputError, match=rf"1 row that cannot be used\. line 2: .*{message}"):
        read_data(jsonl(folder, [{**GOOD, "question": "before?"}, row]))


def test_all_wrong_rows_are_counted_and_a_few_are_named(folder: Path) -> None:
    path = jsonl(folder, [{"label": "benign"}] * 12)
    with pytest.raises(InputError, match=r"12 rows .* line 5: .*; and 7 more"):
        read_data(path)
    assert [row.place for row in checked(path)] == [f"line {n}" for n in range(1, 13)]


def test_comments_above_the_columns_are_passed_over_and_counted(folder: Path) -> None:
    text = "# version=1.2\n# more\nquestion,label\n# of what?,safe\nx,bad\n"
    (folder / "rows.csv").write_text(text)
    with pytest.raises(InputError, match=r"1 row .* line 5: the label is 'bad'"):
        read_data(folder / "rows.csv")


def test_a_line_of_a_csv_file_is_counted_where_it_begins(folder: Path) -> None:
    for line, text in ((4, '"two\nlines",safe\nx,bad\n'), (5, "y,safe\n\n\nx,bad\n")):
        (folder / "rows.csv").write_text(f"question,label\n{text}")
        with pytest.raises(InputError, match=f"line {line}: the label is 'bad'"):
            read_data(folder / "rows.csv")


def test_spaces_around_a_name_mean_nothing(folder: Path) -> None:
    """As in a table that somebody lined up; in a question they are kept."""
    rows = [
        {"id": " 1", "question": " a?", "label": " safe", "group": "g ", "image": " a.png "},
        {"id": "2 ", "question": "b?", "label": "safe", "group": " g", "image": ""},
    ]
    one, two = read_data(table(folder, rows)).samples
    assert (one.id, one.question, two.id) == ("1", " a?", "2")
    assert one.facts["group"] == two.facts["group"] == "g"
    assert one.image is not None


def test_a_picture_on_the_net_is_not_looked_for_in_the_folder(folder: Path) -> None:
    row = {"question": "a?", "label": "safe", "image": "https://example.com/a.png"}
    with pytest.raises(InputError, match="is a URL"):
        read_data(table(folder, [row]))


def test_the_hash_of_a_file_sees_its_pictures(folder: Path) -> None:
    """A fit on it would be taken for one on the new pictures."""
    path = table(folder, [{"id": "1", "question": "a?", "label": "safe", "image": "a.png"}])
    before = read_data(path).hash
    assert read_data(path).hash == before
    Image.new("RGB", (8, 8), "blue").save(folder / "a.png")
    assert read_data(path).hash != before


def test_an_id_made_from_the_content_stays_and_repeated_rows_are_refused(folder: Path) -> None:
    other = {**GOOD, "question": "b?"}
    first, second = read_data(jsonl(folder, [GOOD, other])).samples
    assert [s.id for s in read_data(jsonl(folder, [other, GOOD])).samples] == [second.id, first.id]
    with pytest.raises(InputError, match="line 2: it repeats line 1"):
        read_data(jsonl(folder, [GOOD, GOOD]))
    with pytest.raises(InputError, match="line 2: its id 'x' is also that of line 1"):
        read_data(jsonl(folder, [{**GOOD, "id": "x"}, {**other, "id": "x"}]))


DAMAGED: dict[str, tuple[str, bytes, str]] = {
    "encoding of a line": ("a.jsonl", b'{"question": "\xff", "label": "safe"}', "line 1: .*UTF-8"),
    "half a line": ("a.jsonl", b'{"question": "a?"', "line 1: it is not JSON"),
    "not an object": ("a.jsonl", b'"a?"', "line 1: it is not an object"),
    "depth": ("a.jsonl", b"[" * 100_000, "line 1: .*nested too deeply"),
    "no list": ("a.json", b'{"question": "a?"}', "not a list of rows"),
    "encoding of a table": ("a.csv", b"question,label\n\xff,safe\n", "not in UTF-8"),
    "open quotation": ("a.csv", b'question,label\n"a?,safe\n', "quotation marks"),
    "too many cells": ("a.csv", b"question,label\na?,safe,x\n", "line 2: it has more cells"),
    "too few cells": ("a.csv", b"question,label,id\na?,safe\n", "line 2: it has fewer cells"),
    "columns twice": ("a.csv", b"label,label\nsafe,safe\n", "two columns called 'label'"),
    "no parquet": ("a.parquet", b"PAR1 no", "cannot be read"),
    "no rows": ("a.csv", b"question,label\n", "has no rows"),
    "empty": ("a.jsonl", b"", "has no rows"),
    "another format": ("a.xlsx", b"x", "not a file of a known format"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_one_sentence(tmp_path: Path, name: str) -> None:
    file, content, message = DAMAGED[name]
    (tmp_path / file).write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_data(tmp_path / file)
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_description_says_what_is_missing(folder: Path) -> None:
    with pytest.raises(InputError, match=r"no metadata\.jsonl or metadata\.csv"):
        read_data(folder)
    with pytest.raises(InputError, match="no file or folder"):
        read_data(folder / "nosuch")


def test_a_large_file_is_read_row_by_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    with path.open("w") as file:
        file.write("question,label\n")
        file.writelines(f"{n} {'x' * 400},safe\n" for n in range(20_000))
    tracemalloc.start()
    count = sum(row.sample is not None for row in checked(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 20_000
    assert peak < path.stat().st_size


def test_a_mapped_column_wins_over_one_of_that_name(folder: Path) -> None:
    row = {"prompt": "theirs?", "label": "benign", "question": "ours?", "target": "x"}
    for path in (jsonl(folder, [row]), table(folder, [row])):
        (found,) = checked(path, {"question": "prompt", "target": "prompt"})
        assert found.sample is not None
        assert (found.sample.question, found.sample.target) == ("theirs?", "theirs?")
        assert found.ignored == ["question", "target"]
        (taken,) = checked(path, {"question": "target"})
        assert taken.sample is not None
        assert (taken.sample.question, taken.sample.target) == ("x", "")


def test_columns_under_other_names_are_named_at_once(folder: Path) -> None:
    row = {"prompt": "what?", "kind": "benign"}
    with pytest.raises(InputError, match=r"no column 'question'. It has kind, prompt. Name the"):
        list(checked(jsonl(folder, [row]), {}))
    with pytest.raises(InputError, match=r"--column label=THEIRS"):
        list(checked(table(folder, [row]), {"question": "prompt"}))


def test_a_mapped_column_of_json_may_be_absent_from_a_row(folder: Path) -> None:
    rows = [{"question": f"{i}?", "label": "benign"} for i in range(2)]
    rows[1]["pic"] = "a.png"
    found = list(checked(jsonl(folder, rows), {"image": "pic"}))
    assert [len(each.sample.pictures) for each in found if each.sample] == [0, 1]
    with pytest.raises(InputError, match="'nosuch' for image in any row"):
        list(checked(jsonl(folder, rows), {"image": "nosuch"}))


def test_half_a_character_is_a_fault_of_its_row(folder: Path) -> None:
    (folder / "rows.jsonl").write_text('{"question": "a \\ud800?", "label": "benign"}\n')
    (found,) = checked(folder / "rows.jsonl")
    assert "lone surrogate" in found.faults[0]


def test_spaces_around_the_names_of_columns_do_not_count(folder: Path) -> None:
    (folder / "rows.csv").write_text("question, label\nwhat?,benign\n")
    assert read_data(folder / "rows.csv").samples[0].label == "benign"


@pytest.mark.parametrize("name", ["Group", " target"])
def test_a_column_that_is_nearly_known_is_not_left_out_without_a_word(
    folder: Path, name: str
) -> None:
    rows = [{"question": "a?", "label": "benign", name: "x"}]
    with pytest.raises(InputError, match=rf"a column '{name}', which is not read as"):
        read_data(jsonl(folder, rows))
    known = name.strip().lower()
    (sample,) = read_data(jsonl(folder, rows), {known: name}).samples
    assert "x" in (sample.target, sample.facts.get("group"))


def test_several_answers_to_one_prompt_are_about_one_prompt(folder: Path) -> None:
    rows = [{"question": "a?", "label": "benign", "answer": each} for each in ("yes", "no")]
    (one, _), (two, _) = read_answered(jsonl(folder, rows))
    assert one.id == two.id


def test_no_file_is_the_task_that_stands_for_all(folder: Path) -> None:
    path = jsonl(folder, ROWS, "all.jsonl")
    assert add_task(path) == "own_all"
    with pytest.raises(InputError, match="stands for all tasks"):
        add_task(path, name="all")
