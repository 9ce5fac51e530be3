"""The model's own answers in place of given ones, for sets that have none or somebody else's.

A given answer is in its author's words. Unlearning it does little to what the model itself would
say, and keeping it teaches another style. The model's own answers before training are
what it would do, and need no author: prompts with labels are enough.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from pydantic import Field

from safesight import ranks
from safesight.console import stderr
from safesight.errors import InputError
from safesight.generation.calls import short_answer, undefended
from safesight.grammar import ANY_MODEL, load_judge
from safesight.models.asking import by_batches, encode_asked
from safesight.training.batches import stop_tokens
from safesight.training.config import TuningConfig
from safesight.training.place import answered_before, check_free
from safesight.training.plan import Answered
from safesight.training.rows import TuningData, rows_hash
from safesight.types import Sample

if TYPE_CHECKING:
    from safesight.models import VLM
    from safesight.training.plan import Fitting
    from safesight.types import TuningSample, TuningSet

__all__ = ["AnswersConfig", "OwnAnswer", "answered_rows", "asked_as", "own_answers", "settled"]

_BATCH = 16


class AnswersConfig(TuningConfig):
    """Settings of a method that trains on answers."""

    answers: Literal["given", "self"] = "given"
    """The answers of the rows, or the model's own before training. Source: ours."""
    max_answer_tokens: int = Field(48, ge=1)
    """Maximum length of the model's own answers. Source: ours."""


class OwnAnswer(NamedTuple):
    """What a model answers."""

    text: str
    whole: bool
    """Whether it ended, and was not cut off."""


def settled(fitting: Fitting, data: TuningData, *sets: TuningSet) -> tuple[Fitting, TuningData]:
    """The call of `fit` and its rows, with the answers that the method trains on.

    The model's own answer to a row replaces the given one. A row that it refuses, or answers with
    nothing readable, is dropped: there is nothing to unlearn, and nothing worth keeping. The
    answers count as data of the run, and are kept in its folder, so a resumed run trains on them.

    Args:
        fitting: The call; its config is an `AnswersConfig`.
        data: The rows.
        sets: Those whose answers the method trains on.

    Raises:
        InputError: a given answer is missing, or the model answers no row of a set.
        StorageError: the run's folder holds something that may be wanted.
    """
    config = fitting.config
    assert isinstance(config, AnswersConfig)
    if config.answers == "given":
        _need_given(fitting.name, data, *sets)
        return fitting, data
    asked = [row for row in data.rows if row.set in sets]
    kept = _answered(fitting, asked, config.max_answer_tokens)
    answered = _readable(asked, [OwnAnswer(*each) for each in kept.said])
    for name in sets:
        if not any(row.set == name for row in answered):
            raise InputError(
                f"{fitting.vlm.name} answers none of the {name} rows, so {fitting.name} with "
                "answers='self' has nothing to train on. Give other rows."
            )
    if fitting.progress and len(answered) < len(asked):
        stderr().print(
            f"{len(asked) - len(answered)} of {len(asked)} rows are left out: {fitting.vlm.name} "
            "refuses them, or answers with nothing readable."
        )
    rows = [*answered, *(row for row in data.rows if row.set not in sets)]
    given = replace(fitting.data, tuning=rows)
    return replace(fitting, data=given, answered=kept), TuningData(rows, data.needed)


def _answered(fitting: Fitting, asked: Sequence[TuningSample], longest: int) -> Answered:
    """What the model answers; for a run that is resumed, what it answered at its start.

    Raises:
        StorageError: the run's folder holds something that may be wanted.
    """
    vlm, run = fitting.vlm, fitting.run
    if run is not None and ranks.first():
        check_free(run)
    text = f"{vlm.identity} {rows_hash(asked)} {longest}"
    named = hashlib.sha256(text.encode()).hexdigest()
    with ranks.together():
        kept = ranks.agreed(answered_before(run, named))
        if kept is not None and len(kept.said) == len(asked):
            return kept
        prompts = [asked_as(row) for row in asked]
        return Answered(
            named, own_answers(vlm, prompts, longest=longest, progress=fitting.progress)
        )


def _need_given(name: str, data: TuningData, *sets: TuningSet) -> None:
    try:
        data.need_answers(name, *sets)
    except InputError as error:
        raise InputError(f"{error} Or let the model answer: answers='self'.") from error


def answered_rows(
    vlm: VLM, rows: Sequence[TuningSample], *, longest: int, progress: bool = False
) -> list[TuningSample]:
    """The rows that the undefended model answers, with its greedy answers.

    Example:
        >>> from safesight import VLM
        >>> from safesight.types import TuningSample
        >>> row = TuningSample("1", "what is a crab?", "", "benign", "retain")
        >>> [each.answer for each in answered_rows(VLM.load("testbed"), [row], longest=8)]
        ['a crab is a kind of animal.']
    """
    asked = [asked_as(row) for row in rows]
    return _readable(rows, own_answers(vlm, asked, longest=longest, progress=progress))


def _readable(rows: Sequence[TuningSample], answers: Sequence[OwnAnswer]) -> list[TuningSample]:
    """The rows with these answers, without those that are refused or unreadable."""
    judge = load_judge(ANY_MODEL)
    return [
        replace(row, answer=answer.text, whole=answer.whole)
        for row, answer in zip(rows, answers, strict=True)
        if judge(answer.text, asked_as(row)) in ("harmful", "harmless")
    ]


def asked_as(row: TuningSample) -> Sample:
    """The question of a row; its picture is rendered when it is needed."""
    return Sample(row.id, row.question, row.label, "", row.image)


def own_answers(
    vlm: VLM,
    prompts: Sequence[Sample],
    *,
    longest: int,
    batch_size: int = _BATCH,
    progress: bool = False,
) -> list[OwnAnswer]:
    """What the undefended model answers, greedily.

    Args:
        vlm: The model; what is attached to it is bypassed.
        prompts: What to ask.
        longest: Maximum number of tokens.
        batch_size: Prompts per generation.
        progress: Show a bar on standard error.
    """
    stops = torch.tensor(sorted(stop_tokens(vlm)))

    def answered(batch: Sequence[Any]) -> list[OwnAnswer]:
        inputs = dict(encode_asked(vlm, batch))
        with torch.no_grad():
            found = undefended(vlm)(
                **inputs,
                **short_answer(vlm, longest),
                pad_token_id=vlm.tokenizer.pad_token_id,
            )
        start = inputs["input_ids"].shape[1]
        ended = torch.isin(found[:, start:].cpu(), stops).any(dim=1)
        texts = vlm.decode(found, start)
        return [OwnAnswer(*each) for each in zip(texts, ended.tolist(), strict=True)]

    parts = by_batches(prompts, batch_size, answered, "answering", progress=progress)
    return [answer for part in parts for answer in part]
