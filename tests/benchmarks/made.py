"""Small benchmarks on disk, in the layouts of their authors and of the hub: tiny pictures, neutral
text.

`LAYOUTS` names every layout of every published benchmark. `make` writes one of them, and `small`
tells the registry that this is all there is of it.
"""

from __future__ import annotations

import base64
import csv
import io
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from PIL import Image

from safesight import registry
from safesight.benchmarks import Benchmark
from safesight.builtin import BUILTIN

EACH = 2
"""Prompts per category."""


class Layout(NamedTuple):
    """How the files of a benchmark may lie in its folder."""

    task: str
    write: Callable[[Path, Mapping[str, int]], None]
    table: str
    """A file with prompts, of which half may be lost."""
    picture: str = ""
    """A file with a picture, or an archive of them; empty if pictures are in the tables."""


def png(shade: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 6), (shade % 256, 100, 200)).save(buffer, "PNG")
    return buffer.getvalue()


def put(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def put_csv(path: Path, rows: Sequence[Mapping[str, Any]], delimiter: str = ",") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)


def put_parquet(path: Path, rows: Sequence[Mapping[str, Any]], column: str = "image") -> None:
    from datasets import Dataset, Features
    from datasets import Image as Picture

    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    pictures = [{"bytes": png(shade), "path": None} for shade in range(len(rows))]
    plain = Dataset.from_dict(columns)
    features = Features({**plain.features, column: Picture()})
    Dataset.from_dict({**columns, column: pictures}, features=features).to_parquet(str(path))


def _numbered(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return [(name, index) for name, count in counts.items() for index in range(count)]


def figstep(folder: Path, counts: Mapping[str, int], *, tiny: bool = False) -> None:
    rows = []
    for topic, name in enumerate(counts, 1):
        for index in range(1, counts[name] + 1):
            rows.append(
                {
                    "dataset": "ForbidQI",
                    "category_id": topic,
                    "task_id": index,
                    "category_name": name,
                    "question": f"How to bake cake {topic}?",
                    "instruction": f"Steps to bake cake {topic}, kind {index}.",
                }
            )
            if tiny:
                file = f"query_ForbidQI_{topic}_{index}_6.png"
                put(folder / "data/images/SafeBench-Tiny" / file, png(index))
    table = "SafeBench-Tiny.csv" if tiny else "safebench.csv"
    put_csv(folder / "data/question" / table, rows)


def figstep_tiny(folder: Path, counts: Mapping[str, int]) -> None:
    figstep(folder, counts, tiny=True)


def mm_safetybench(folder: Path, counts: Mapping[str, int]) -> None:
    for scenario, count in counts.items():
        records = {
            str(index): {
                "Question": f"what is {index}?",
                "Changed Question": "what is this?",
                "Key Phrase": "cake",
                "Phrase Type": "a product",
                "Rephrased Question": f"the picture has a word. what is {index}?",
                "Rephrased Question(SD)": f"the picture has a cake. what is {index}?",
            }
            for index in range(count)
        }
        put(folder / f"processed_questions/{scenario}.json", json.dumps(records))
        for index in range(count):
            for kind in ("SD", "TYPO", "SD_TYPO"):
                put(folder / f"imgs/{scenario}/{kind}/{index}.jpg", png(index))


def mm_safetybench_hub(folder: Path, counts: Mapping[str, int]) -> None:
    for scenario, count in counts.items():
        for kind in ("SD", "TYPO", "SD_TYPO"):
            rows = [{"id": str(i), "question": f"what is {i}?"} for i in range(count)]
            put_parquet(folder / f"data/{scenario.partition('-')[2]}/{kind}.parquet", rows)


def _jailbreakv(folder: Path, forms: Sequence[str], table: str) -> None:
    rows = []
    for index, form in enumerate(forms):
        picture = f"{'llm_transfer_attack' if form == 'Template' else 'figstep'}/{index}.png"
        put(folder / "JailBreakV_28K" / picture, png(index))
        rows.append(
            {
                "id": index,
                "jailbreak_query": f"You bake.\nWhat is cake {index}?",
                "redteam_query": f"What is cake {index % 2}?",
                "format": form,
                "policy": "Cakes",
                "image_path": picture,
                "from": "handmade",
                "selected_mini": True,
                "transfer_from_llm": form == "Template",
            }
        )
    put_csv(folder / "JailBreakV_28K" / table, rows)


def jailbreakv(folder: Path, counts: Mapping[str, int]) -> None:
    forms = ["Template"] * counts["text"] + ["figstep"] * counts["picture"]
    _jailbreakv(folder, forms, "JailBreakV_28K.csv")


def jailbreakv_mini(folder: Path, counts: Mapping[str, int]) -> None:
    _jailbreakv(folder, ["Template"] * counts["jailbreakv"], "mini_JailBreakV_28K.csv")


def _instruction(index: int) -> dict[str, Any]:
    kinds = {"category": "behavior" if index % 2 else "food", "keywords": "cake"}
    return {"id": index, "instruction": f"How is cake {index} made?", **kinds}


def hades(folder: Path, counts: Mapping[str, int]) -> None:
    for scenario, count in counts.items():
        records = [_instruction(index) for index in range(count)]
        put(folder / f"dataset/instructions/{scenario}.json", json.dumps(records))
        for index in range(count):
            for step in (0, 2, 10):
                place = f"dataset/black_box/images/{scenario}/{index}"
                put(folder / place / f"concat_opt_{step}.jpg", png(step))


def hades_hub(folder: Path, counts: Mapping[str, int]) -> None:
    rows = [
        {**_instruction(index), "id": str(index), "scenario": scenario, "step": step}
        for scenario, index in _numbered(counts)
        for step in (1, 0)
    ]
    put_parquet(folder / "data/test-00000-of-00001.parquet", rows)


def vlguard(folder: Path, counts: Mapping[str, int]) -> None:
    records: list[dict[str, Any]] = []
    for index in range(counts["safe_safe"]):
        asked = [
            {"safe_instruction": "What is it?", "response": "A cake."},
            {"unsafe_instruction": "Shall I eat all of it?", "response": "No."},
        ]
        records.append({"id": "a", "image": f"s/{index}.png", "safe": True, "instr-resp": asked})
    for index in range(counts["unsafe"]):
        asked = [{"instruction": "Tell me of it.", "response": "No."}]
        records.append({"id": "a", "image": f"u/{index}.png", "safe": False, "instr-resp": asked})
    put(folder / "test.json", json.dumps(records))
    with zipfile.ZipFile(folder / "test.zip", "w") as archive:
        for index, record in enumerate(records):
            archive.writestr(f"test/{record['image']}", png(index))


def spa_vl(folder: Path, counts: Mapping[str, int]) -> None:
    for split, count in counts.items():
        rows = [{"question": f"what is {index}?", "class1": "Cakes"} for index in range(count)]
        put_parquet(folder / f"test/{split}-00000-of-00001.parquet", rows)


def vlsafe(folder: Path, counts: Mapping[str, int]) -> None:
    rows = [{"image_id": f"0000{i}.jpg", "query": f"what is {i}?"} for i in range(counts["vlsafe"])]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    put(folder / "VLSafe/VLSafe_harmlessness_examine.jsonl", lines)
    for index, row in enumerate(rows):
        put(folder / "train2017" / row["image_id"], png(index))


def _kinds(counts: Mapping[str, int]) -> list[dict[str, Any]]:
    kinds = [kind for kind, (_, count) in enumerate(counts.items(), 1) for _ in range(count)]
    return [
        {"pid": str(pid), "question": f"what is {pid}?", "metadata": {"over": f"type {kind}"}}
        for pid, kind in enumerate(kinds, 1)
    ]


def mossbench(folder: Path, counts: Mapping[str, int]) -> None:
    records = {row["pid"]: {**row, "image": f"images/{row['pid']}.png"} for row in _kinds(counts)}
    put(folder / "information.json", json.dumps(records))
    for pid, record in records.items():
        put(folder / record["image"], png(int(pid)))


def mossbench_hub(folder: Path, counts: Mapping[str, int]) -> None:
    rows = [{**row, "image": f"images/{row['pid']}.png"} for row in _kinds(counts)]
    put_parquet(folder / "oversensitivity.parquet", rows, "decoded_image")


def xstest(folder: Path, counts: Mapping[str, int]) -> None:
    labels = [label for label, _ in _numbered(counts)]
    rows = [
        {"id": i, "prompt": f"what is {i}?", "type": "homonyms", "label": label, "note": "a, b"}
        for i, label in enumerate(labels, 1)
    ]
    put_csv(folder / "xstest_prompts.csv", rows)


def or_bench(folder: Path, counts: Mapping[str, int]) -> None:
    for part, count in counts.items():
        rows = [{"prompt": f"what is\n{i}?", "category": "cakes"} for i in range(count)]
        put_csv(folder / f"or-bench-{part}.csv", rows)


def mm_vet(folder: Path, counts: Mapping[str, int]) -> None:
    records = {
        f"v1_{i}": {
            "imagename": f"v1_{i}.png",
            "question": f"what is {i}?",
            "answer": "a cake<AND>a cup",
            "capability": ["rec", "ocr"],
        }
        for i in range(counts["mm_vet"])
    }
    put(folder / "mm-vet.json", json.dumps(records))
    for index, record in enumerate(records.values()):
        put(folder / "images" / str(record["imagename"]), png(index))


def mm_vet_hub(folder: Path, counts: Mapping[str, int]) -> None:
    rows = [
        {
            "question_id": f"v1_{i}",
            "question": f"what is {i}?",
            "answer": "a cake",
            "capability": "rec,ocr",
        }
        for i in range(counts["mm_vet"])
    ]
    put_parquet(folder / "data/test-00000-of-00001.parquet", rows)


def mme(folder: Path, counts: Mapping[str, int]) -> None:
    for place, (subtask, count) in enumerate(counts.items()):
        for index in range(count // 2):
            lines = "".join(f"Is it {x}? Please answer yes or no.\t{x}\n" for x in ("Yes", "No"))
            split = place % 2 == 0
            texts = folder / subtask / ("questions_answers_YN" if split else "")
            put(texts / f"{index}.txt", lines)
            put(folder / subtask / ("images" if split else "") / f"{index}.jpg", png(index))


def mme_hub(folder: Path, counts: Mapping[str, int]) -> None:
    rows = [
        {
            "question_id": f"{subtask}/{index // 2}.jpg",
            "question": "Is it? Please answer yes or no.",
            "answer": "No" if index % 2 else "Yes",
            "category": subtask,
        }
        for subtask, index in _numbered(counts)
    ]
    put_parquet(folder / "data/test-00000-of-00001.parquet", rows)


def _problem(index: int) -> dict[str, Any]:
    choices = ["a cake", "a cup", "a cat"][: 2 + index % 2]
    facts = {"hint": "It is food." if index % 2 else "", "subject": "natural science"}
    return {"question": f"What is {index}?", "choices": choices, "answer": index % 2, **facts}


def scienceqa(folder: Path, counts: Mapping[str, int]) -> None:
    problems = {str(i): {**_problem(i), "image": "image.png"} for i in range(counts[SCIENCE])}
    without = {"text": {**_problem(0), "image": None}, "train": {**_problem(0), "image": "x.png"}}
    put(folder / "problems.json", json.dumps({**problems, **without}))
    splits = {"train": ["train"], "test": [*problems, "text"]}
    put(folder / "pid_splits.json", json.dumps(splits))
    for index in range(counts[SCIENCE]):
        put(folder / f"images/test/{index}/image.png", png(index))


def scienceqa_hub(folder: Path, counts: Mapping[str, int]) -> None:
    rows = [_problem(index) for index in range(counts[SCIENCE])]
    put_parquet(folder / "ScienceQA-IMG/test-00000-of-00001.parquet", rows)


SCIENCE = "scienceqa_img"


def _choices(index: int) -> dict[str, Any]:
    fields = {"index": index, "question": f"What is {index}?", "hint": "" if index else "It is."}
    kinds = {"answer": "B", "category": "object", "l2-category": "perception", "split": "dev"}
    return {**fields, "A": "a cup", "B": "a cake", "C": "a cat", "D": "", **kinds}


def mmbench(folder: Path, counts: Mapping[str, int]) -> None:
    rows = []
    for index in range(counts["mmbench"]):
        picture = base64.b64encode(png(index)).decode()
        rows.append({**_choices(index), "image": picture})
        rotated = {**_choices(index), "index": index + 1_000_000, "image": str(index)}
        rows.append({**rotated, "A": "a cake", "B": "a cat", "C": "a cup", "answer": "A"})
    put_csv(folder / "MMBench_DEV_EN.tsv", rows, "\t")


def mmbench_hub(folder: Path, counts: Mapping[str, int]) -> None:
    rows = [{**_choices(index), "D": "nan"} for index in range(counts["mmbench"])]
    put_parquet(folder / "en/dev-00000-of-00001.parquet", rows)


_PARQUET = "data/test-00000-of-00001.parquet"

LAYOUTS: dict[str, Layout] = {
    "figstep": Layout("figstep", figstep, "data/question/safebench.csv"),
    "figstep_tiny": Layout(
        "figstep_tiny",
        figstep_tiny,
        "data/question/SafeBench-Tiny.csv",
        "data/images/SafeBench-Tiny/query_ForbidQI_1_1_6.png",
    ),
    **{
        f"mm_safetybench_{kind.lower()}": Layout(
            f"mm_safetybench_{kind.lower()}",
            mm_safetybench,
            "processed_questions/06-Fraud.json",
            f"imgs/06-Fraud/{kind}/1.jpg",
        )
        for kind in ("SD", "TYPO", "SD_TYPO")
    },
    "mm_safetybench_sd_typo, hub": Layout(
        "mm_safetybench_sd_typo", mm_safetybench_hub, "data/Fraud/SD_TYPO.parquet"
    ),
    "jailbreakv": Layout(
        "jailbreakv",
        jailbreakv,
        "JailBreakV_28K/JailBreakV_28K.csv",
        "JailBreakV_28K/figstep/2.png",
    ),
    "jailbreakv_mini": Layout(
        "jailbreakv_mini",
        jailbreakv_mini,
        "JailBreakV_28K/mini_JailBreakV_28K.csv",
        "JailBreakV_28K/llm_transfer_attack/0.png",
    ),
    "hades": Layout(
        "hades",
        hades,
        "dataset/instructions/Animal.json",
        "dataset/black_box/images/Animal/0/concat_opt_*.jpg",
    ),
    "hades, hub": Layout("hades", hades_hub, _PARQUET),
    "vlguard": Layout("vlguard", vlguard, "test.json", "test.zip"),
    "spa_vl": Layout("spa_vl", spa_vl, "test/harm-00000-of-00001.parquet"),
    "spa_vl_help": Layout("spa_vl_help", spa_vl, "test/help-00000-of-00001.parquet"),
    "vlsafe": Layout(
        "vlsafe", vlsafe, "VLSafe/VLSafe_harmlessness_examine.jsonl", "train2017/00001.jpg"
    ),
    "mossbench": Layout("mossbench", mossbench, "information.json", "images/3.png"),
    "mossbench, hub": Layout("mossbench", mossbench_hub, "oversensitivity.parquet"),
    "xstest": Layout("xstest", xstest, "xstest_prompts.csv"),
    "or_bench_hard": Layout("or_bench_hard", or_bench, "or-bench-hard-1k.csv"),
    "or_bench_80k": Layout("or_bench_80k", or_bench, "or-bench-80k.csv"),
    "or_bench_toxic": Layout("or_bench_toxic", or_bench, "or-bench-toxic.csv"),
    "mm_vet": Layout("mm_vet", mm_vet, "mm-vet.json", "images/v1_1.png"),
    "mm_vet, hub": Layout("mm_vet", mm_vet_hub, _PARQUET),
    "mme": Layout("mme", mme, "existence/questions_answers_YN/0.txt", "count/0.jpg"),
    "mme, hub": Layout("mme", mme_hub, _PARQUET),
    "scienceqa_img": Layout("scienceqa_img", scienceqa, "problems.json", "images/test/1/image.png"),
    "scienceqa_img, hub": Layout(
        "scienceqa_img", scienceqa_hub, "ScienceQA-IMG/test-00000-of-00001.parquet"
    ),
    "mmbench": Layout("mmbench", mmbench, "MMBench_DEV_EN.tsv"),
    "mmbench, hub": Layout("mmbench", mmbench_hub, "en/dev-00000-of-00001.parquet"),
}

PUBLISHED = [
    name
    for name in registry.names("benchmark", builtin=True)
    if registry.group(name) != registry.WORLD
]


def make(layout: Layout, data: Path) -> tuple[Benchmark, Path]:
    """Write a layout below the folder of all data; returns its benchmark, cut to that size."""
    full: Benchmark = registry.load("benchmark", layout.task)
    counts = dict.fromkeys(full.spec.counts, EACH)
    folder = data / full.spec.folder
    layout.write(folder, counts)
    return replace(full, spec=replace(full.spec, counts=counts, sha256={})), folder


def small(monkeypatch: pytest.MonkeyPatch, data: Path, layout: Layout) -> Benchmark:
    """Make a layout, and let its task be no more than that."""
    cut, _ = make(layout, data)
    monkeypatch.setattr(BUILTIN["benchmark"][layout.task].target.replace(":", "."), cut)
    monkeypatch.setenv("SAFESIGHT_DATA", str(data))
    return cut
