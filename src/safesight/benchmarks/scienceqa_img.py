"""ScienceQA-IMG: the questions of ScienceQA's test split that have a picture.

Lu et al., NeurIPS 2022, arXiv 2209.09513. 2,017 multiple-choice questions from school science.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from safesight.benchmarks.choices import LETTERS, options
from safesight.benchmarks.folder import Folder, cell, stored
from safesight.benchmarks.published import Benchmark
from safesight.benchmarks.spec import Spec
from safesight.errors import InputError
from safesight.types import LETTER, Sample

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["SCIENCEQA_IMG"]

_HUB = ("ScienceQA-IMG/test-*.parquet", "data/test-*.parquet", "test-*.parquet")


def _read(folder: Folder) -> Iterator[Sample]:
    if folder.has(*_HUB):
        for index, row in enumerate(folder.rows(*_HUB)):
            if "image" in (row.stored or {}):
                name = str(row.values.get("id") or index)
                cell(row, "question")
                yield _sample(name, row.values, stored(row, name))
        return
    problems = folder.json("problems.json", "data/scienceqa/problems.json")
    splits = folder.json("pid_splits.json", "data/scienceqa/pid_splits.json")
    for pid in splits.get("test", ()) if isinstance(splits, dict) else ():
        problem = problems.get(pid) if isinstance(problems, dict) else None
        if not isinstance(problem, dict):
            raise InputError(f"Problem {pid} of ScienceQA is missing. Download it again.")
        if problem.get("image"):
            file = f"test/{pid}/{problem['image']}"
            yield _sample(str(pid), problem, folder.picture(f"images/{file}", file))


def _sample(pid: str, problem: Mapping[str, Any], image: Callable[[], Image]) -> Sample:
    given, answer, asked = (problem.get(name) for name in ("choices", "answer", "question"))
    choices = [str(choice) for choice in given] if isinstance(given, list | tuple) else []
    if not isinstance(answer, int) or not 0 <= answer < len(choices):
        raise InputError(f"Problem {pid} of ScienceQA has no right choice. Download it again.")
    if not isinstance(asked, str):
        raise InputError(f"Problem {pid} of ScienceQA has no question. Download it again.")
    hint = str(problem.get("hint") or "").strip()
    context = f"Context: {hint}\n" if hint else ""
    return Sample(
        id=f"scienceqa_img/{pid}",
        question=(
            f"{context}{asked.strip()}\n{options(choices)}\n"
            "Answer with the option's letter from the given choices directly."
        ),
        label="benign",
        target=LETTERS[answer],
        image=image,
        facts={
            "answer": LETTER,
            "choices": choices,
            "category": str(problem.get("subject") or ""),
            "source": "scienceqa_img",
        },
    )


SCIENCEQA_IMG = Benchmark(
    Spec(
        name="scienceqa_img",
        title="ScienceQA-IMG (test)",
        group="utility",
        version="1",
        license="CC BY-NC-SA 4.0 (not verified)",
        paper="arXiv 2209.09513",
        source="https://github.com/lupantech/ScienceQA",
        get=(
            "take problems.json, pid_splits.json and the pictures of the test split from "
            "https://github.com/lupantech/ScienceQA"
        ),
        folder="scienceqa",
        hub="lmms-lab/ScienceQA",
        files=("ScienceQA-IMG/test-*.parquet",),
        split="test",
        counts={"scienceqa_img": 2017},
        counted="source",
        prompt=(
            "Context: {hint}\n{question}\nA. {choice}\nB. {choice}\n...\n"
            "Answer with the option's letter from the given choices directly."
        ),
        max_new_tokens=16,
        authors_length="512 tokens for GPT-3 with reasoning; lmms-eval takes 16 new tokens",
        authors_judge="the letter of the answer",
        deviations=(
            "The authors' prompts are few-shot prompts for language models; this is the prompt of "
            "LLaVA's evaluation, without examples and without reasoning.",
            "A letter counts wherever it is stated as the answer, not at the beginning alone.",
        ),
    ),
    _read,
)
