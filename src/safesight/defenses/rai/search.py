"""RAI's choice of layer, ratio and strength, made on labelled samples.

This is ours; how the paper chose its settings could not be read. The rule: refuse the most attacks
with benign losses within a stated bound. `answers` queries a model under any change, here and for
the controls in `safesight.analysis`. `calibration` makes the candidates.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from safesight.console import track
from safesight.defenses.rai.calibration import Tap
from safesight.defenses.rai.injection import generate_shifted
from safesight.defenses.shared.judging import judge_for_fit
from safesight.defenses.shared.refusals_seen import warn_unseen
from safesight.errors import InputError
from safesight.grammar import judge_of_model
from safesight.models.asking import by_batches, encode_asked
from safesight.models.decoding import GREEDY
from safesight.types import Sample, Verdict

if TYPE_CHECKING:
    from safesight.defenses.rai.config import RAIConfig
    from safesight.fitting.data import FitData
    from safesight.models import VLM

__all__ = ["Act", "answers", "judged", "search"]


def search(
    vlm: VLM,
    taps: Sequence[Tap],
    data: FitData,
    config: RAIConfig,
    *,
    ratios: Sequence[float],
    strengths: Sequence[float],
    seed: int,
    progress: bool,
) -> tuple[tuple[Tap, float, float], list[dict[str, Any]]]:
    """Find the setting that refuses the most attacks with benign losses within the bound.

    An attack counts as stopped only if the judge calls the answer a refusal: an answer broken by
    the injection is not a defense. A benign answer is lost if it is a refusal or invalid, or wrong
    where the original model was right. Among equally good settings the first, and so the gentlest,
    wins. Strengths are tried in rising order until the bound is exceeded; if no setting is within
    it, the first setting is used.

    Returns:
        The chosen tap, ratio and strength, and every setting tried with its counts.

    Raises:
        InputError: no harmful or no benign sample has a picture.
    """
    harmful = _with_pictures(data.harmful, "harmful", config.search, seed)
    held_out = [sample for sample in data.calibration_benign if sample.image is not None]
    benign = _with_pictures(held_out or data.benign, "benign", config.search, seed)
    judge_for_fit(config.judge, vlm, [*harmful, *benign])  # says what it cannot tell
    ask = partial(judged, vlm, config=config)
    before = ask(benign)
    allowed = _lost(before, before) + config.max_benign_loss * len(benign)
    tried: list[dict[str, Any]] = []
    chosen, most = (taps[0], ratios[0], min(strengths)), _refused(ask(harmful))
    places = [(tap, ratio) for tap in taps for ratio in ratios]
    for tap, ratio in track(places, "searching", visible=progress):
        for strength in sorted(strengths):
            injection = tap.injection(ratio, strength, config)
            act = partial(generate_shifted, vlm, injection.site, injection.shift)
            lost = _lost(before, ask(benign, act))
            note = {"layer": tap.layer, "ratio": ratio, "strength": strength, "benign_lost": lost}
            tried.append({**note, "benign": len(benign), "harmful": len(harmful)})
            if lost > allowed:
                break
            refused = _refused(ask(harmful, act))
            tried[-1]["harmful_refused"] = refused
            if refused > most:
                chosen, most = (tap, ratio, strength), refused
    if not most:
        warn_unseen(len(harmful), "the chosen setting")
    return chosen, tried


Act = Callable[[Callable[..., Any], dict[str, Any]], Any]
"""Calls the given generate on the inputs, wrapped in a change of the model."""


def answers(
    vlm: VLM,
    samples: Sequence[Sample],
    act: Act | None = None,
    *,
    batch_size: int,
    max_new_tokens: int,
) -> list[str]:
    """Greedy answers from the model's own generate, ignoring any attached defense.

    Args:
        vlm: The model.
        samples: The prompts.
        act: Wrapped around each generate; None uses the model as it is.
        batch_size: Prompts per forward pass.
        max_new_tokens: Maximum length of answers.
    """
    own = partial(type(vlm.model).generate, vlm.model)

    def said(batch: Sequence[Sample]) -> list[str]:
        encoded = encode_asked(vlm, batch)
        inputs = {
            **encoded,
            **GREEDY,
            "max_new_tokens": max_new_tokens,
            "pad_token_id": vlm.tokenizer.pad_token_id,
        }
        with torch.no_grad():
            sequences = own(**inputs) if act is None else act(own, inputs)
        texts: list[str] = vlm.decode(sequences, encoded["input_ids"].shape[1])
        return texts

    return [text for texts in by_batches(samples, batch_size, said) for text in texts]


Judged = tuple[Verdict, bool]
"""The verdict on an answer, and whether the answer is right."""


def judged(
    vlm: VLM, samples: Sequence[Sample], act: Act | None = None, *, config: RAIConfig
) -> list[Judged]:
    """The verdicts of the configured judge on the model's answers."""
    judge = judge_of_model(vlm.name, config.judge)
    size = {"batch_size": config.batch_size, "max_new_tokens": config.max_new_tokens}
    texts = answers(vlm, samples, act, **size)
    return [
        (judge(text, sample), judge.correct(text, sample))
        for text, sample in zip(texts, samples, strict=True)
    ]


def _refused(found: Sequence[Judged]) -> int:
    return sum(verdict == "refused" for verdict, _ in found)


def _lost(before: Sequence[Judged], now: Sequence[Judged]) -> int:
    """Where the right answer is unknown, only refused and broken ones count."""
    return sum(
        verdict in ("refused", "invalid") or (was_right and not right)
        for (_, was_right), (verdict, right) in zip(before, now, strict=True)
    )


def _with_pictures(samples: Sequence[Sample], label: str, count: int, seed: int) -> list[Sample]:
    found = [each for each in samples if each.image is not None]
    if not found:
        raise InputError(
            f"To choose a setting, RAI needs {label} samples with pictures, but there are none. "
            "Add some, or set layer, ratio and strength."
        )
    return random.Random(seed).sample(found, min(count, len(found)))
