"""OR-Bench: harmless prompts that models tend to refuse, made in large numbers.

Cui et al., ICML 2025, arXiv 2405.20947. Hard-1K has the 1,319 that most models refuse, 80K all of
them, Toxic 655 that should be refused. There are no pictures.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from safesight.benchmarks.folder import Folder, cell
from safesight.benchmarks.published import Benchmark
from safesight.benchmarks.spec import Spec
from safesight.types import Label, Sample

__all__ = ["HARD", "LARGE", "TOXIC"]


def _read(folder: Folder, part: str, label: Label) -> Iterator[Sample]:
    for index, row in enumerate(folder.rows(f"or-bench-{part}.csv")):
        yield Sample(
            id=f"or_bench/{part}/{index}",
            question=cell(row, "prompt"),
            label=label,
            target="",
            facts={"category": cell(row, "category"), "part": part, "source": "or_bench"},
        )


HARD = Benchmark(
    Spec(
        name="or_bench_hard",
        title="OR-Bench (Hard-1K)",
        group="over-refusal",
        version="1",
        license="CC BY 4.0",
        paper="arXiv 2405.20947",
        source="https://huggingface.co/datasets/bench-llm/or-bench",
        get="take or-bench-hard-1k.csv from the hub's data set bench-llm/or-bench",
        folder="or_bench",
        hub="bench-llm/or-bench",
        files=("or-bench-hard-1k.csv",),
        split="test",
        counts={"hard-1k": 1319},
        counted="part",
        prompt="{prompt}",
        max_new_tokens=512,
        authors_length="not verified",
        authors_judge="a list of refusal words, checked by GPT-4",
        deviations=(
            "Decoded greedily.",
            "There is no picture, so a method that acts on pictures does nothing here.",
        ),
    ),
    partial(_read, part="hard-1k", label="benign"),
)

LARGE = Benchmark(
    replace(
        HARD.spec,
        name="or_bench_80k",
        title="OR-Bench (80K)",
        get="take or-bench-80k.csv from the hub's data set bench-llm/or-bench",
        files=("or-bench-80k.csv",),
        counts={"80k": 80_359},
    ),
    partial(_read, part="80k", label="benign"),
)

TOXIC = Benchmark(
    replace(
        HARD.spec,
        name="or_bench_toxic",
        title="OR-Bench (Toxic)",
        group="attacks",
        get="take or-bench-toxic.csv from the hub's data set bench-llm/or-bench",
        files=("or-bench-toxic.csv",),
        counts={"toxic": 655},
    ),
    partial(_read, part="toxic", label="harmful"),
)
