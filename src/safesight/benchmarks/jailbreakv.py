"""JailBreakV-28K: attacks on language models and on pictures, each with a picture.

Luo et al., COLM 2024, arXiv 2404.03027. 20,000 prompts that were written to break a language model
(Template, Persuade, Logic), with a picture that has nothing to do with them, and 8,000 that act
through the picture (figstep, SD, typo, SD_typo). All come from 2,000 red-team queries, and those
that share one are a group.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial

from safesight.benchmarks.folder import Folder, cell
from safesight.benchmarks.published import Benchmark
from safesight.benchmarks.spec import Spec
from safesight.types import Sample

__all__ = ["JAILBREAKV", "JAILBREAKV_MINI"]

_WRITTEN = ("Template", "Persuade", "Logic")
"""Formats of attacks that were written for language models."""

COUNTS: Mapping[str, int] = {"text": 20_000, "picture": 8_000}
"""Prompts by where the attack is."""


def _read(folder: Folder, table: str) -> Iterator[Sample]:
    for index, row in enumerate(folder.rows(f"JailBreakV_28K/{table}", table)):
        form, goal = cell(row, "format"), cell(row, "redteam_query")
        picture = cell(row, "image_path")
        yield Sample(
            id=f"jailbreakv/{index}",
            question=cell(row, "jailbreak_query"),
            label="harmful",
            target="",
            image=folder.picture(f"JailBreakV_28K/{picture}", picture),
            attack=form,
            facts={
                "category": cell(row, "policy"),
                "goal": goal,
                "group": hashlib.sha256(goal.encode()).hexdigest()[:12],
                "acts": "text" if form in _WRITTEN else "picture",
                "picture": picture.partition("/")[0],
                "source": "jailbreakv",
            },
        )


JAILBREAKV = Benchmark(
    Spec(
        name="jailbreakv",
        title="JailBreakV-28K",
        group="attacks",
        version="1",
        license="MIT (not verified)",
        paper="arXiv 2404.03027",
        source="https://github.com/EddyLuo1232/JailBreakV_28K",
        get=(
            "take JailBreakV_28K.csv and its folders of pictures from the hub's data set "
            "JailbreakV-28K/JailBreakV-28k"
        ),
        folder="jailbreakv",
        hub="JailbreakV-28K/JailBreakV-28k",
        files=("JailBreakV_28K/*",),
        split="test",
        counts=COUNTS,
        counted="acts",
        prompt="{jailbreak_query}",
        max_new_tokens=512,
        authors_length="not verified",
        authors_judge="Llama Guard, first generation",
        deviations=(
            "Decoded greedily, once per prompt.",
            "The verdict is that of the chosen judge. Name its generation if it is Llama Guard.",
            "RedTeam-2K alone has no attack in it and is not part of the task.",
        ),
    ),
    partial(_read, table="JailBreakV_28K.csv"),
)

JAILBREAKV_MINI = Benchmark(
    replace(
        JAILBREAKV.spec,
        name="jailbreakv_mini",
        title="JailBreakV-28K (mini)",
        counts={"jailbreakv": 280},
        counted="source",
    ),
    partial(_read, table="mini_JailBreakV_28K.csv"),
)
