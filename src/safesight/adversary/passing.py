"""Harmful answers that a defense which judges answers lets pass: what to want from such a model.

A defense that replaces harmful answers leaves the model as it is, so a search for pixels has the
model's own gradient; what it has to know is which answer comes through. The candidates are what
the model says by itself, in several draws, and the answer that the benchmark knows, each plain,
behind words of consent, and behind and before harmless words about the same picture. Those that the
judge finds harmful are kept, and the one that the defense finds least harmful comes first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from safesight.adversary.wanted import complying
from safesight.generation.answers import refusal_tokens
from safesight.generation.calls import short_answer, undefended
from safesight.models.asking import by_batches, encode_asked
from safesight.types import Judge, Sample

if TYPE_CHECKING:
    from safesight.generation.parts import Parts
    from safesight.models import VLM

__all__ = ["HarmfulAnswer", "harmful_answers"]

_LONGEST = 48
"""Tokens of an answer that the model gives by itself."""
_DRAWS = 4
_DESCRIBE = "what is in the picture?"


@dataclass(frozen=True)
class HarmfulAnswer:
    """An answer that the judge finds harmful."""

    text: str
    tokens: Sequence[int]
    margin: float
    """By how much the strictest defense scores it above its threshold; below 0 it passes."""


def harmful_answers(
    vlm: VLM,
    samples: Sequence[Sample],
    judge: Judge,
    parts: Sequence[Parts],
    *,
    further: Sequence[Sequence[str]] | None = None,
    seed: int = 0,
    batch_size: int = 16,
    progress: bool = False,
) -> list[list[HarmfulAnswer]]:
    """Harmful answers to each sample, the one that passes most easily first.

    Where the judge finds none harmful, it is the one that is wanted without a defense.

    Args:
        vlm: The model; defenses on it are bypassed.
        samples: Harmful requests with one picture each.
        judge: Tells which answers are harmful.
        parts: Those of each defense; some judge answers.
        further: Answers to each sample that an attacker may want beside these.
        seed: Of the draws of the model's own answers.
        batch_size: Prompts per batch.
        progress: Show a progress bar.
    """
    asker = _Asker(vlm, batch_size, progress)
    own = asker.drawn(samples, seed)
    described = asker.said([sample.reworded(_DESCRIBE) for sample in samples])
    pairs: list[tuple[int, str]] = []
    more = further or [()] * len(samples)
    for row, sample in enumerate(samples):
        words = [*own[row], complying(sample), *more[row]]
        texts = dict.fromkeys(_candidates(words, described[row]))
        harmful = [text for text in texts if judge(text, sample) == "harmful"]
        pairs += [(row, text) for text in harmful or [complying(sample)]]
    # With its end, since what the model would add is not what was judged.
    tokens = [refusal_tokens(vlm, {}, text) for _, text in pairs]
    margins = asker.margins([(samples[row], text) for row, text in pairs], parts)
    found: list[list[HarmfulAnswer]] = [[] for _ in samples]
    for (row, text), ids, margin in zip(pairs, tokens, margins, strict=True):
        found[row].append(HarmfulAnswer(text, ids, margin))
    return [sorted(answers, key=lambda answer: answer.margin) for answers in found]


def _candidates(texts: Sequence[str], words: str) -> Iterator[str]:
    """Every text plain, and behind and before harmless words."""
    for text in filter(None, texts):
        yield from (text, f"Sure, {text}", f"{words} {text}", f"{text} {words}")


@dataclass(frozen=True)
class _Asker:
    """Asks the undefended model, and defenses about its answers."""

    vlm: VLM
    batch_size: int
    progress: bool

    def said(self, samples: Sequence[Sample]) -> list[str]:
        """Greedy answers."""
        return self._asked(samples, {})

    def drawn(self, samples: Sequence[Sample], seed: int) -> list[tuple[str, ...]]:
        """The greedy answer to each, and some sampled ones."""
        device = [self.vlm.device] if self.vlm.device.type == "cuda" else []
        with torch.random.fork_rng(device):
            torch.manual_seed(seed)
            sampled = {"do_sample": True, "temperature": 1.0}
            rounds = [self._asked(samples, sampled) for _ in range(_DRAWS)]
        return list(zip(self.said(samples), *rounds, strict=True))

    def margins(self, pairs: Sequence[tuple[Sample, str]], parts: Sequence[Parts]) -> list[float]:
        """The largest margin of each answer over the defenses that judge answers."""
        judges = [part.answers for part in parts if part.answers is not None]
        numbered = [replace(sample, id=str(row)) for row, (sample, _) in enumerate(pairs)]

        def judged(batch: Sequence[Sample]) -> list[float]:
            inputs = dict(encode_asked(self.vlm, batch))
            own = [pairs[int(sample.id)][1] for sample in batch]
            margins = torch.stack([margin(inputs, own) for margin in judges])
            return [float(value) for value in margins.amax(dim=0)]

        found = by_batches(
            numbered, self.batch_size, judged, "judging answers", progress=self.progress
        )
        return [margin for batch in found for margin in batch]

    def _asked(self, samples: Sequence[Sample], settings: Mapping[str, object]) -> list[str]:
        def answered(batch: Sequence[Sample]) -> list[str]:
            inputs = dict(encode_asked(self.vlm, batch))
            with torch.no_grad():
                found = undefended(self.vlm)(
                    **inputs,
                    **{**short_answer(self.vlm, _LONGEST), **settings},
                    pad_token_id=self.vlm.tokenizer.pad_token_id,
                )
            texts: list[str] = self.vlm.decode(found, inputs["input_ids"].shape[1])
            return texts

        found = by_batches(
            samples, self.batch_size, answered, "asking undefended", progress=self.progress
        )
        return [text for batch in found for text in batch]
