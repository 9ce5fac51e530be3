"""How much of a refusal data set can be predicted from the wording alone?

Fine-tuning on refusals teaches the cheapest cue that predicts them, even a single word. With N1
harmful and N0 benign questions, of which n1 and n0 contain a word w (or begin with it),

    S(w) = log[(n1 + 1/2) / (N1 - n1 + 1/2)] - log[(n0 + 1/2) / (N0 - n0 + 1/2)]

is the log-odds ratio, above 0 for words of refused questions, with the interval of Haldane,
Anscombe and Woolf: 1.96 times the root of the sum of 1 / (count + 1/2) over the four counts.
Two probes are fitted on one split and scored on another: the first word (for unseen words the
probe falls back on the overall balance), and whether the question ends in a question mark.
Words are lower case and exclude an apostrophe and what follows it.

An intervention measures whether a model uses the cue: only the first word is replaced,
flip(w) = P(refused | do(first word := w)) - P(refused), over the same samples. This file only
counts and fits; the caller runs the model.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import numpy as np
from pydantic import Field

from safesight.analysis.results import Band
from safesight.attacks.wording import with_first_word
from safesight.errors import InputError
from safesight.records import Record
from safesight.stats import (
    METRICS,
    Clusters,
    Judgement,
    both_judged,
    clusters_of,
    mean_interval,
    paired_difference,
)
from safesight.types import Label, Sample, TuningSample, Verdict, group_of

__all__ = [
    "Flip",
    "ProbeResult",
    "SpuriousReport",
    "WordOdds",
    "any_word_odds",
    "first_word",
    "first_word_odds",
    "flips",
    "log_odds",
    "probes",
    "words_of",
]

_Z = 1.959964
_WORD = re.compile(r"[^\W_]+")
_OWN = re.compile(r"['’](?:s|re|ve|d|ll|m|t)\b")


class WordOdds(Record):
    """How strongly one word is associated with refusals."""

    word: str
    harmful: int
    """Harmful questions that contain it, or begin with it."""
    benign: int
    odds: Band
    """S(w), above 0 for words of harmful questions, with its 95% interval."""


class ProbeResult(Record):
    """How well one feature of the wording predicts the label of held-out questions."""

    probe: Literal["first word", "question mark"]
    accuracy: Band
    """Its interval is over what the questions are about, where that is known."""
    chance: float
    """Accuracy of always guessing the more common label."""
    true_positive_rate: float
    """Share of harmful questions classified as harmful."""
    false_positive_rate: float
    """Share of benign questions classified as harmful."""
    n: int


class Flip(Record):
    """How replacing the first word changes refusals."""

    label: Label
    """Label of the requests."""
    word: str | None
    """The new first word; None for the original questions."""
    refused: Band | None
    """Share of refusals among the answers that could be judged; None without. Its interval is over
    what the questions are about, where that is known."""
    n: int
    invalid: int
    change: Band | None = None
    """Change from the original questions, over the same samples; paired bootstrap."""


class SpuriousReport(Record):
    """Everything `safesight spurious` found."""

    dataset: str
    settings: dict[str, Any] = Field(default_factory=dict)
    train: dict[Label, int]
    test: dict[Label, int]
    first_words: list[WordOdds]
    any_words: list[WordOdds]
    probes: list[ProbeResult]
    model: str | None = None
    flips: list[Flip] = Field(default_factory=list)


def words_of(text: str) -> list[str]:
    """The words of a text in lower case, without apostrophe endings.

    Example:
        >>> words_of("What's the man's hat?")
        ['what', 'the', 'man', 'hat']
    """
    return _WORD.findall(_OWN.sub("", text.lower()))


def first_word(text: str) -> str:
    """The first word, or the empty string."""
    return next(iter(words_of(text)), "")


def log_odds(n1: int, total1: int, n0: int, total0: int) -> Band:
    """S(w) and its interval, from the counts of questions with the word and in all.

    Example:
        >>> odds = log_odds(61, 2000, 869, 977)
        >>> round(odds.value, 2), round(odds.low, 2), round(odds.high, 2)
        (-5.53, -5.86, -5.21)
    """
    cells = (n1 + 0.5, total1 - n1 + 0.5, n0 + 0.5, total0 - n0 + 0.5)
    value = math.log(cells[0] / cells[1]) - math.log(cells[2] / cells[3])
    reach = _Z * math.sqrt(sum(1 / cell for cell in cells))
    return Band(value=value, low=value - reach, high=value + reach)


def first_word_odds(rows: Sequence[TuningSample], *, least: int = 10) -> list[WordOdds]:
    """S of every first word of at least `least` questions, largest first.

    Raises:
        InputError: a label has no rows.
    """
    return _odds(rows, lambda text: {first_word(text)} - {""}, least)


def any_word_odds(rows: Sequence[TuningSample], *, least: int = 10) -> list[WordOdds]:
    """S of every word in any position; a question that repeats a word counts once.

    Raises:
        InputError: a label has no rows.
    """
    return _odds(rows, lambda text: set(words_of(text)), least)


def _odds(
    rows: Sequence[TuningSample], of: Callable[[str], Iterable[str]], least: int
) -> list[WordOdds]:
    _refuse_one_label(rows)
    totals = Counter(row.label for row in rows)
    counts: dict[Label, Counter[str]] = {"harmful": Counter(), "benign": Counter()}
    for row in rows:
        counts[row.label].update(of(row.question))
    harmful, benign = counts["harmful"], counts["benign"]
    found = [
        WordOdds(
            word=word,
            harmful=harmful[word],
            benign=benign[word],
            odds=log_odds(harmful[word], totals["harmful"], benign[word], totals["benign"]),
        )
        for word in harmful.keys() | benign.keys()
        if harmful[word] + benign[word] >= least
    ]
    return sorted(found, key=lambda each: (-each.odds.value, each.word))


def probes(
    train: Sequence[TuningSample], test: Sequence[TuningSample], *, seed: int = 0
) -> list[ProbeResult]:
    """The two probes, fitted on one split and scored on the other.

    Raises:
        InputError: a split lacks a label.
    """
    _refuse_one_label(train)
    _refuse_one_label(test)
    return [
        _probe("first word", first_word, train, test, seed),
        _probe("question mark", _asks, train, test, seed),
    ]


def _asks(text: str) -> str:
    return "?" if text.rstrip().endswith("?") else "other"


def _probe(
    name: Literal["first word", "question mark"],
    feature: Callable[[str], str],
    train: Sequence[TuningSample],
    test: Sequence[TuningSample],
    seed: int,
) -> ProbeResult:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    def table(rows: Sequence[TuningSample]) -> tuple[Any, Any]:
        texts = np.array([[feature(row.question)] for row in rows], dtype=object)
        return texts, np.array([row.label == "harmful" for row in rows])

    # Almost unregularized: with one feature it is a lookup, and rare words should count.
    probe = make_pipeline(
        OneHotEncoder(handle_unknown="ignore"),
        LogisticRegression(C=100.0, max_iter=1000, random_state=seed),
    )
    probe.fit(*table(train))
    texts, truth = table(test)
    said = probe.predict(texts)
    about = clusters_of(row.id if row.group is None else (row.group,) for row in test)
    share = mean_interval((said == truth).astype(float), about, seed=seed)
    return ProbeResult(
        probe=name,
        accuracy=Band.of(share),
        chance=float(max(truth.mean(), 1 - truth.mean())),
        true_positive_rate=float(said[truth].mean()),
        false_positive_rate=float(said[~truth].mean()),
        n=len(truth),
    )


def flips(
    samples: Sequence[Sample],
    words: Sequence[str],
    verdicts: Callable[[Sequence[Sample]], Sequence[Verdict]],
    *,
    seed: int = 0,
) -> list[Flip]:
    """Refusals with each word as the first word, and for the original questions.

    Args:
        samples: Requests of one label or of both.
        words: What to replace the first word with.
        verdicts: Asks a model and judges its answers, one verdict per sample.
        seed: Seed of the bootstrap.

    Raises:
        InputError: there are no samples, or no words.
    """
    if not samples or not words:
        raise InputError("A flip needs samples and replacement words. Give at least one of each.")
    plain = verdicts(samples)
    found = []
    labels: tuple[Label, Label] = ("harmful", "benign")
    turned = {
        word: verdicts([s.reworded(with_first_word(s.question, word)) for s in samples])
        for word in dict.fromkeys(words)
    }
    for label in labels:
        rows = [index for index, sample in enumerate(samples) if sample.label == label]
        if rows:
            before = [plain[row] for row in rows]
            about = clusters_of(group_of(samples[row].facts, samples[row].id) for row in rows)
            found.append(_flip((label, None), before, None, about, seed))
            for word, after in turned.items():
                changed = [after[row] for row in rows]
                found.append(_flip((label, word), changed, before, about, seed))
    return found


def _flip(
    asked: tuple[Label, str | None],
    verdicts: Sequence[Verdict],
    before: Sequence[Verdict] | None,
    about: Clusters | None,
    seed: int,
) -> Flip:
    metric = METRICS["refusal_rate"]
    answers = [Judgement(verdict) for verdict in verdicts]
    share = metric.rate(answers, about, seed=seed)
    change = None
    if before is not None:
        arms = metric.hits(Judgement(verdict) for verdict in before), metric.hits(answers)
        pairs = both_judged(*arms)
        if pairs[0]:
            judged = [None not in pair for pair in zip(*arms, strict=True)]
            moved = paired_difference(*pairs, about and about.kept(judged), seed=seed)
            change = Band(value=moved.delta, low=moved.low, high=moved.high)
    return Flip(
        label=asked[0],
        word=asked[1],
        refused=None
        if share.value is None
        else Band(value=share.value, low=share.low, high=share.high),
        n=share.n,
        invalid=share.invalid,
        change=change,
    )


def _refuse_one_label(rows: Sequence[TuningSample]) -> None:
    missing = {"harmful", "benign"} - {row.label for row in rows}
    if missing:
        raise InputError(
            f"There are no {' and no '.join(sorted(missing))} rows, and a cue can only be found "
            "by comparing both labels. Use a set with both."
        )
