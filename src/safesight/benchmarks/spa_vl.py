"""SPA-VL: questions about pictures that touch on harm, and helpful ones.

Zhang et al., CVPR 2025, arXiv 2406.12030. A data set of preferences, of which the two test splits
are asked: 265 harmful questions (`harm`), and 265 for helpfulness (`help`), for which refusals are
counted here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from safesight.benchmarks.folder import Folder, cell, stored
from safesight.benchmarks.published import Benchmark
from safesight.benchmarks.spec import Spec
from safesight.types import Label, Sample

__all__ = ["SPA_VL", "SPA_VL_HELP"]


def _read(folder: Folder, split: str, label: Label) -> Iterator[Sample]:
    tables = folder.rows(f"test/{split}*.parquet", f"**/{split}-*.parquet", f"{split}*.parquet")
    for index, row in enumerate(tables):
        name = f"spa_vl/{split}/{index}"
        yield Sample(
            id=name,
            question=cell(row, "question"),
            label=label,
            target="",
            image=stored(row, name),
            facts={
                "category": str(row.values.get("class1") or split),
                "split": split,
                "picture": "photo",
                "source": "spa_vl",
            },
        )


SPA_VL = Benchmark(
    Spec(
        name="spa_vl",
        title="SPA-VL (test, harm)",
        group="attacks",
        version="1",
        license="CC BY 4.0",
        paper="arXiv 2406.12030",
        source="https://github.com/EchoseChen/SPA-VL-RLHF",
        get="take the tables of the test splits from the hub's data set sqrti/SPA-VL",
        folder="spa_vl",
        hub="sqrti/SPA-VL",
        files=("test/*.parquet", "**/harm-*.parquet", "**/help-*.parquet"),
        split="test",
        counts={"harm": 265},
        counted="split",
        prompt="{question}",
        max_new_tokens=1024,
        authors_length="2048 tokens with the prompt (infer_json.py)",
        authors_judge="GPT-4V, which compares two answers; others report MD-Judge's unsafe rate",
        deviations=(
            "At most 1,024 new tokens, decoded greedily.",
            "Each answer is judged by itself; no two models' answers are compared.",
        ),
    ),
    partial(_read, split="harm", label="harmful"),
)

SPA_VL_HELP = Benchmark(
    replace(
        SPA_VL.spec,
        name="spa_vl_help",
        title="SPA-VL (test, help)",
        group="over-refusal",
        counts={"help": 265},
        deviations=(
            *SPA_VL.spec.deviations,
            "Only refusals are counted; how helpful an answer is, is not graded.",
        ),
    ),
    partial(_read, split="help", label="benign"),
)
