"""What every published benchmark promises, tested over the registry on small made files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from PIL import Image

from safesight import registry
from safesight.benchmarks import Benchmark
from safesight.benchmarks.published import DATA
from safesight.errors import InputError
from safesight.types import group_of
from tests.benchmarks.made import EACH, LAYOUTS, PUBLISHED, make
from tests.house.source import ROOT

GROUPS = {"attacks": "harmful", "over-refusal": "benign", "utility": "benign"}
MIXED = {"vlguard", "xstest"}
"""Benchmarks with requests of both labels."""


@pytest.fixture(params=LAYOUTS)
def layout(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Benchmark, Path]]:
    """Every layout, written once."""

    @cache
    def template(layout: str) -> tuple[Benchmark, Path]:
        return make(LAYOUTS[layout], tmp_path_factory.mktemp("layout"))

    return template


@pytest.fixture
def made(layout: str, templates, tmp_path: Path) -> tuple[Benchmark, Path]:
    benchmark, written = templates(layout)
    return benchmark, shutil.copytree(written, tmp_path / written.name)


@pytest.mark.parametrize("name", PUBLISHED)
def test_its_facts_are_complete(name: str) -> None:
    benchmark = registry.load("benchmark", name)
    assert isinstance(benchmark, Benchmark)
    spec = benchmark.spec
    assert spec.name == name
    assert spec.group == registry.group(name)
    stated = (spec.title, spec.version, spec.license, spec.paper, spec.source, spec.get)
    asked = (spec.prompt, spec.authors_length, spec.authors_judge, spec.deviations, spec.split)
    assert all(stated)
    assert all(asked)
    assert spec.max_new_tokens > 0
    assert spec.judge in registry.names("judge")
    assert spec.size > 0
    assert all(len(sha256) == 64 for sha256 in spec.sha256.values())
    assert bool(spec.hub) == bool(spec.files)


def test_every_benchmark_has_made_files() -> None:
    assert {layout.task for layout in LAYOUTS.values()} == set(PUBLISHED)


def test_samples_are_complete_and_deterministic(made) -> None:
    benchmark, folder = made
    samples = benchmark(folder=folder)
    assert len(samples) == benchmark.spec.size == EACH * len(benchmark.spec.counts)
    assert len({sample.id for sample in samples}) == len(samples)
    for sample in samples:
        json.dumps(dict(sample.facts))
        assert sample.question
        assert sample.facts["source"]
        assert all(isinstance(picture(), Image.Image) for picture in sample.pictures)
        assert bool(sample.target) == (benchmark.spec.group == "utility")
        if sample.shots:
            assert sample.shots[0] == sample.question
    again = benchmark(folder=folder)
    assert [(s.id, s.question, s.facts) for s in again] == [
        (s.id, s.question, s.facts) for s in samples
    ]


def test_labels_are_those_of_its_group(made) -> None:
    benchmark, folder = made
    labels = {sample.label for sample in benchmark(folder=folder)}
    expected = (
        {"harmful", "benign"} if benchmark.spec.name in MIXED else {GROUPS[benchmark.spec.group]}
    )
    assert labels == expected


def test_a_draw_keeps_the_order_and_depends_on_the_seed(made) -> None:
    benchmark, folder = made
    samples = benchmark(folder=folder)
    ids = [sample.id for sample in samples]
    group = {sample.id: group_of(sample.facts, sample.id) for sample in samples}
    n = len(ids) - 1
    draws = [[sample.id for sample in benchmark(n, seed=s, folder=folder)] for s in range(4)]
    for draw in draws:
        drawn = {group[id] for id in draw}
        assert draw == [id for id in ids if group[id] in drawn], "in order, and groups are whole"
        left = [
            sum(each == other for each in group.values()) for other in {*group.values()} - drawn
        ]
        assert len(draw) <= n < len(draw) + min(left), "no other would have found room"
    assert len({tuple(draw) for draw in draws}) > 1
    assert [sample.id for sample in benchmark(10**6, folder=folder)] == ids


def test_it_has_one_split(made) -> None:
    benchmark, folder = made
    assert benchmark(folder=folder, split=benchmark.spec.split)
    with pytest.raises(InputError, match="has no split 'fit'"):
        benchmark(folder=folder, split="fit")


def test_missing_prompts_are_counted_by_name(made) -> None:
    benchmark, folder = made
    name = next(iter(benchmark.spec.counts))
    more = replace(
        benchmark, spec=replace(benchmark.spec, counts={**benchmark.spec.counts, name: 7})
    )
    with pytest.raises(InputError) as error:
        more(folder=folder)
    assert f"{name} {EACH} of 7" in str(error.value)
    assert str(folder) in str(error.value)
    assert len(more(folder=folder, complete=False)) == benchmark.spec.size


def test_prompts_that_nobody_published_are_refused(made) -> None:
    benchmark, folder = made
    first, *others = benchmark.spec.counts
    fewer = replace(benchmark, spec=replace(benchmark.spec, counts=dict.fromkeys(others, EACH)))
    with pytest.raises(InputError, match=f"{first} {EACH} of 0"):
        fewer(folder=folder)


@pytest.mark.parametrize("layout", [name for name, each in LAYOUTS.items() if each.picture])
def test_missing_pictures_are_named_before_anything_is_asked(made, layout: str) -> None:
    benchmark, folder = made
    removed = list(folder.glob(LAYOUTS[layout].picture))
    assert removed
    for path in removed:
        path.unlink()
    with pytest.raises(InputError, match=r"lacks (1|\d+) pictures?: .*\. To get them, "):
        benchmark(folder=folder)
    kept = benchmark(folder=folder, complete=False)
    assert len(kept) < benchmark.spec.size


def test_half_a_file_is_a_user_error(made, layout: str) -> None:
    benchmark, folder = made
    table = folder / LAYOUTS[layout].table
    content = table.read_bytes()
    table.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError) as error:
        benchmark(folder=folder)
    assert str(folder) in str(error.value) or benchmark.spec.title in str(error.value)


def test_a_missing_table_is_a_user_error(made, layout: str) -> None:
    benchmark, folder = made
    (folder / LAYOUTS[layout].table).unlink()
    with pytest.raises(InputError, match=r"is not complete|There is no"):
        benchmark(folder=folder)


def test_a_changed_file_is_a_user_error(made, layout: str) -> None:
    benchmark, folder = made
    name = Path(LAYOUTS[layout].table).name
    other = replace(benchmark, spec=replace(benchmark.spec, sha256={name: "0" * 64}))
    with pytest.raises(InputError, match=rf"{name} is not the published file: its SHA-256"):
        other(folder=folder)
    assert other(folder=folder, complete=False)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_benchmark_that_is_nowhere_says_how_to_get_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    benchmark = registry.load("benchmark", name)
    monkeypatch.setenv(DATA, str(tmp_path))
    with pytest.raises(InputError, match=DATA) as error:
        benchmark()
    assert benchmark.spec.folder in str(error.value)
    with pytest.raises(InputError, match="There is no folder"):
        benchmark(folder=tmp_path / "nowhere")


def test_what_was_read_is_recorded(made, monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark, folder = made
    monkeypatch.setenv(DATA, str(folder.parent))
    about = benchmark.provenance()
    assert about["version"] == benchmark.spec.version
    assert all(len(sha256) == 64 for sha256 in about["sha256"].values())
    assert about["sha256"]
    json.dumps(about)


@pytest.mark.parametrize("name", PUBLISHED)
def test_it_has_a_card(name: str) -> None:
    folder = ROOT / "docs/benchmarks"
    cards = [
        path
        for path in folder.glob("*.md")
        if f"<!-- fill: benchmark {name} -->" in path.read_text(encoding="utf-8")
    ]
    assert len(cards) == 1
