"""Markers, tables and the figure say what the scorecard says, on one made by hand."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from safesight import registry
from safesight.compare import Delta, Overhead, Row, Scorecard
from safesight.compare.records import Provenance
from scripts.docs import caps, dose, figure, fills, pairs, panels, source
from scripts.docs.captions import bundled_identity
from scripts.docs.results import LARGE, Results, has, publish
from scripts.docs.tables import render_beside, render_overhead


def _row(defense: str, task: str, metric: str, value: float) -> Row:
    low, high = max(0.0, value - 0.02), min(1.0, value + 0.02)
    return Row(
        defense=defense,
        task=task,
        metric=metric,  # type: ignore[arg-type]
        value=value,
        low=low,
        high=high,
        n=300,
        invalid=0,
        judge="exact",
    )


def _card() -> Scorecard:
    values = {"none": (0.71, 0.01, 0.93, 0.9), "sasa": (0.004, 0.02, 0.92, 0.88)}
    metrics = ("attack_success_rate", "over_refusal_rate", "utility", "benign_utility")
    pooled = [
        _row(defense, "all", metric, value)
        for defense, numbers in values.items()
        for metric, value in zip(metrics, numbers, strict=True)
    ]
    rows = [_row(name, "image_harm", metrics[0], numbers[0]) for name, numbers in values.items()]
    delta = Delta(
        defense="sasa",
        against="none",
        task="all",
        metric="utility",
        delta=-0.01,
        low=-0.02,
        high=0.0,
        n=300,
        gained=0,
        lost=3,
        p_value=0.25,
    )
    cost = Overhead(
        defense="sasa",
        prefill_ratio=1.5,
        prefill_low=1.4,
        prefill_high=1.6,
        prefill_n=24,
        answer_ratio=1.08,
        answer_low=1.06,
        answer_high=1.11,
        n=23,
        refused_answer_ratio=0.31,
        refused_answer_low=0.3,
        refused_answer_high=0.33,
        refused_n=24,
        peak_memory_ratio=1.02,
        peak_memory_low=1.01,
        peak_memory_high=1.03,
        peak_memory_n=4,
        memory_method="by hand",
        device="cpu",
        undefended_answer_seconds=0.1,
    )
    return Scorecard(
        model="m", seconds=1, rows=rows, pooled=pooled, deltas=[delta], overhead=[cost]
    )


@pytest.fixture
def results(tmp_path: Path) -> Results:
    measured = _card()
    few = {"answer_ratio": 1.23, "answer_low": None, "answer_high": None, "n": 5}
    shown = measured.overhead[0].model_copy(update=few)
    demo = measured.model_copy(update={"overhead": [shown]})
    (tmp_path / "demo.json").write_text(demo.model_dump_json())
    (tmp_path / "cost.json").write_text(measured.model_dump_json())
    (tmp_path / "demo.txt").write_text("two\nlines\n")
    harm = {"value": 0.542, "low": 0.51, "high": 0.575}
    (tmp_path / "mirage.json").write_text(json.dumps({"summary": [{"arm": "rmu", "harm": harm}]}))
    return Results(tmp_path)


@pytest.mark.parametrize(
    ("command", "wanted"),
    [
        ("rate demo none all attack_success_rate", "71.0% (69.0 to 73.0, n = 300)"),
        ("delta demo sasa all utility", "-1.0 points (-2.0 to +0.0, n = 300)"),
        ("ratio demo sasa answer", "1.08 (1.06 to 1.11, n = 23)"),
        ("ratio cost sasa answer", "1.08 (1.06 to 1.11, n = 23)"),
        ("ratio demo sasa refused_answer", "0.31 (0.30 to 0.33, n = 24)"),
        ("ratio demo sasa peak_memory", "1.02 (1.01 to 1.03, n = 4)"),
        ("value demo overhead.0.device", "cpu"),
        ("value demo pooled.0.value .0%", "71%"),
        (
            "axes demo sasa",
            "0.4% (0.0 to 2.4) | 2.0% (0.0 to 4.0) | 88.0% (86.0 to 90.0) | 1.08 (1.06 to 1.11)",
        ),
        ("axes demo none", "71.0% (69.0 to 73.0) | 1.0% (0.0 to 3.0) | 90.0% (88.0 to 92.0) | 1"),
        ("value demo overhead.0.n", "5"),
        ("count compared", "1"),
        ("cell mirage rmu harm", "54.2% (51.0 to 57.5)"),
        ("output demo.txt", "\n```text\ntwo\nlines\n```\n"),
    ],
)
def test_a_marker_is_filled(results: Results, command: str, wanted: str) -> None:
    page = f"a <!-- fill: {command} -->old<!-- /fill --> b"
    filled = fills.fill(page, results, "page.md")
    assert filled == f"a <!-- fill: {command} -->{wanted}<!-- /fill --> b"
    assert fills.fill(filled, results, "page.md") == filled
    assert results.missing == []


@pytest.mark.parametrize(
    "command",
    [
        "rate demo nobody all utility",
        "delta demo none all utility",
        "delta demo sasa all utility probe",
        "ratio demo none answer",
        "value demo overhead.7.device",
        "output gone.txt",
        "summary gone a=A",
        "pivot gone contrasts name a=A",
        "scorecard gone",
        "beside gone sasa",
        "beside demo nobody",
        "axes demo nobody",
        "cell mirage rmu benign",
        "cell mirage nobody harm",
        "cell gone rmu harm",
    ],
)
def test_what_was_not_measured_is_said(results: Results, command: str) -> None:
    filled = fills.fill(f"<!-- fill: {command} -->7%<!-- /fill -->", results, "page.md")
    assert fills.NOT_MEASURED in filled
    assert results.missing


def test_the_table_has_a_row_a_defense(results: Results) -> None:
    lines = fills.scorecard(results, "page.md", "demo").splitlines()
    assert [line.split("|")[1].strip() for line in lines] == ["defense", "---", "none", "sasa"]
    assert len({line.count("|") for line in lines}) == 1
    assert "0.4% (0.0 to 2.4)" in lines[3]


def test_another_model_is_not_given_the_times_of_the_measured_one(results: Results) -> None:
    own = results.scorecard("demo", "page.md")
    assert own is not None
    elsewhere = own.model_copy(update={"model": "testbed-smol"})
    (results.folder / "demo_smol.json").write_text(elsewhere.model_dump_json())
    timed = results.timed("demo", "page.md")
    assert timed is not None
    assert timed.overhead != own.overhead
    assert results.timed("demo_smol", "page.md") == elsewhere


def test_a_defense_stands_beside_the_undefended(results: Results) -> None:
    assert fills.beside(results, "page.md", "demo", "sasa").splitlines() == [
        "|  | n | undefended | sasa | change, points |",
        "| --- | --: | --: | --: | --: |",
        "| utility, `all` | 300 | 93.0% (91.0 to 95.0) | 92.0% (90.0 to 94.0) "
        "| -1.0 (-2.0 to +0.0) |",
        "| time of an answer |  | 1 | 1.08 |  |",
        "| time of a refused answer |  | 1 | 0.31 |  |",
    ]


def test_a_summary_has_rates_and_changes(tmp_path: Path) -> None:
    rate = {"value": 0.5, "low": 0.25, "high": 0.75, "n": 4}
    fall = {"delta": -0.1, "low": -0.2, "high": 0.0, "n": 4}
    rise = {"delta": 0.1, "low": 0.05, "high": 0.2, "n": 4}
    words = {"value": 12.0, "low": 11.0, "high": 13.0, "n": 4, "unit": "words"}
    rows = [
        {"arm": "none", "harm": rate, "harm_change": words},
        {"arm": "npo", "harm": rate, "harm_change": fall},
        {"arm": "sft", "harm": rate, "harm_change": rise},
    ]
    (tmp_path / "mirage.json").write_text(json.dumps({"summary": rows}))
    page = "<!-- fill: summary mirage harm='attack success' harm_change=change -->x<!-- /fill -->"
    lines = fills.fill(page, Results(tmp_path), "page.md").splitlines()
    assert lines[1:6] == [
        "| arm | attack success | change |",
        "| --- | --: | --: |",
        "| none | 50.0% (25.0 to 75.0) | 12.00 (11.00 to 13.00) |",
        "| [npo](docs/cards/npo.md) | 50.0% (25.0 to 75.0) | -10.0 (-20.0 to +0.0) |",
        "| [sft](docs/cards/sft.md) | 50.0% (25.0 to 75.0) | +10.0 (+5.0 to +20.0) |",
    ]
    some = fills.summary(Results(tmp_path), "page.md", "mirage", "arms=sft;none", "harm=x")
    assert [line.split(" | ")[0] for line in some.splitlines()[2:]] == ["| sft", "| none"]
    with pytest.raises(ValueError, match="mirage has no arm 'rmu'"):
        fills.summary(Results(tmp_path), "page.md", "mirage", "arms=rmu", "harm=x")


def test_a_table_links_defenses_to_their_cards(results: Results) -> None:
    marked = "<!-- fill: overhead demo -->x<!-- /fill -->"
    deep = fills.fill(marked, results, "docs/reference/costs.md")
    assert "| [sasa](../cards/sasa.md) |" in deep
    assert "| [probe](probe.md) |" not in deep
    assert "| sasa |" in fills.fill(marked, results, "docs/cards/sasa.md")


def test_counts_follow_the_registry(results: Results) -> None:
    marked = "<!-- fill: count defenses --><!-- /fill -->"
    found = re.findall(r"\d+", fills.fill(marked, results, "page.md"))
    assert found == [str(len(registry.names("defense")) - 1)]
    with pytest.raises(ValueError, match="'pages' cannot be counted"):
        fills.fill("<!-- fill: count pages --><!-- /fill -->", results, "page.md")


def test_a_large_result_is_published_compressed_and_read_as_before(tmp_path: Path) -> None:
    source, folder = tmp_path / "arms.json", tmp_path / "results"
    source.write_text(json.dumps({"rows": ["harmful"] * (LARGE // 5)}))
    assert not has(folder, "arms")
    packed = publish(source, folder)
    assert packed.name == "arms.json.gz"
    assert packed.stat().st_size < source.stat().st_size / 100
    assert has(folder, "arms")
    assert Results(folder).value("arms", "rows.0", "page.md") == "harmful"
    before = packed.read_bytes()
    assert publish(packed, tmp_path / "again").read_bytes() == before
    source.write_text('{"rows": []}')
    assert publish(source, folder).name == "arms.json"
    assert not packed.exists()
    source.write_text("no JSON")
    with pytest.raises(ValueError, match="Expecting value"):
        publish(source, folder)


def test_a_pivot_has_a_row_a_name_and_a_column_a_task(tmp_path: Path) -> None:
    sure = {"delta": -0.1, "low": -0.2, "high": -0.05, "n": 4, "p_holm": 0.01}
    unsure = {"delta": 0.1, "low": -0.1, "high": 0.2, "n": 4, "p_holm": 0.6}
    cells = [
        {"name": "total", "by": "tool", "task": "harm", "metric": "rate", **sure},
        {"name": "total", "by": "tool", "task": "vqa", "metric": "utility", **unsure},
        {"name": "length", "by": "words", "task": "vqa", "metric": "utility", **sure},
    ]
    (tmp_path / "tools.json").write_text(json.dumps({"contrasts": cells}))
    command = "pivot tools contrasts name,by harm/rate='attack success' vqa/utility=utility"
    page = f"<!-- fill: {command} -->x<!-- /fill -->"
    lines = fills.fill(page, Results(tmp_path), "page.md").splitlines()
    assert lines[1:5] == [
        "| name | by | attack success | utility |",
        "| --- | --- | --: | --: |",
        "| total | tool | -10.0 (-20.0 to -5.0) * | +10.0 (-10.0 to +20.0) |",
        "| length | words |  | -10.0 (-20.0 to -5.0) * |",
    ]


def test_a_table_of_other_weights_says_so(tmp_path: Path) -> None:
    command = "<!-- fill: summary mirage harm=harm -->x<!-- /fill -->"
    for identity, said in (("0" * 64, True), (bundled_identity(), False), ("", False)):
        text = json.dumps({"identity": identity, "summary": [{"arm": "none"}]})
        (tmp_path / "mirage.json").write_text(text)
        found = fills.fill(command, Results(tmp_path), "page.md")
        assert ("Measured on earlier weights" in found) == said
    old = Provenance(seed=0, model_identity="0" * 64)
    dated = _card().model_copy(update={"provenance": old, "model": "testbed"})
    (tmp_path / "demo.json").write_text(dated.model_dump_json())
    page = "<!-- fill: overhead demo -->x<!-- /fill --><!-- fill: config sasa -->x<!-- /fill -->"
    found = fills.fill(page, Results(tmp_path), "page.md")
    assert found.count("Measured on earlier weights") == 1
    assert "setting" in found.partition("Measured")[2]
    other = dated.model_copy(update={"model": "another"})
    (tmp_path / "demo.json").write_text(other.model_dump_json())
    assert "Measured on earlier" not in fills.fill(page, Results(tmp_path), "page.md")


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ("x=x", "95% intervals over 5 to 7 things and 1 to 2 fit seeds."),
        ("arms=a x=x", "95% intervals over 5 things and 2 fit seeds."),
        ("arms=b x=x", "95% intervals over 7 things."),
        ("y=y", "| b | 10.0% (0.0 to 20.0) |"),
    ],
)
def test_the_line_below_a_table_is_about_what_the_table_shows(
    tmp_path: Path, columns: str, said: str
) -> None:
    seen = {"value": 0.1, "low": 0.0, "high": 0.2}
    rows = [{"arm": arm, "seed": seed} for arm, seed in (("a", 0), ("a", 1), ("b", 0))]
    summary = [
        {"arm": arm, "x": {**seen, "groups": n}, "y": seen} for arm, n in (("a", 5), ("b", 7))
    ]
    (tmp_path / "it.json").write_text(json.dumps({"rows": rows, "summary": summary}))
    page = f"<!-- fill: summary it {columns} -->x<!-- /fill -->"
    assert fills.fill(page, Results(tmp_path), "page.md").splitlines()[-2] == said


def test_the_figure_shows_every_defense_and_scales_with_the_numbers() -> None:
    root = ET.fromstring(figure.render(_card()))
    texts = ["".join(node.itertext()) for node in root.iter() if node.tag.endswith("text")]
    assert {"undefended", "sasa", "71.0%", "0.4%", "1.08x"} <= set(texts)
    dots = [float(n.attrib["cx"]) for n in root.iter() if n.tag.endswith("circle")]
    assert len(dots) == 8
    assert dots[0] - figure.LEFT == pytest.approx(0.71 * figure.PANEL, abs=0.1)
    for node in root.iter():
        for name in ("x", "x1", "x2", "cx"):
            assert 0 <= float(node.attrib.get(name, 0)) <= figure.WIDTH


@pytest.mark.parametrize(
    ("docstring", "wanted"),
    [
        ("One thing.", "One thing."),
        ("One thing. And more.", "One thing."),
        ("Equal to 0.5 at\nmost. `b` is next.", "Equal to 0.5 at most."),
        ("No full stop", "No full stop"),
        ("First: then a list\n\n- a", "First: then a list"),
        (None, ""),
    ],
)
def test_the_first_sentence(docstring: str | None, wanted: str) -> None:
    assert source.first_sentence(docstring) == wanted


def test_times_without_prompts_are_left_out_of_the_table() -> None:
    card = _card()
    lines = render_overhead(card).splitlines()
    assert lines[2] == (
        "| sasa | 1.50 (1.40 to 1.60, n = 24) | 1.08 (1.06 to 1.11, n = 23) "
        "| 0.31 (0.30 to 0.33, n = 24) | 1.02 |"
    )
    none = card.overhead[0].model_copy(update={"refused_answer_ratio": None, "refused_n": 0})
    card = card.model_copy(update={"overhead": [none]})
    assert render_overhead(card).splitlines()[2].endswith("n = 23) |  | 1.02 |")


def test_a_time_over_few_prompts_has_no_interval_and_the_noise_is_named() -> None:
    card = _card()
    few = {"answer_low": None, "answer_high": None, "n": 5, "defense": "none"}
    again = card.overhead[0].model_copy(update=few)
    line = render_overhead(card.model_copy(update={"overhead": [again]})).splitlines()[2]
    assert line.startswith("| none, again | 1.50 (1.40 to 1.60, n = 24) | 1.08 (n = 5) |")


def test_a_table_says_what_its_intervals_are_over(tmp_path: Path) -> None:
    def line(groups: int) -> dict[str, Any]:
        rate = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 90, "groups": groups}
        return {"arm": "none", "seeds": [0, 1, 2], "rate": rate}

    rows = [
        {"seed": seed, "arm": "none", "cells": {"x": [["refused", False]]}} for seed in range(3)
    ]
    found = {"model": "m", "rows": rows, "summary": [line(24), line(147)]}
    (tmp_path / "bench.json").write_text(json.dumps(found))
    page = "<!-- fill: summary bench rate=rate -->x<!-- /fill -->"
    text = fills.fill(page, Results(tmp_path), "page.md")
    assert "95% intervals over 24 to 147 things and 3 fit seeds." in text


def test_a_pooled_attack_success_says_what_it_is_over() -> None:
    card = _card()
    change = card.deltas[0].model_copy(update={"metric": "attack_success_rate"})
    for attacks, wanted in (
        (["image_harm"], "all attacks"),
        ([], "all harmful requests"),
        (None, "`all`"),
    ):
        found = card.model_copy(update={"deltas": [change], "attacks": attacks})
        assert f"| attack success, {wanted} | 300 |" in render_beside(found, "sasa")


def test_the_settings_of_a_defense_are_read_from_its_source(results: Results) -> None:
    table = fills.config(results, "page.md", "sasa")
    rows = [line.split("|") for line in table.splitlines()[2:]]
    assert all(len(row) == 6 and row[4].strip() for row in rows)
    assert re.search(r"`eps`.*`1e-06`|`eps`.*`1e-6`", table)
    assert "`enabled`" in table


def test_a_setting_with_another_default_in_a_subclass_stands_once(results: Results) -> None:
    names = [line.split("|")[1] for line in fills.config(results, "page.md", "vsfa").splitlines()]
    assert len(names) == len(set(names))
    assert "| `epochs` | `3.0` |" in fills.config(results, "page.md", "vsfa")


def test_the_curve_of_the_mirage_rises_where_the_rates_do() -> None:
    def rate(value: float) -> dict[str, float]:
        return {"value": value, "low": value - 0.05, "high": value + 0.05}

    def row(rho: float, attacked: float) -> dict[str, Any]:
        cells = {
            f"{task}{suffix}": rate(attacked if suffix == "+one_word" else 0.1)
            for task, _ in dose.PANELS
            for suffix in dose.CURVES
        }
        return {"arm": f"sft, rho {rho:g}", **cells}

    drawn = dose.render([row(1.0, 0.9), {"arm": "npo"}, row(0.0, 0.2)])
    root = ET.fromstring(drawn)
    dots = [(float(n.attrib["cx"]), float(n.attrib["cy"])) for n in root.iter() if "cx" in n.attrib]
    assert len(dots) == len(dose.PANELS) * len(dose.CURVES) * 2
    assert (panels.LEFT, panels.TOP + 0.8 * panels.TALL) in dots
    right = panels.LEFT + panels.PANEL
    assert any(x == right and abs(y - panels.TOP - 20) < 0.1 for x, y in dots)
    assert "20% at 0, 90% at 1" in drawn


def test_the_dial_has_a_dot_for_every_training_seed_and_a_line_through_their_mean() -> None:
    effects = [
        {
            "cap": cap,
            "task": arm,
            "metric": metric,
            "value": value,
            "low": 0,
            "high": 1,
        }
        for cap, of_arm in (("0.05", 0.2), ("none", 0.1))
        for value in (of_arm, 3 * of_arm)
        for arm in caps.CURVES
        for metric, _ in caps.PANELS
    ]
    drawn = caps.render(effects)
    root = ET.fromstring(drawn)
    dots = [node for node in root.iter() if "cx" in node.attrib]
    assert len(dots) == len(effects)
    height = panels.TOP + 0.6 * panels.TALL
    assert f'points="{panels.LEFT + panels.PANEL / 4:.1f},{height:.1f} ' in drawn
    assert "RAI: 40% at 0.05, 20% at none" in drawn


def test_a_pair_of_blocks_stands_where_its_blocks_are() -> None:
    rates = {"block 0": 0.9, "block 3": 0.1, "pair 0 3": 0.4, "block 1": 0.2, "pair 1 3": 0.3}
    rows = [{"layers": each, "task": pairs.SIZE, "value": rate} for each, rate in rates.items()]
    rows += [{"layers": "pair 0 3", "task": "32", "value": 0.7}]
    drawn = pairs.render({"m": rows, "n": rows})
    half, bottom = pairs.SIDE / 2, pairs.TOP + pairs.SIDE
    cells = {
        (float(node.attrib["x"]), float(node.attrib["y"])): "stroke" in node.attrib
        for node in ET.fromstring(drawn).iter()
        if node.tag.endswith("rect") and "x" in node.attrib
    }
    left, right = pairs.LEFT, pairs.LEFT + half
    first = {place: framed for place, framed in cells.items() if place[0] <= right}
    assert first == {
        (left, bottom - half): True,
        (right, bottom - half): False,
        (right, pairs.TOP): True,
    }, "block 1 is off the grid of those that have pairs with block 0"
    assert len(cells) == 6
    assert ">40</text>" in drawn
    assert "the probe on m 10% to 90%, SASA on m 40% to 40%" in drawn


def test_counts_of_trials_have_the_command_that_repeats_them(tmp_path: Path) -> None:
    row = {"kind": "kills", "n": 3, "seed": 7, "tried": 3, "right": 2, "refused": 0}
    found = {"rows": [{**row, "faults": ["eval: exit code 1"]}]}
    (tmp_path / "torture.json").write_text(json.dumps(found))
    page = "<!-- fill: counts torture --><!-- /fill -->"
    filled = fills.fill(page, Results(tmp_path), "page.md")
    command = "python -m benchmarks.torture kills --n 3 --seed 7"
    assert f"| kills | 3 | 2 | 0 | 1 | `{command}` |" in filled
