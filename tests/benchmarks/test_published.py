"""A published benchmark: where its files come from, what is refused, and what is drawn."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError

from safesight.benchmarks import Benchmark, load_benchmark, published_as
from safesight.benchmarks.folder import Folder, Missing
from safesight.benchmarks.mme import MME
from safesight.benchmarks.published import DATA
from safesight.benchmarks.vlguard import REVISION
from safesight.benchmarks.vlguard_test import VLGUARD
from safesight.errors import InputError
from safesight.types import Sample
from safesight.workflows.evaluation import Evaluation, evaluate
from tests.benchmarks.made import LAYOUTS, make, png, put, small


def of_ids(*ids: str, **facts: Any) -> Benchmark:
    """A benchmark whose samples have these ids."""

    def read(folder: Folder) -> Iterator[Sample]:
        for id in ids:
            group = {"group": id.partition("/")[0]} if "/" in id else {}
            yield Sample(id, "what?", "benign", "", facts={"source": "x", **group, **facts})

    spec = replace(MME.spec, counts={"x": len(ids)}, counted="source")
    return Benchmark(spec, read)


def test_an_id_that_comes_twice_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"more than one prompt with each of these ids: b\."):
        of_ids("a", "b", "b")(folder=tmp_path)


def test_samples_of_a_group_are_drawn_together(tmp_path: Path) -> None:
    paired = of_ids(*[f"{picture}/{question}" for picture in range(20) for question in range(2)])
    for seed in range(5):
        groups = Counter(s.facts["group"] for s in paired(10, seed=seed, folder=tmp_path))
        assert set(groups.values()) == {2}


@pytest.mark.parametrize(("n", "drawn"), [(3, 2), (1, 1), (40, 40)])
def test_a_limit_leaves_groups_whole_where_it_can(tmp_path: Path, n: int, drawn: int) -> None:
    paired = of_ids(*[f"{picture}/{question}" for picture in range(20) for question in range(2)])
    assert len(paired(n, folder=tmp_path)) == drawn


@pytest.mark.parametrize("layout", ["mme, hub", "mm_vet, hub", "vlguard"])
def test_it_comes_from_the_hub_at_its_revision(
    layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    benchmark, written = make(LAYOUTS[layout], tmp_path)
    snapshot = tmp_path / "snapshots" / "abc123"
    snapshot.parent.mkdir()
    written.rename(snapshot)
    asked: list[Any] = []

    def download(repository: str, **options: Any) -> str:
        asked.append((repository, options))
        return str(snapshot)

    monkeypatch.delenv(DATA, raising=False)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert len(benchmark()) == benchmark.spec.size
    spec = benchmark.spec
    assert asked == [
        (
            spec.hub,
            {
                "repo_type": "dataset",
                "revision": spec.revision or None,
                "allow_patterns": list(spec.files),
            },
        )
    ]
    assert benchmark.provenance()["revision"] == (spec.revision or "abc123")


def test_vlguard_is_pinned() -> None:
    assert VLGUARD.spec.revision == REVISION
    assert VLGUARD.spec.gate


class _Gated(GatedRepoError):
    def __init__(self) -> None:
        Exception.__init__(self, "gated")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (_Gated(), r"is gated\. Accept the terms"),
        (LocalEntryNotFoundError("no"), rf"cannot be downloaded .*folder vlguard .* {DATA}"),
        (OSError("no"), r"cannot be downloaded from the hub \(OSError\)"),
    ],
)
def test_what_the_hub_refuses_is_a_sentence(
    error: Exception, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.delenv(DATA, raising=False)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(InputError, match=said):
        VLGUARD()


def test_a_missing_picture_cannot_be_opened() -> None:
    with pytest.raises(InputError, match=r"The picture 'a\.png' is missing"):
        Missing("a.png")()


def test_a_damaged_archive_and_half_a_picture_are_user_errors(tmp_path: Path) -> None:
    benchmark, folder = make(LAYOUTS["vlguard"], tmp_path)
    packed = (folder / "test.zip").read_bytes()
    put(folder / "test.zip", packed[: len(packed) // 2])
    with pytest.raises(InputError, match=r"test\.zip is damaged"):
        benchmark(folder=folder)
    benchmark, folder = make(LAYOUTS["vlsafe"], tmp_path)
    picture = folder / LAYOUTS["vlsafe"].picture
    put(picture, picture.read_bytes()[:40])
    with pytest.raises(InputError, match=r"00001\.jpg"):
        [sample.image() for sample in benchmark(folder=folder) if sample.image]


@pytest.mark.parametrize("name", ["../../secret.jpg", "/etc/secret.jpg", "a/../../b.png"])
def test_a_picture_outside_the_folder_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="names a picture outside its folder"):
        Folder(tmp_path, "Mine").picture(name)


def test_a_text_in_another_encoding_is_a_user_error(tmp_path: Path) -> None:
    benchmark, folder = make(LAYOUTS["mme"], tmp_path)
    put(folder / LAYOUTS["mme"].table, "Is it caf\u00e9?\tYes\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"0\.txt cannot be read"):
        benchmark(folder=folder)


def test_a_row_without_a_column_is_named(tmp_path: Path) -> None:
    benchmark, folder = make(LAYOUTS["xstest"], tmp_path)
    table = folder / LAYOUTS["xstest"].table
    put(table, table.read_text(encoding="utf-8").replace("prompt,", "text,", 1))
    with pytest.raises(InputError, match="line 2 has no prompt"):
        benchmark(folder=folder)


def test_a_published_benchmark_can_be_attacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, folder = make(LAYOUTS["or_bench_toxic"], tmp_path)
    monkeypatch.setenv(DATA, str(tmp_path))
    plain = published_as("or_bench_toxic+prefill")
    assert plain is not None
    found = load_benchmark("or_bench_toxic+prefill")(folder=folder, complete=False)
    assert {sample.prefill for sample in found} == {"Sure,"}
    drawn = load_benchmark("or_bench_toxic+figstep")(folder=folder, complete=False)
    assert all(sample.image().size == (760, 760) for sample in drawn)


def test_an_incomplete_benchmark_is_refused_before_a_model_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(monkeypatch, tmp_path, LAYOUTS["vlsafe"])
    next((tmp_path / "vlsafe/train2017").iterdir()).unlink()
    wanted = Evaluation("nosuch/model", ["none"], ["vlsafe"], tmp_path / "logs")
    with pytest.raises(InputError, match=r"lacks 1 picture: train2017/"):
        evaluate(wanted)
    assert not (tmp_path / "logs").exists()


def test_a_stray_copy_is_not_the_picture_of_the_last_step(tmp_path: Path) -> None:
    benchmark, folder = make(LAYOUTS["hades"], tmp_path)
    scenario = next(iter(benchmark.spec.counts))
    place = folder / "dataset/black_box/images" / scenario / "0"
    put(place / "concat_opt_10_copy.jpg", png(77))
    shown = benchmark(folder=folder)[0].image
    assert shown is not None
    assert shown().getpixel((0, 0))[0] == 10  # type: ignore[index]


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ({"question": None}, "has no question"),
        ({"choices": 3}, "has no right choice"),
        ({"answer": 9}, "has no right choice"),
    ],
)
def test_a_damaged_problem_is_a_user_error(
    tmp_path: Path, damage: dict[str, object], says: str
) -> None:
    benchmark, folder = make(LAYOUTS["scienceqa_img"], tmp_path)
    problems = json.loads((folder / "problems.json").read_text())
    problems["0"] |= damage
    (folder / "problems.json").write_text(json.dumps(problems))
    with pytest.raises(InputError, match=f"Problem 0 of ScienceQA {says}"):
        benchmark(folder=folder)
