"""MME: two yes-or-no questions about each picture, one with either answer.

Fu et al., 2023, arXiv 2306.13394. 2,374 questions on 14 subtasks of perception and cognition. The
authors add the share of right answers and the share of pictures with both answers right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from safesight.benchmarks.folder import Folder, Missing, cell, stored
from safesight.benchmarks.published import Benchmark
from safesight.benchmarks.spec import Spec
from safesight.data.pictures import opener
from safesight.errors import InputError, reason_of
from safesight.types import YES_NO, Sample

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["MME"]

SUBTASKS: Mapping[str, int] = {
    "existence": 60,
    "count": 60,
    "position": 60,
    "color": 60,
    "posters": 294,
    "celebrity": 340,
    "scene": 400,
    "landmark": 400,
    "artwork": 400,
    "OCR": 40,
    "commonsense_reasoning": 140,
    "numerical_calculation": 40,
    "text_translation": 40,
    "code_reasoning": 40,
}
"""Questions per subtask; the last four are cognition."""

_HUB = ("data/test-*.parquet", "test-*.parquet")
_PICTURES = (".jpg", ".png", ".jpeg")


def _read(folder: Folder) -> Iterator[Sample]:
    if folder.has(*_HUB):
        yield from _of_hub(folder)
        return
    for subtask in SUBTASKS:
        for above in ("", "MME_Benchmark/", "MME_Benchmark_release_version/MME_Benchmark/"):
            place = f"{above}{subtask}"
            patterns = (f"{place}/questions_answers_YN/*.txt", f"{place}/*.txt")
            if folder.has(*patterns):
                for path in folder.files(*patterns):
                    yield from _of_authors(path, subtask)
                break


def _of_authors(path: Path, subtask: str) -> Iterator[Sample]:
    """The questions about one picture: a line each, with the answer after a tab."""
    split = path.parent.name == "questions_answers_YN"
    image = _beside(path.parent.parent / "images" if split else path.parent, path.stem)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} cannot be read ({reason_of(error)}). Download it again."
        ) from error
    for index, line in enumerate(lines):
        question, tab, answer = line.strip().partition("\t")
        if question and not tab:
            raise InputError(f"{path}, line {index + 1}: it has no answer. Download it again.")
        if question:
            yield _sample(subtask, path.stem, index, question, answer, image)


def _beside(place: Path, stem: str) -> Callable[[], Image]:
    found = [path for ending in _PICTURES if (path := place / f"{stem}{ending}").is_file()]
    return opener(found[0]) if found else Missing(f"{place.parent.name}/{stem}.jpg")


def _of_hub(folder: Folder) -> Iterator[Sample]:
    asked: dict[str, int] = {}
    for row in folder.rows(*_HUB):
        name, subtask = cell(row, "question_id"), cell(row, "category")
        index = asked[name] = asked.get(name, -1) + 1
        question, answer = cell(row, "question"), cell(row, "answer")
        stem = Path(name).stem
        yield _sample(subtask, stem, index, question, answer, stored(row, name))


def _sample(
    subtask: str, stem: str, index: int, question: str, answer: str, image: Callable[[], Image]
) -> Sample:
    return Sample(
        id=f"mme/{subtask}/{stem}/{index}",
        question=question,
        label="benign",
        target=answer.strip().lower(),
        image=image,
        facts={
            "answer": YES_NO,
            "category": subtask,
            "group": f"{subtask}/{stem}",
            "source": "mme",
        },
    )


MME = Benchmark(
    Spec(
        name="mme",
        title="MME",
        group="utility",
        version="1",
        license="not verified; for research",
        paper="arXiv 2306.13394",
        source="https://github.com/BradyFU/Awesome-Multimodal-Large-Language-Models",
        get=(
            "ask its authors for MME_Benchmark_release_version, or take data/test-*.parquet from "
            "the hub's data set lmms-lab/MME"
        ),
        folder="mme",
        gate="the authors' archive is given out on request; the hub's copy is open",
        hub="lmms-lab/MME",
        files=("data/test-*.parquet",),
        split="test",
        counts=SUBTASKS,
        prompt="{question, which ends in: Please answer yes or no.}",
        max_new_tokens=16,
        authors_length="not fixed; lmms-eval takes 16 new tokens",
        authors_judge="the first four characters of the answer: yes, no, or neither",
        deviations=(
            "The score of 2,800 is not printed. Utility is their accuracy, over all subtasks at "
            "once, and `grouped_utility` their accuracy+, over all pictures.",
            "No sentence is added to the question, as LLaVA's evaluation does.",
        ),
        paired=True,
    ),
    _read,
)
