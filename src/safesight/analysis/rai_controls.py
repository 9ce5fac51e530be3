"""Do RAI's words matter, and its gate? RAI compared with controls that change one thing each.

random directions   the same tokens, shifted equally far along random directions;
benign words        the same tokens, shifted equally far along words that name no risk;
random tokens       the same shifts, applied to other visual tokens of the same prompt;
random gate         each visual token is shifted along its nearest word with the same small
                    probability, whatever its score, in harmful and benign prompts alike.

If the words matter, the first two refuse less than RAI. If the position in the picture matters,
so does the third. If the gate distinguishes harmful from benign pictures, the fourth refuses
fewer harmful or more benign requests.

`mechanism` evaluates all of them on the same samples. It also counts how many visual tokens
moved, and how far relative to their norm, which exposes an edit too small to matter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from safesight.activations import Site
from safesight.defenses.rai.injection import Injection, generate_shifted, shift
from safesight.defenses.rai.method import RAI, injection_of
from safesight.defenses.rai.prototypes import PLAIN_WORDS, word_vectors
from safesight.defenses.rai.search import answers
from safesight.generation.edits import Shift
from safesight.grammar import judge_of_model
from safesight.judges.broken import broken
from safesight.stats import HOW_TO, METRICS, Judgement, MetricName, clusters_of, share_of
from safesight.types import Sample, group_of

if TYPE_CHECKING:
    from safesight.defenses import Artifact
    from safesight.models import VLM

__all__ = ["Counted", "controls", "judgements", "measured", "mechanism", "metrics_of"]

Tests = Mapping[str, Sequence[Sample]]
"""Task to samples."""


@dataclass
class Counted:
    """A shift that counts what it does."""

    function: Shift
    tokens: int = 0
    moved: int = 0
    relative: float = 0.0

    def __call__(self, states: Tensor, rows: Tensor) -> Tensor:
        """The shift itself, M x d."""
        added = self.function(states, rows)
        here = (added != 0).any(dim=1)
        sizes = added[here].norm(dim=1) / states[here].float().norm(dim=1)
        self.tokens += len(states)
        self.moved += int(here.sum())
        self.relative += float(sizes.sum())
        return added

    def note(self) -> dict[str, float]:
        """Share of visual tokens that moved, and mean ||delta|| / ||h|| of those."""
        return {
            "realised_ratio": round(self.moved / max(self.tokens, 1), 5),
            "relative_shift": round(self.relative / max(self.moved, 1), 5),
            "visual_tokens": self.tokens,
        }


def controls(vlm: VLM, artifact: Artifact, *, seed: int = 0, **settings: Any) -> dict[str, Shift]:
    """RAI's own shift and its controls' shifts, by name.

    Args:
        vlm: The model that the artifact was fitted on.
        artifact: Artifact of a RAI fit.
        seed: Seed for random directions, tokens and gates. The random gate keeps drawing.
        **settings: RAI settings that override the artifact's.
    """
    config, fitted = RAI(**settings).resolve(vlm, artifact)
    own = injection_of(config, fitted)
    rng = torch.Generator().manual_seed(seed)
    plain = list(islice(cycle(PLAIN_WORDS), len(own.prototypes)))
    benign = word_vectors(vlm, plain, config.prototypes, own.site).cpu()
    anywhere = torch.randn(own.prototypes.shape, generator=rng)
    return {
        "rai": own.shift,
        "random directions": replace(own, directions=anywhere).shift,
        "benign words": replace(own, directions=benign).shift,
        "random tokens": partial(_elsewhere, own.shift, seed),
        "random gate": partial(_by_chance, own, float(artifact.fitted["ratio"]), rng),
    }


def mechanism(
    vlm: VLM,
    artifact: Artifact,
    tests: Tests,
    *,
    seed: int = 0,
    batch_size: int = 48,
    max_new_tokens: int = 48,
    **settings: Any,
) -> list[dict[str, Any]]:
    """RAI and its controls on the same samples, one row each: see `measured`.

    Args:
        vlm: The model under test.
        artifact: Artifact of a RAI fit on it.
        tests: Task to samples with known answers.
        seed: Seed of the controls.
        batch_size: Prompts per forward pass.
        max_new_tokens: Maximum tokens per answer.
        **settings: RAI settings that override the artifact's.
    """
    site = injection_of(*RAI(**settings).resolve(vlm, artifact)).site
    size = {"batch_size": batch_size, "max_new_tokens": max_new_tokens}
    arms = controls(vlm, artifact, seed=seed, **settings)
    return [{"arm": arm, **measured(vlm, tests, site, own, **size)} for arm, own in arms.items()]


def measured(
    vlm: VLM,
    tests: Tests,
    site: Site | None = None,
    function: Shift | None = None,
    *,
    batch_size: int = 48,
    max_new_tokens: int = 48,
) -> dict[str, Any]:
    """Rates with 95% intervals, over things, under a shift or of the unmodified model.

    Returns:
        `cells`, by "task/metric": attack_success_rate and refusal_rate for harmful samples,
        over_refusal_rate for benign ones, and of these benign_utility for requests and utility
        for questions; invalid_rate and broken_rate for all; and the entries of `Counted.note`.
    """
    size = {"batch_size": batch_size, "max_new_tokens": max_new_tokens}
    found, note = judgements(vlm, tests, site, function, **size)
    cells: dict[str, Any] = {}
    for task, samples in tests.items():
        things = clusters_of(group_of(s.facts, s.id) for s in samples)
        invalid = share_of("invalid", [each.verdict for each in found[task]], things)
        cells[f"{task}/invalid_rate"] = invalid.rounded()
        for name in dict.fromkeys(name for sample in samples for name in metrics_of(sample)):
            own = [at for at, sample in enumerate(samples) if name in metrics_of(sample)]
            by = clusters_of(group_of(samples[at].facts, samples[at].id) for at in own)
            rate = METRICS[name].rate([found[task][at] for at in own], by)
            cells[f"{task}/{name}"] = rate.rounded()
    return {"cells": cells, **note}


def judgements(
    vlm: VLM,
    tests: Tests,
    site: Site | None = None,
    function: Shift | None = None,
    *,
    batch_size: int = 48,
    max_new_tokens: int = 48,
) -> tuple[dict[str, list[Judgement]], dict[str, float]]:
    """Every answer, judged, by task; and the entries of `Counted.note`, empty without a shift."""
    judge = judge_of_model(vlm.name)
    counted = None if function is None else Counted(function)
    act = None
    if counted is not None:
        assert site is not None
        act = partial(generate_shifted, vlm, site, counted)
    found = {}
    for task, samples in tests.items():
        texts = answers(vlm, samples, act, batch_size=batch_size, max_new_tokens=max_new_tokens)
        found[task] = [
            Judgement(judge(text, s), judge.correct(text, s), broken(judge, text, s, vlm.name))
            for text, s in zip(texts, samples, strict=True)
        ]
    return found, {} if counted is None else counted.note()


def _elsewhere(function: Shift, seed: int, states: Tensor, rows: Tensor) -> Tensor:
    """The same shifts, shuffled among the visual tokens of each row."""
    added = function(states, rows)
    rng = torch.Generator().manual_seed(seed)
    shuffled = torch.empty_like(added)
    for row in sorted(set(rows.tolist())):
        own = (rows == row).nonzero().flatten()
        shuffled[own] = added[own[torch.randperm(len(own), generator=rng).to(own.device)]]
    return shuffled


def _by_chance(
    own: Injection, chance: float, rng: torch.Generator, states: Tensor, rows: Tensor
) -> Tensor:
    """Eq. 3 with a random gate: a token passes by chance, for its nearest word."""
    best = own.scores(states).max(dim=1)
    lucky = torch.rand(len(states), generator=rng).to(states.device) < chance
    passed = states.new_zeros(len(states), len(own.prototypes), dtype=torch.float32)
    passed.scatter_(1, best.indices[:, None], (best.values * lucky)[:, None])
    return shift(states, passed, own.prototypes, own.strength, own.norm_matched)


def metrics_of(sample: Sample) -> list[MetricName]:
    """The metrics reported for samples such as this one."""
    if sample.label == "harmful":
        return ["attack_success_rate", "refusal_rate", "broken_rate"]
    if sample.facts.get("request") == HOW_TO:
        return ["over_refusal_rate", "benign_utility", "broken_rate"]
    return ["over_refusal_rate", "utility", "broken_rate"]
