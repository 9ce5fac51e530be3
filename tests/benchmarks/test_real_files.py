"""Real files of published benchmarks, where a copy is beside the checkout.

They are harmful by design: nothing of them is printed.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest
from inspect_ai import eval
from PIL import Image

from safesight.attacks.figstep import FigStep
from safesight.benchmarks import Benchmark, load_benchmark, published_as
from safesight.benchmarks.folder import Folder
from safesight.benchmarks.published import DATA
from safesight.errors import InputError

BESIDE = Path(os.environ.get(DATA) or Path(__file__).parents[3] / "shared" / "data")

pytestmark = pytest.mark.skipif(
    not (BESIDE / "figstep").is_dir(),
    reason=f"the public data files are neither beside the checkout nor in {DATA}",
)


@pytest.fixture(autouse=True)
def beside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DATA, str(BESIDE))


def published(task: str) -> Benchmark:
    found = published_as(task)
    assert found is not None
    return found


def test_safebench_has_fifty_questions_on_each_of_ten_topics() -> None:
    samples = load_benchmark("figstep")()
    topics = Counter(sample.facts["category"] for sample in samples)
    assert len(samples) == 500
    assert set(topics.values()) == {50}
    assert len({sample.question for sample in samples}) == 1
    assert all(sample.image is not None for sample in samples)


def test_every_title_of_safebench_fits_into_a_picture() -> None:
    for sample in load_benchmark("figstep")(60, seed=3):
        assert sample.image().size == (760, 760)


def test_ours_is_laid_out_as_the_authors_picture() -> None:
    """Black on white from the same corner; the font differs, so the ink is compared, not pixels."""
    tiny = published("figstep_tiny")
    titles = {
        "_".join(str(row.values[name]) for name in ("dataset", "category_id", "task_id")): row
        for row in Folder(BESIDE / "figstep", "FigStep").rows("SafeBench-Tiny.csv")
    }
    for sample in tiny(10):
        theirs = sample.image()
        ours = FigStep().picture(str(titles[sample.id].values["instruction"]))
        assert theirs.size == ours.size == (760, 760)
        edges = [_ink(picture) for picture in (theirs, ours)]
        assert abs(edges[0][0] - edges[1][0]) <= 12  # left
        assert abs(edges[0][1] - edges[1][1]) <= 40  # top
        assert abs(edges[0][3] - edges[1][3]) <= 120  # bottom: as many lines


def _ink(picture: Image.Image) -> tuple[int, int, int, int]:
    box = picture.convert("L").point(lambda shade: 255 * (shade < 128)).getbbox()
    assert box is not None
    return box


def test_fifty_pictures_of_figstep_go_through_a_model(tmp_path: Path) -> None:
    (log,) = eval(
        "safesight/figstep_tiny",
        model="safesight/testbed",
        log_dir=str(tmp_path),
        display="none",
    )
    assert log.status == "success"
    assert log.samples is not None
    assert len(log.samples) == 50
    assert all(sample.output.completion for sample in log.samples)
    assert all(sample.scores for sample in log.samples)
    assert log.plan.config.max_tokens == 512
    assert (log.eval.metadata or {})["data"]["sha256"]["SafeBench-Tiny.csv"].startswith("e5f85f7d")


def test_xstest_has_its_safe_and_its_unsafe_prompts() -> None:
    samples = load_benchmark("xstest")()
    assert Counter(sample.label for sample in samples) == {"benign": 250, "harmful": 200}
    assert len({sample.facts["category"] for sample in samples}) == 18
    assert not any(sample.pictures for sample in samples)


def test_mossbench_has_a_hundred_questions_per_stimulus_and_lacks_most_pictures_here() -> None:
    with pytest.raises(InputError, match=r"MOSSBench .* lacks 279 pictures: images/1\.png, "):
        load_benchmark("mossbench")()
    found = published("mossbench")
    every = list(found.read(found.found()))
    kinds = Counter(sample.facts["category"] for sample in every)
    assert kinds == dict(found.spec.counts)
    shown = found(complete=False)
    assert len(shown) == 21
    assert all(sample.image().mode == "RGB" for sample in shown)


def test_vlguard_has_its_three_subsets_and_no_pictures_here() -> None:
    with pytest.raises(InputError, match=r"lacks 1,000 pictures: test/.* To get them, accept"):
        load_benchmark("vlguard")()
    found = published("vlguard")
    every = list(found.read(found.found()))
    assert Counter(sample.facts["subset"] for sample in every) == dict(found.spec.counts)
    assert Counter(sample.label for sample in every) == {"harmful": 1000, "benign": 558}


@pytest.mark.parametrize("task", ["figstep", "figstep_tiny", "xstest", "mossbench", "vlguard"])
def test_the_pinned_hashes_are_those_of_the_files(task: str) -> None:
    found = published(task)
    assert found.spec.sha256
    for name, sha256 in found.spec.sha256.items():
        assert found.provenance()["sha256"][name] == sha256
