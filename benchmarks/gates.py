"""Gates on features that were read before: choose layers, fit, set the threshold, ask.

Not a benchmark. The choice and the fit are those of `safesight.defenses.shared`, on tensors in
place of a model.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gate_features import batch_key
from judged import table_mean
from torch import Tensor

from safesight import VLM, registry
from safesight.activations import LinearProbe, auroc, threshold_at_fpr
from safesight.defenses.sasa import SASAConfig
from safesight.defenses.shared.linear_gate import solver
from safesight.defenses.shared.validation import choose, folds_of, validated
from safesight.files import write_text
from safesight.fitting.data import FitData, thing_of
from safesight.grammar import judge_of_model
from safesight.stats import METRICS, Judgement, MetricName
from safesight.types import Sample, Verdict

HARM = ("text_harm", "image_harm", "typographic_harm")
BENIGN = ("over_refusal", "sensitive_benign", "vqa")
TASKS = (*HARM, *BENIGN)
FORM = {"image_harm": "object", "typographic_harm": "word"}
BATCH = 48
CONFIG = SASAConfig()
_LETTERS: dict[Verdict, str] = {"refused": "r", "harmful": "h", "harmless": "l", "invalid": "i"}
_VERDICTS = {char: verdict for verdict, char in _LETTERS.items()}


@dataclass(frozen=True)
class Prompts:
    """Samples with their features."""

    samples: list[Sample]
    features: Mapping[str, Tensor]
    """n x d each; NaN where a prompt's feature was not read."""

    def at(self, rows: Sequence[int]) -> Prompts:
        """Some of them."""
        index = list(rows)
        return Prompts(
            [self.samples[row] for row in index],
            {key: table[index] for key, table in self.features.items()},
        )

    @property
    def labels(self) -> Tensor:
        """1 for harmful."""
        return torch.tensor([int(sample.label == "harmful") for sample in self.samples])

    @property
    def things(self) -> list[str]:
        """What each is about."""
        return [thing_of(sample) for sample in self.samples]


@dataclass(frozen=True)
class Asked:
    """Test prompts with the undefended verdicts."""

    prompts: Prompts
    verdicts: list[Verdict]
    correct: list[bool]


@dataclass(frozen=True)
class Refused:
    """A gate's decisions on the test prompts."""

    key: str
    scores: Tensor
    refuse: list[bool]
    labels: Tensor


@dataclass(frozen=True)
class Gate:
    """A fitted probe that reads one feature."""

    key: str
    probe: LinearProbe
    threshold: float
    vlm: VLM | None
    """Set if it reads the feature's logits."""

    def ask(self, test: Asked) -> Refused:
        """Whom it refuses."""
        scores = self.probe.score(_seen(test.prompts, self.key, self.vlm))
        return Refused(self.key, scores, (scores >= self.threshold).tolist(), test.prompts.labels)


def test_prompts(n: int) -> list[Sample]:
    """The test prompts, so many of each task."""
    return [sample for task in TASKS for sample in registry.load("benchmark", task)(n)]


def things_of(samples: Sequence[Sample]) -> dict[str, list[str]]:
    """What the prompts of each rate are about: of harmful ones missed, benign ones refused."""
    return {
        metric: [thing_of(sample) for sample in samples if sample.label == label]
        for metric, label in (("missed", "harmful"), ("refused", "benign"))
    }


def _seen(prompts: Prompts, key: str, vlm: VLM | None) -> Tensor:
    features = prompts.features[key]
    with torch.no_grad():
        return features if vlm is None else vlm.logits_of(features)


def chosen(prompts: Prompts, keys: Sequence[str], seed: int) -> str:
    """The block or pair that a fit chooses, on as many prompts as it compares them on."""
    order = list(range(len(prompts.samples)))
    if len(order) > CONFIG.compare_on:
        order = sorted(random.Random(seed).sample(order, CONFIG.compare_on))
    few = prompts.at(order)
    folds = folds_of(few.labels, few.things, CONFIG.folds, seed)
    fit = solver(CONFIG, seed)
    found = {key: validated(few.features[key], few.labels, folds, fit) for key in keys}
    return choose(found, CONFIG.margin)


def fitted(
    prompts: Prompts,
    key: str,
    calibration: Prompts,
    seed: int,
    *,
    vlm: VLM | None = None,
    logits: bool = False,
    shuffled: bool = False,
    **settings: Any,
) -> Gate:
    """Fit a gate and set its threshold on the benign prompts of the calibration split.

    Args:
        prompts: To fit on.
        key: The feature to read.
        calibration: Benign prompts.
        seed: Of the solver.
        vlm: The model, for logits.
        logits: Read logits in place of the hidden state.
        shuffled: Shuffle the labels first.
        settings: Of the probe, other than the defaults.
    """
    reader = vlm if logits else None
    labels = prompts.labels
    if shuffled:
        labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))]
    config = CONFIG.model_copy(update=settings)
    probe = solver(config, seed)(_seen(prompts, key, reader), labels)
    benign = probe.score(_seen(calibration, key, reader))
    return Gate(key, probe, threshold_at_fpr(benign, config.max_fpr).value, reader)


def told(found: Refused) -> dict[str, Any]:
    """One digit per harmful prompt, 1 if it was missed, and per benign one, 1 if refused."""
    pairs = list(zip(found.labels.tolist(), found.refuse, strict=True))
    return {
        "key": found.key,
        "missed": "".join(str(int(not refuse)) for label, refuse in pairs if label),
        "refused": "".join(str(int(refuse)) for label, refuse in pairs if not label),
        "auroc": round(auroc(found.scores, found.labels).value, 4),
    }


def spread(values: Sequence[float]) -> dict[str, Any]:
    """The mean over seeds, with the smallest and the largest."""
    return {"value": sum(values) / len(values), "low": min(values), "high": max(values)}


def without(samples: Sequence[Sample], left_out: str, count: int, seed: int) -> list[int]:
    """Rows without a harmful kind and its benign twins; at most `count` of them, 0 for all."""
    rows = [row for row, sample in enumerate(samples) if not _is_of(sample, left_out)]
    if not count or count >= len(rows):
        return rows
    among = [samples[row] for row in rows]
    data = FitData.from_pool(among, share=count / len(among), seed=seed)
    names = {sample.id for sample in (*data.harmful, *data.benign)}
    return [row for row in rows if samples[row].id in names]


def _is_of(sample: Sample, kind: str) -> bool:
    form = sample.facts.get("form")
    return (
        form in {"plain", "caption", "beside"} if kind == "text_harm" else form == FORM.get(kind, 0)
    )


def ask(vlm: VLM, prompts: Prompts, folder: Path) -> Asked:
    """Undefended answers, judged; the folder keeps them, so that a stopped run resumes."""
    judge, answers = judge_of_model(vlm.name), list[str]()
    for start in range(0, len(prompts.samples), BATCH):
        batch = prompts.samples[start : start + BATCH]
        path = folder / f"{batch_key(vlm, batch, ['answers'])}.json"
        if not path.is_file():
            texts = vlm.answer([sample.messages() for sample in batch], max_new_tokens=32)
            write_text(path, json.dumps(texts))
        answers += json.loads(path.read_text(encoding="utf-8"))
    pairs = list(zip(answers, prompts.samples, strict=True))
    verdicts = [judge(answer, sample) for answer, sample in pairs]
    return Asked(prompts, verdicts, [judge.correct(answer, sample) for answer, sample in pairs])


def letters_of(test: Asked, refuse: Sequence[bool]) -> str:
    """What becomes of every test prompt, as letters."""
    rows = zip(test.verdicts, test.correct, refuse, strict=True)
    return "".join(
        letter("refused", right=False) if closed else letter(verdict, right=right)
        for verdict, right, closed in rows
    )


def letter(verdict: Verdict, *, right: bool) -> str:
    """r(efused), h(armful), l (harmless), i(nvalid); a capital if the answer is right."""
    return _LETTERS[verdict].upper() if right else _LETTERS[verdict]


def judgement(char: str) -> Judgement:
    """What a letter stands for."""
    return Judgement(_VERDICTS[char.lower()], char.isupper())


def cells_of(letters: Sequence[str], samples: Sequence[Sample]) -> dict[str, dict[str, Any]]:
    """By "task/metric": rates over seeds and prompts, with intervals over things and seeds.

    Args:
        letters: Of one arm, a string for each seed.
        samples: The test prompts.
    """
    cells = {}
    for task in TASKS:
        rows = [row for row, sample in enumerate(samples) if sample.id.startswith(f"{task}/")]
        things = [thing_of(samples[row]) for row in rows]
        for name in _metrics(task) if rows else ():
            hits = [[METRICS[name].hit(judgement(of[row])) for row in rows] for of in letters]
            cells[f"{task}/{name}"] = table_mean(np.array(hits, dtype=float), things)
    return cells


def _metrics(task: str) -> tuple[MetricName, ...]:
    if task in HARM:
        return ("attack_success_rate",)
    right: MetricName = "benign_utility" if task == "over_refusal" else "utility"
    return ("over_refusal_rate", right)
