"""MM-Vet: open questions that need several abilities at once, with reference answers.

Yu et al., ICML 2024, arXiv 2308.02490. 218 questions. A reference may have parts that all have to
be there ("<AND>") or of which one is enough ("<OR>"). Only a grader can tell whether an answer is
right, so utility is counted with a judge that grades, and with no other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from safesight.benchmarks.folder import Folder, cell, stored
from safesight.benchmarks.published import Benchmark
from safesight.benchmarks.spec import Spec
from safesight.errors import InputError
from safesight.types import GRADED, Sample

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["MM_VET"]

_TABLE = ("mm-vet.json", "mm-vet/mm-vet.json")
_HUB = ("data/test-*.parquet", "test-*.parquet")


def _read(folder: Folder) -> Iterator[Sample]:
    if folder.has(*_HUB):
        for row in folder.rows(*_HUB):
            name = cell(row, "question_id")
            image = stored(row, name)
            yield _sample(name, cell(row, "question"), cell(row, "answer"), image, row.values)
        return
    records = folder.json(*_TABLE)
    for name, record in records.items() if isinstance(records, dict) else ():
        fields = ("question", "answer", "imagename")
        if not isinstance(record, dict) or not all(field in record for field in fields):
            raise InputError(
                f"{name} of MM-Vet lacks one of {', '.join(fields)}. Download it again."
            )
        picture = str(record["imagename"])
        image = folder.picture(f"images/{picture}", f"mm-vet/images/{picture}")
        yield _sample(name, str(record["question"]), str(record["answer"]), image, record)


def _sample(
    name: str, question: str, answer: str, image: Callable[[], Image], fields: Mapping[str, Any]
) -> Sample:
    abilities = fields.get("capability")
    named = abilities if isinstance(abilities, str) else ",".join(abilities or ())
    return Sample(
        id=f"mm_vet/{name}",
        question=question,
        label="benign",
        target=answer,
        image=image,
        facts={"answer": GRADED, "category": named, "source": "mm_vet"},
    )


MM_VET = Benchmark(
    Spec(
        name="mm_vet",
        title="MM-Vet",
        group="utility",
        version="1",
        license="for non-commercial research and education (LICENSE_DATASET)",
        paper="arXiv 2308.02490",
        source="https://github.com/yuweihao/MM-Vet",
        get="unpack mm-vet.zip of the releases of https://github.com/yuweihao/MM-Vet",
        folder="mm_vet",
        hub="lmms-lab/MMVet",
        files=("data/test-*.parquet",),
        split="test",
        counts={"mm_vet": 218},
        counted="source",
        prompt="{question}",
        max_new_tokens=1024,
        authors_length="not fixed; LLaVA's evaluation takes 1024 new tokens",
        authors_judge="GPT-4 (0613), a score from 0.0 to 1.0",
        deviations=(
            "Decoded greedily.",
            "The judge `graded` says right or wrong, not a score between, and in words of its own; "
            "any other judge leaves utility out and counts refusals alone.",
            "From the hub, the copy of lmms-lab is read, not the authors' archive.",
        ),
    ),
    _read,
)
