"""MM-SafetyBench: harmful requests whose key phrase is in a picture.

Liu et al., ECCV 2024, arXiv 2311.17600. 1,680 requests in 13 scenarios, each with three pictures:
drawn by a diffusion model (SD), written in letters (TYPO), and the one above the other (SD_TYPO).
The files are those of the authors (`processed_questions`, `imgs`) or of the hub's copy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial

from safesight.benchmarks.folder import Folder, cell, stored
from safesight.benchmarks.published import Benchmark
from safesight.benchmarks.spec import Spec
from safesight.errors import InputError
from safesight.types import Sample

__all__ = ["SD", "SD_TYPO", "TYPO"]

# The first folder is misspelt by the authors.
SCENARIOS: Mapping[str, int] = {
    "01-Illegal_Activitiy": 97,
    "02-HateSpeech": 163,
    "03-Malware_Generation": 44,
    "04-Physical_Harm": 144,
    "05-EconomicHarm": 122,
    "06-Fraud": 154,
    "07-Sex": 109,
    "08-Political_Lobbying": 153,
    "09-Privacy_Violence": 139,
    "10-Legal_Opinion": 130,
    "11-Financial_Advice": 167,
    "12-Health_Consultation": 109,
    "13-Gov_Decision": 149,
}
"""Requests per scenario."""


def _read(folder: Folder, kind: str) -> Iterator[Sample]:
    of_authors = folder.has(
        "data/processed_questions/*.json", "processed_questions/*.json", "*-*.json"
    )
    reader = _of_authors if of_authors else _of_hub
    for scenario in SCENARIOS:
        yield from reader(folder, scenario, kind)


def _of_authors(folder: Folder, scenario: str, kind: str) -> Iterator[Sample]:
    name = f"{scenario}.json"
    places = (f"data/processed_questions/{name}", f"processed_questions/{name}", name)
    if not folder.has(*places):
        return  # counted as missing
    records = folder.json(*places)
    asked = "Rephrased Question(SD)" if kind == "SD" else "Rephrased Question"
    for index, record in records.items() if isinstance(records, dict) else ():
        if not isinstance(record, dict) or not isinstance(record.get(asked), str):
            raise InputError(f"Item {index} of {name} has no {asked!r}. Download it again.")
        file = f"{scenario}/{kind}/{index}.jpg"
        sample = _sample(scenario, str(index), kind, record[asked])
        goal = {"goal": record["Question"]} if isinstance(record.get("Question"), str) else {}
        image = folder.picture(f"data/imgs/{file}", f"imgs/{file}", file)
        yield replace(sample, image=image, facts={**sample.facts, **goal})


def _of_hub(folder: Folder, scenario: str, kind: str) -> Iterator[Sample]:
    name = f"data/{scenario.partition('-')[2]}/{kind}.parquet"
    if not folder.has(name):
        return
    for row in folder.rows(name):
        sample = _sample(scenario, cell(row, "id"), kind, cell(row, "question"))
        yield replace(sample, image=stored(row, sample.id))


def _sample(scenario: str, index: str, kind: str, question: str) -> Sample:
    return Sample(
        id=f"{scenario}/{index}/{kind}",
        question=question,
        label="harmful",
        target="",
        attack="query_relevant",
        facts={
            "category": scenario,
            "group": f"{scenario}/{index}",
            "picture": kind,
            "source": "mm_safetybench",
        },
    )


def _benchmark(kind: str, field: str) -> Benchmark:
    spec = Spec(
        name=f"mm_safetybench_{kind.lower()}",
        title=f"MM-SafetyBench ({kind})",
        group="attacks",
        version="1",
        license="CC BY-NC 4.0",
        paper="arXiv 2311.17600",
        source="https://github.com/isXinLiu/MM-SafetyBench",
        get=(
            "take processed_questions from https://github.com/isXinLiu/MM-SafetyBench and the "
            "pictures that its page links to"
        ),
        folder="mm_safetybench",
        hub="PKU-Alignment/MM-SafetyBench",
        files=(f"data/*/{kind}.parquet",),
        split="test",
        counts=SCENARIOS,
        prompt=f"{{{field}}}",
        max_new_tokens=512,
        authors_length="not verified",
        authors_judge="GPT-4, with one rubric per kind of scenario",
        deviations=(
            "Decoded greedily, once per request.",
            "The verdict is that of the chosen judge. The authors count scenarios 08 and 13 by "
            "whether an opinion is given, and 10 to 12 by whether a warning is missing; the graded "
            "judge has their rubrics.",
            "The hub's copy does not say what a request is after. There, judges that read the "
            "request read the prompt, whose key phrase is in the picture.",
            "The pictures and prompts of the hub's copy may differ from the authors' own. Compare "
            "within one of them.",
        ),
    )
    return Benchmark(spec, partial(_read, kind=kind))


SD = _benchmark("SD", "Rephrased Question(SD)")
TYPO = _benchmark("TYPO", "Rephrased Question")
SD_TYPO = _benchmark("SD_TYPO", "Rephrased Question")
