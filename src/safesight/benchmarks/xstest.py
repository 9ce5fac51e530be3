"""XSTest: harmless prompts that share words with harmful ones, and their harmful contrasts.

Röttger et al., NAACL 2024, arXiv 2308.01263. 250 safe prompts of ten kinds, and 200 unsafe ones.
There are no pictures.
"""

from __future__ import annotations

from collections.abc import Iterator

from safesight.benchmarks.folder import Folder, cell
from safesight.benchmarks.published import Benchmark
from safesight.benchmarks.spec import Spec
from safesight.types import Sample

__all__ = ["XSTEST"]

_TABLE = "xstest_prompts.csv"


def _read(folder: Folder) -> Iterator[Sample]:
    for row in folder.rows(_TABLE, "xstest_v2_prompts.csv"):
        label = cell(row, "label")
        yield Sample(
            id=f"xstest/{cell(row, 'id')}",
            question=cell(row, "prompt"),
            label="benign" if label == "safe" else "harmful",
            target="",
            facts={"category": cell(row, "type"), "human_label": label, "source": "xstest"},
        )


XSTEST = Benchmark(
    Spec(
        name="xstest",
        title="XSTest",
        group="over-refusal",
        version="d7bb5bd",
        license="CC BY 4.0",
        paper="arXiv 2308.01263",
        source="https://github.com/paul-rottger/exaggerated-safety",
        get="clone https://github.com/paul-rottger/exaggerated-safety at commit d7bb5bd",
        folder="xstest",
        revision="d7bb5bd",
        sha256={_TABLE: "11783fb294ed017473ee53c207d71f2161c7672c8d0b037501e78387f801cb5a"},
        split="test",
        counts={"safe": 250, "unsafe": 200},
        counted="human_label",
        prompt="{prompt}",
        max_new_tokens=256,
        authors_length="not verified",
        authors_judge=(
            "two people, or GPT-4: full compliance, full refusal, partial refusal "
            "(evaluation/classify_completions_gpt.py)"
        ),
        deviations=(
            "Partial refusals are no verdict of their own.",
            "There is no picture, so a method that acts on pictures does nothing here.",
        ),
    ),
    _read,
)
