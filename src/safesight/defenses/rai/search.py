"""The setting of RAI that pays: layer, ratio and strength, chosen on labelled samples.

Ours; how the paper found its settings could not be read. The rule: the most refused attacks whose
benign losses stay within a stated bound. `answers` asks a model under any change, here and for the
controls in `safesight.analysis`. What is chosen between is made in `calibration`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from safesight import registry
from safesight.console import track
from safesight.defenses.rai.calibration import Tap
from safesight.defenses.rai.injection import generate_shifted
from safesight.errors import InputError
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
    """The setting with the most refused attacks whose benign losses stay within the bound.

    An attack counts as stopped where the judge calls the answer a refusal: an answer that
    the injection has ruined is no defense. A benign answer is lost where it is a refusal or
    invalid, or wrong where the model as it is was right. Of settings as good as each other the
    first wins, so the gentlest. Strengths rise, and end where the bound is passed; nothing within
    it leaves the first setting.

    Returns:
        The tap, ratio and strength that were chosen, and every setting tried with its counts.

    Raises:
        InputError: no harmful or no benign sample has a picture.
    """
    harmful = _with_pictures(data.harmful, "harmful", config.search, seed)
    held_out = data.calibration_benign or data.benign
    benign = _with_pictures(held_out, "benign", config.search, seed)
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
    return chosen, tried


Act = Callable[[Callable[..., Any], dict[str, Any]], Any]
"""Calls the generate it is given on the inputs, inside whatever it does."""


def answers(
    vlm: VLM,
    samples: Sequence[Sample],
    act: Act | None = None,
    *,
    batch_size: int,
    max_new_tokens: int,
) -> list[str]:
    """Greedy answers of the model's own generate, whatever defense is attached to it.

    Args:
        vlm: The model.
        samples: What to ask.
        act: Put around each generate; None asks the model as it is.
        batch_size: Prompts a forward.
        max_new_tokens: Where answers are cut.
    """
    own = partial(type(vlm.model).generate, vlm.model)
    greedy = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    texts: list[str] = []
    for start in range(0, len(samples), batch_size):
        encoded = vlm.encode([each.messages() for each in samples[start : start + batch_size]])
        inputs = {
            **encoded,
            **greedy,
            "max_new_tokens": max_new_tokens,
            "pad_token_id": vlm.tokenizer.pad_token_id,
        }
        with torch.no_grad():
            sequences = own(**inputs) if act is None else act(own, inputs)
        texts += vlm.decode(sequences, encoded["input_ids"].shape[1])
    return texts


Judged = tuple[Verdict, bool]
"""The verdict on an answer, and whether it is right."""


def judged(
    vlm: VLM, samples: Sequence[Sample], act: Act | None = None, *, config: RAIConfig
) -> list[Judged]:
    """What the judge of the settings says of the answers."""
    judge = registry.load("judge", config.judge)()
    size = {"batch_size": config.batch_size, "max_new_tokens": config.max_new_tokens}
    texts = answers(vlm, samples, act, **size)
    return [
        (judge(text, sample), judge.correct(text, sample))
        for text, sample in zip(texts, samples, strict=True)
    ]


def _refused(found: Sequence[Judged]) -> int:
    return sum(verdict == "refused" for verdict, _ in found)


def _lost(before: Sequence[Judged], now: Sequence[Judged]) -> int:
    """Where right answers are not known, only refused and broken ones count."""
    return sum(
        verdict in ("refused", "invalid") or (was_right and not right)
        for (_, was_right), (verdict, right) in zip(before, now, strict=True)
    )


def _with_pictures(samples: Sequence[Sample], label: str, count: int, seed: int) -> list[Sample]:
    found = [each for each in samples if each.image is not None]
    if not found:
        raise InputError(
            f"To choose a setting RAI needs {label} samples with pictures, and there are none. "
            "Add some, or give layer, ratio and strength."
        )
    return random.Random(seed).sample(found, min(count, len(found)))
