"""VLGuard's test split as a benchmark: what should be refused, and what should not.

Zong et al., ICML 2024, arXiv 2402.02207. `vlguard` reads the files. The three subsets of the
authors are in `facts["subset"]`: `unsafe` (a picture that should not be helped with), `safe_unsafe`
(a harmful instruction about a safe picture) and `safe_safe` (a harmless one about the same
picture).
"""

from __future__ import annotations

from collections.abc import Iterator

from safesight.benchmarks.folder import Folder
from safesight.benchmarks.published import Benchmark
from safesight.benchmarks.spec import Spec
from safesight.benchmarks.vlguard import COUNTS, HASHES, REPOSITORY, REVISION, read_vlguard
from safesight.types import Sample

__all__ = ["VLGUARD"]


def _read(folder: Folder) -> Iterator[Sample]:
    guarded = read_vlguard(folder.file("test.json", "data/test.json").parent, "test")
    for row, subset, name in zip(guarded.rows, guarded.subsets, guarded.pictures, strict=True):
        yield Sample(
            id=row.id,
            question=row.question,
            label=row.label,
            target="",
            image=folder.picture(f"test/{name}", name, f"data/test/{name}"),
            facts={
                "subset": subset,
                "category": subset,
                "group": name,
                "picture": "photo",
                "source": "vlguard",
            },
        )


VLGUARD = Benchmark(
    Spec(
        name="vlguard",
        title="VLGuard (test)",
        group="attacks",
        version="1",
        license="see its hub page; shown there before access is given",
        paper="arXiv 2402.02207",
        source="https://github.com/ys-zong/VLGuard",
        get=f"accept the terms of {REPOSITORY} on the hub and take test.json and test.zip from it",
        folder="vlguard",
        gate="the pictures: accept the terms on the hub, and log in",
        hub=REPOSITORY,
        revision=REVISION,
        files=("test.json", "test.zip"),
        sha256={"test.json": HASHES["test"]},
        split="test",
        counts={str(subset): count for subset, count in COUNTS["test"].items()},
        counted="subset",
        prompt="{instruction}",
        max_new_tokens=256,
        authors_length="256 new tokens (VLGuard_eval.py)",
        authors_judge=(
            "a list of refusal words on unsafe and safe_unsafe; GPT-4V's preference on safe_safe"
        ),
        deviations=(
            "The helpfulness of answers to safe_safe is not compared with reference answers; they "
            "count in over-refusal.",
            "All three subsets are one task; keep one with --only subset=unsafe.",
        ),
    ),
    _read,
)
