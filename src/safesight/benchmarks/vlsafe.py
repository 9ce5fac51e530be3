"""VLSafe: harmful questions about harmless photographs.

Chen et al., CVPR 2024 (DRESS), arXiv 2311.10081. 1,110 questions of the file for examination, each
about a photograph of COCO's train2017, which has to be there already.
"""

from __future__ import annotations

from collections.abc import Iterator

from safesight.benchmarks.folder import Folder, cell
from safesight.benchmarks.published import Benchmark
from safesight.benchmarks.spec import Spec
from safesight.types import Sample

__all__ = ["VLSAFE"]

_TABLE = "VLSafe_harmlessness_examine.jsonl"


def _read(folder: Folder) -> Iterator[Sample]:
    for index, row in enumerate(folder.rows(f"VLSafe/{_TABLE}", _TABLE)):
        name = cell(row, "image_id")
        yield Sample(
            id=f"vlsafe/{index}",
            question=cell(row, "query"),
            label="harmful",
            target="",
            image=folder.picture(f"train2017/{name}", f"images/train2017/{name}", name),
            facts={"group": name, "picture": "photo", "source": "vlsafe"},
        )


VLSAFE = Benchmark(
    Spec(
        name="vlsafe",
        title="VLSafe (examine)",
        group="attacks",
        version="1",
        license="not verified; the photographs are under COCO's terms",
        paper="arXiv 2311.10081",
        source="https://huggingface.co/datasets/YangyiYY/LVLM_NLF",
        get=(
            f"take VLSafe/{_TABLE} from the hub's data set YangyiYY/LVLM_NLF, and put COCO's "
            "train2017 next to it"
        ),
        folder="vlsafe",
        split="test",
        counts={"vlsafe": 1110},
        counted="source",
        prompt="{query}",
        max_new_tokens=1024,
        authors_length="not verified; ECSO's code takes 1024 new tokens",
        authors_judge="GPT-4 (in ECSO's code: yes or no, strictly)",
        deviations=(
            "Decoded greedily.",
            "The photographs cannot be downloaded by safesight: they are COCO's.",
        ),
    ),
    _read,
)
