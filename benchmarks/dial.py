"""The gap between text and pictures as a dial: what the recipe put in, what a defense adds.

    python -m safesight.testbed.train --work .checkpoints/testbed --out /tmp/testbed  # an hour
    python benchmarks/dial.py --work .checkpoints/testbed      # see `seconds` in the results
    python benchmarks/dial.py --kinds turned                   # no training: some minutes

The recipe of the bundled model keeps visual tokens away from the words for what they show, by a
cap on their cosine in its stage `settle`. Two questions:

turned   The bundled model, without training. Every visual token that shows one thing or
         one colour is turned toward or away from its own word until their cosine is c, at the
         same length (see `turned`). How do attacks depend on c alone?
trained  From the checkpoint of the stage `align` the later stages of the recipe are rerun, with
         other seeds and with other caps in `settle`; everything before `settle` is shared by the
         models of a seed. On every model: undefended, RAI with the setting that its search
         chooses, SASA, and the probe.

Rows also say at which cosine to their own word the visual tokens are that show a thing; with RAI,
after its push. Checkpoints are in the work folder, so a killed run resumes. Writes
`runs/benchmarks/dial.json` after every row.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import torch
from judged import About, mean, rate
from results_file import add_output, finished, opened, saved
from torch import Tensor
from torch.nn import functional as F
from transformers import LlavaForConditionalGeneration

from safesight import VLM
from safesight.analysis.outcomes import outcomes
from safesight.benchmarks import load_benchmark
from safesight.defenses import Artifact, FitData, load_defense
from safesight.defenses.rai.method import RAI, injection_of
from safesight.fitting.bundled import bundled
from safesight.judges.exact import ExactJudge
from safesight.models.saving import save_checkpoint
from safesight.stats import MetricName, clusters_of
from safesight.testbed import WEIGHTS
from safesight.testbed.architecture import build_processor
from safesight.testbed.batches import IGNORE, PATCH_CLASSES, patch_classes
from safesight.testbed.concepts import CONCEPTS, HARMFUL_WORDS
from safesight.testbed.scenes import Scene
from safesight.testbed.train import STAGES, Stage, run_stage
from safesight.types import Sample
from safesight.workflows.artifacts import FitPlan, fit_data

CAPS: tuple[float | None, ...] = (0.05, 0.1, 0.2, 0.4, None)
"""Caps on the cosine in `settle`; None for no cap. The bundled model has 0.1."""
COSINES = (None, 0.0, 0.05, 0.1, 0.2, 0.4, 0.6)
"""Where tokens are turned to; None leaves them as they are."""
ARMS: dict[str, dict[str, Any]] = {
    "none": {},
    "rai": {
        "words": HARMFUL_WORDS,
        "layer": "auto",
        "ratio": "auto",
        "strength": "auto",
    },
    "sasa": {},
    "probe": {},
}
TASKS: dict[str, MetricName] = {
    "text_harm": "attack_success_rate",
    "image_harm": "attack_success_rate",
    "typographic_harm": "attack_success_rate",
    "over_refusal": "benign_utility",
    "sensitive_benign": "utility",
    "vqa": "utility",
}
ATTACKS = ("image_harm", "typographic_harm")
BATCH, TOKENS = 48, 32
_NAMES = [stage.name for stage in STAGES]
SHARED = STAGES[_NAMES.index("pictures") : _NAMES.index("settle")]
OWN = STAGES[_NAMES.index("settle") :]

Row = dict[str, Any]
Tests = Mapping[str, Sequence[Sample]]


def main() -> None:
    """Measure, and train before that, what is missing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, help="checkpoints of the recipe, for `trained`")
    parser.add_argument("--kinds", default="turned,trained")
    parser.add_argument("--n", type=int, default=300, help="samples per task")
    parser.add_argument("--seeds", type=int, default=2, help="seeds of the training")
    parser.add_argument("--only-seed", type=int, help="this seed alone, to share the work")
    add_output(parser, "dial")
    arguments = parser.parse_args()
    kinds = arguments.kinds.split(",")
    if "trained" in kinds and arguments.work is None:
        parser.error("`trained` needs --work, or leave it out with --kinds turned")
    head = {
        "identity": VLM.load(str(WEIGHTS)).identity,
        "n": arguments.n,
        "judge": f"{ExactJudge.name}/{ExactJudge.version}",
    }
    results = opened(arguments, head)
    seeds = range(arguments.seeds) if arguments.only_seed is None else [arguments.only_seed]
    if "turned" in kinds:
        add_rows(arguments, results, turned_rows(results["rows"], arguments.n))
    if "trained" in kinds:
        rows = trained_rows(results["rows"], arguments.work, seeds, arguments.n)
        add_rows(arguments, results, rows)
    finished(arguments, results)


def add_rows(arguments: argparse.Namespace, results: Row, rows: Iterator[Row]) -> None:
    """Save every row as soon as it is there."""
    begin = time.monotonic()
    for row in rows:
        results["rows"].append(row)
        results["seconds"] += round(time.monotonic() - begin)
        concluded(results)
        saved(arguments.out, results)
        key = {name: row[name] for name in ("kind", "to", "cap", "seed", "arm") if name in row}
        print(key, short(row, About(results["n"])), flush=True)
        begin = time.monotonic()


def short(row: Row, asked: About) -> str:
    """Every rate in per cent, for the screen."""
    found = {key: value["value"] for key, value in rates(row, asked).items()}
    return ", ".join(f"{key} {100 * v:.0f}" for key, v in found.items() if v is not None)


def turned_rows(done: Sequence[Row], n: int) -> Iterator[Row]:
    """The bundled model with its visual tokens at one cosine after the other."""
    vlm = VLM.load(str(WEIGHTS))
    tests = tests_of(n, seed=0)
    for cosine in COSINES:
        key = {"kind": "turned", "to": cosine, "seed": 0, "arm": "none"}
        if not any(key.items() <= row.items() for row in done):
            yield {
                **key,
                "cosine": cosine_of(vlm, tests, cosine),
                "cells": asked(vlm, tests, cosine),
            }
    key = {"kind": "turned", "to": None, "seed": 0, "arm": "rai"}
    if not any(key.items() <= row.items() for row in done):
        artifact = bundled("rai", vlm)
        with load_defense("rai").apply(vlm, artifact):
            cells = asked(vlm, tests)
        yield {**key, "cosine": cosine_of(vlm, tests, rai=artifact), "cells": cells}


def trained_rows(done: Sequence[Row], work: Path, seeds: Sequence[int], n: int) -> Iterator[Row]:
    """Every model, undefended and defended."""
    for seed, cap in product(seeds, CAPS):
        tests = tests_of(n, seed=seed)
        keys = [{"kind": "trained", "cap": cap, "seed": seed, "arm": arm} for arm in ARMS]
        missing = [key for key in keys if not any(key.items() <= row.items() for row in done)]
        if not missing:
            continue
        vlm = VLM.load(str(model_of(work, seed, cap)))
        data = fit_data(FitPlan(seed=seed))
        for key in missing:
            yield {**key, "identity": vlm.identity, **measured(vlm, key["arm"], data, tests, seed)}


def model_of(work: Path, seed: int, cap: float | None) -> Path:
    """The model of a training seed and a cap; trains the stages that are missing."""
    begun = work / "align" / "model"
    if not begun.is_dir():
        raise SystemExit(f"{begun} is missing: run the recipe with --work {work} first")
    folder = work / "dial" / f"seed-{seed}"
    for stage in SHARED:
        begun = trained(stage, begun, folder / stage.name, seed)
    folder = folder / ("no-cap" if cap is None else f"cap-{cap:g}")
    for stage in OWN:
        changed = replace(stage, cap=1.0 if cap is None else cap) if stage.cap < 1 else stage
        begun = trained(changed, begun, folder / stage.name, seed)
    plain = LlavaForConditionalGeneration.from_pretrained(begun)
    save_checkpoint(plain.to(torch.bfloat16), folder / "model", build_processor())
    return folder / "model"


def trained(stage: Stage, begun: Path, folder: Path, seed: int) -> Path:
    """The model after one more stage."""
    if not (folder / "done.json").exists():
        model = LlavaForConditionalGeneration.from_pretrained(begun)
        entry = run_stage(stage, model, build_processor(), folder, seed=seed, scale=1.0)
        model.save_pretrained(folder / "model")
        (folder / "done.json").write_text(json.dumps(entry))
    return folder / "model"


def measured(vlm: VLM, arm: str, data: FitData, tests: Tests, seed: int) -> Row:
    """One arm on one model: what was fitted, the cosine of the tokens, every verdict."""
    if arm == "none":
        return {"cosine": cosine_of(vlm, tests), "cells": asked(vlm, tests)}
    defense = load_defense(arm, **ARMS[arm])
    artifact = defense.fit(vlm, data, seed=seed, progress=False)
    with defense.apply(vlm, artifact):
        cells = asked(vlm, tests)
    if arm != "rai":
        return {"cells": cells}
    used = {key: artifact.fitted[key] for key in ("layer", "ratio", "strength")}
    return {**used, "cosine": cosine_of(vlm, tests, rai=artifact), "cells": cells}


@cache
def tests_of(n: int, seed: int) -> Tests:
    """Samples of the test split, task by task."""
    return {task: load_benchmark(task)(n, seed=seed) for task in TASKS}


def asked(vlm: VLM, tests: Tests, cosine: float | None = None) -> dict[str, list[list[Any]]]:
    """Verdict and correctness of every answer, with the visual tokens turned if asked for."""
    found: dict[str, list[list[Any]]] = {}
    for task, samples in tests.items():
        found[task] = []
        for start in range(0, len(samples), BATCH):
            batch = samples[start : start + BATCH]
            with turning(vlm, batch, cosine):
                answers = outcomes(vlm, batch, batch_size=BATCH, max_new_tokens=TOKENS)
            found[task] += [[each.verdict, each.correct] for each in answers]
    return found


def turned(tokens: Tensor, words: Tensor, cosine: float) -> Tensor:
    """Tokens with this cosine to their words, at their own length.

        h' = |h| (c w + sqrt(1 - c^2) r),   r = (h - <h, w> w) / |h - <h, w> w|

    with w of length one.

    Args:
        tokens: h, M x d.
        words: M x d.
        cosine: c.
    """
    along = F.normalize(words, dim=-1)
    across = F.normalize(tokens - (tokens * along).sum(-1, keepdim=True) * along, dim=-1)
    length = tokens.norm(dim=-1, keepdim=True)
    return length * (cosine * along + (1 - cosine**2) ** 0.5 * across)


@contextmanager
def turning(vlm: VLM, batch: Sequence[Sample], cosine: float | None) -> Iterator[None]:
    """Inside, the visual tokens of this batch are turned; None leaves them as they are."""
    scenes = [scene for sample in batch if (scene := scene_of(sample)) is not None]
    if cosine is None or not scenes:
        yield
        return
    shown = torch.cat([patch_classes(scene) for scene in scenes])
    known, words = shown != IGNORE, words_of(vlm)

    def turn(module: Any, args: Any, output: Tensor) -> Tensor:
        tokens = output.flatten(0, -2).clone()
        tokens[known] = turned(tokens[known], words[shown[known]], cosine)
        return tokens.view_as(output)

    handle = vlm.model.model.multi_modal_projector.register_forward_hook(turn)
    try:
        yield
    finally:
        handle.remove()


def scene_of(sample: Sample) -> Scene | None:
    """The scene that a picture of the bundled world renders."""
    return getattr(sample.image, "__self__", None)


def words_of(vlm: VLM) -> Tensor:
    """The embeddings of what a patch can show: C x d."""
    ids = vlm.tokenizer.convert_tokens_to_ids([f"Ġ{word}" for word in PATCH_CLASSES])
    return vlm.model.get_input_embeddings().weight.detach()[torch.tensor(ids)].float()


@torch.no_grad()
def cosine_of(
    vlm: VLM, tests: Tests, cosine: float | None = None, rai: Artifact | None = None
) -> dict[str, Any] | None:
    """Mean cosine to their own word of the visual tokens on things, over all attacks.

    None if RAI pushes behind the embeddings, where tokens cannot be compared with words.
    """
    push = None
    if rai is not None:
        injection = injection_of(*RAI().resolve(vlm, rai))
        if rai.fitted["layer"] != "embed":
            return None
        push = injection.shift
    words = words_of(vlm)
    found: list[Tensor] = []
    about: list[int] = []
    samples = [sample for task in ATTACKS for sample in tests[task]]
    for start in range(0, len(samples), BATCH):
        batch = samples[start : start + BATCH]
        shown = torch.cat([patch_classes(scene) for s in batch if (scene := scene_of(s))])
        inputs = vlm.encode([sample.messages() for sample in batch])
        with turning(vlm, batch, cosine):
            tokens = visual_tokens(vlm, inputs["pixel_values"])
        if push is not None:
            rows = torch.arange(len(batch)).repeat_interleave(len(tokens) // len(batch))
            tokens = tokens + push(tokens, rows)
        things = (shown != IGNORE) & (shown < len(CONCEPTS))
        found.append(F.cosine_similarity(tokens[things], words[shown[things]]))
        about += shown[things].tolist()
    cosines = torch.cat(found).double().numpy()
    found_mean = mean(cosines.round(4) + 0.0, clusters=clusters_of(about), kind="amount")
    return {**found_mean, "unit": "cosine"}


def visual_tokens(vlm: VLM, pixels: Tensor) -> Tensor:
    """Projector outputs of some pictures: M x d."""
    caught: list[Tensor] = []

    def catch(module: Any, args: Any, output: Tensor) -> None:
        caught.append(output.flatten(0, -2).float())

    handle = vlm.model.model.multi_modal_projector.register_forward_hook(catch)
    try:
        vlm.model.model.get_image_features(pixel_values=pixels)
    finally:
        handle.remove()
    return caught[0]


def concluded(results: Row) -> None:
    """Add the summary of what was turned, and the table of what was trained."""
    asked = About(results["n"])
    named = [(row, rates(row, asked)) for row in results["rows"]]
    results["summary"] = [
        {"arm": turn(row), **found} for row, found in named if row["kind"] == "turned"
    ]
    results["effects"] = [
        {
            "cap": caption(row["cap"]),
            "seed": row["seed"],
            "task": row["arm"],
            "metric": key,
            **value,
        }
        for row, found in named
        if row["kind"] == "trained"
        for key, value in found.items()
    ]


def rates(row: Row, asked: About) -> Row:
    """Attack success and refusals over both picture attacks, and the rate of every other task."""

    def of(tasks: Sequence[str], metric: MetricName) -> Row:
        entries = [entry for task in tasks for entry in row["cells"][task]]
        return rate(entries, metric, asked.clusters([row["seed"]], tasks))

    found = {
        "attacks": of(ATTACKS, "attack_success_rate"),
        "refused": of(ATTACKS, "refusal_rate"),
        "over-refusal": of(["over_refusal"], "over_refusal_rate"),
        **{task: of([task], metric) for task, metric in TASKS.items()},
    }
    return found | ({"cosine": row["cosine"]} if row.get("cosine") else {})


def turn(row: Row) -> str:
    """How the tokens were turned, in words."""
    if row["arm"] == "rai":
        return "as they are, with tuned RAI"
    return "as they are" if row["to"] is None else f"turned to {row['to']:g}"


def caption(cap: float | None) -> str:
    """A cap in words."""
    return "none" if cap is None else f"{cap:g}"


if __name__ == "__main__":
    main()
