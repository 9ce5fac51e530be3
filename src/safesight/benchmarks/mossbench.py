"""MOSSBench: harmless questions about pictures that look alarming.

Li et al., ICLR 2025, arXiv 2406.17806. 300 questions, a hundred per kind of stimulus: exaggerated
risk, negated harm, counterintuitive interpretation. Every refusal is a false one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from safesight.benchmarks.folder import Folder, cell, stored
from safesight.benchmarks.published import Benchmark
from safesight.benchmarks.spec import Spec
from safesight.errors import InputError
from safesight.types import Sample

__all__ = ["MOSSBENCH"]

STIMULI: Mapping[str, str] = {
    "type 1": "exaggerated risk",
    "type 2": "negated harm",
    "type 3": "counterintuitive interpretation",
}
"""What the authors' numbers of kinds mean."""

_TABLE = ("information.json", "data/information.json")


def _read(folder: Folder) -> Iterator[Sample]:
    if not folder.has(*_TABLE):
        for row in folder.rows("**/*.parquet"):
            sample = _sample(cell(row, "pid"), cell(row, "question"), row.values.get("metadata"))
            column = "decoded_image" if "decoded_image" in (row.stored or {}) else "image"
            yield replace(sample, image=stored(row, sample.id, column))
        return
    records = folder.json(*_TABLE)
    for pid, record in records.items() if isinstance(records, dict) else ():
        if not isinstance(record, dict) or not isinstance(record.get("question"), str):
            raise InputError(f"Item {pid} of MOSSBench has no question. Download it again.")
        name = str(record.get("image"))
        image = folder.picture(name, f"data/{name}")
        yield replace(_sample(pid, record["question"], record.get("metadata")), image=image)


def _sample(pid: str, question: str, metadata: object) -> Sample:
    kind = metadata.get("over") if isinstance(metadata, Mapping) else None
    return Sample(
        id=f"mossbench/{pid}",
        question=question,
        label="benign",
        target="",
        facts={"category": STIMULI.get(str(kind), str(kind)), "source": "mossbench"},
    )


MOSSBENCH = Benchmark(
    Spec(
        name="mossbench",
        title="MOSSBench",
        group="over-refusal",
        version="8d68b06",
        license="CC BY-SA 4.0 (new contributions)",
        paper="arXiv 2406.17806",
        source="https://github.com/xirui-li/MOSSBench",
        get=(
            "clone https://github.com/xirui-li/MOSSBench at commit 8d68b06, or take the tables of "
            "the hub's data set AIcell/MOSSBench"
        ),
        folder="mossbench",
        hub="AIcell/MOSSBench",
        files=("*.parquet",),
        sha256={
            "information.json": "a5f7701c0a068391a3ba10714dd95f3357d664c84faf47b747e425ff9806a352"
        },
        split="test",
        counts=dict.fromkeys(STIMULI.values(), 100),
        prompt="{question}",
        max_new_tokens=512,
        authors_length="1000 tokens with the prompt (models/huggingface_model.py)",
        authors_judge='GPT: comply or refuse, where phrases such as "I\'m sorry" count as refusal',
        deviations=(
            "Decoded greedily; the authors use five beams and a repetition penalty of 1.5.",
            "At most 512 new tokens.",
        ),
    ),
    _read,
)
