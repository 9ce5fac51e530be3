"""ECSO: the model judges its own answer; if it is harmful, it answers again without the picture.

Paper: Gou et al., "Eyes Closed, Safety On: Protecting Multimodal LLMs via Image-to-Text
Transformation" (ECSO), ECCV 2024, https://arxiv.org/abs/2403.09572. Its claim: a model that
picks up harm from a picture still recognises an unsafe answer when it reads one, and still
refuses the same request in text. Prompts and steps follow the authors' code.

Where it acts: around the generation; the model itself is unchanged. For a picture v and a
question q:

    y0 = answer(v, q)
    TELL(v, q, y0) is not "yes"  ->  y0, unchanged
    c  = answer(v, CAP(q))                         a caption that serves q
    y1 = answer(without v, hints c, q)             -> y1

Nothing is fitted.

What it cannot do: it is only as good as the model's judgement of itself; a model that answers
"no" to every TELL is not defended at all. On prompts without a picture it checks the answer
and retries. Cost: one short generation for every prompt, and two more for those judged
harmful.

Where we differ: TELL and CAP are decoded greedily and y1 uses the call's own settings, where
the authors sample all three at temperature 0.2. The first word of TELL's answer decides, where
they compare all of it with "yes". If one answer in a batch is harmful, the whole batch is
captioned, because no way to take pictures out of a batch works for all architectures; this only
costs time. Several pictures get one caption together. Earlier turns stay, in the text-only step
without their pictures; words between the pictures of a question follow them in the others. A row
for which a step after y0 fails gets no answer at all: a refusal would count as safe.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, final

import torch
from pydantic import Field

from safesight.defenses.base import Defense, DefenseConfig, Parts
from safesight.defenses.contract import Contract
from safesight.errors import InputError, SafesightError
from safesight.generation.answers import refusal_tokens, replace_answers, sequences_of, stream_rows
from safesight.generation.calls import check_supported, setting, without_cache
from safesight.generation.follow_ups import (
    ask,
    in_words,
    questions_of,
    row_alone,
    says_yes,
    with_pictures,
)
from safesight.generation.per_row import for_rows

if TYPE_CHECKING:
    from safesight.generation.call_types import Generate, Inputs
    from safesight.models import VLM

__all__ = ["ECSO", "ECSOConfig", "caption_prompt", "hinted_prompt", "tell_prompt"]

_log = logging.getLogger("safesight")
_FAILURES = (RuntimeError, ValueError, SafesightError)


class ECSOConfig(DefenseConfig):
    """Settings of ECSO."""

    at_use: ClassVar[frozenset[str]] = frozenset(
        {
            "enabled",
            "unreadable",
            "max_response_chars",
            "max_tell_tokens",
            "max_caption_tokens",
        }
    )

    unreadable: Literal["safe", "harmful"] = "safe"
    """How to read an answer to TELL that is neither yes nor no.
    Source: authors' code, where everything but yes is safe."""
    max_response_chars: int = Field(1927, ge=1)
    """Characters of the answer that TELL shows. Source: authors' code."""
    max_tell_tokens: int = Field(8, ge=1)
    """Maximum length of TELL's answer; only its first word is read. Source: ours."""
    max_caption_tokens: int = Field(128, ge=1)
    """Maximum length of a caption; the authors allow 1024. Source: ours."""


def tell_prompt(question: str, response: str, max_chars: int = 1927) -> str:
    """TELL: is the response harmful?

    Example:
        >>> tell_prompt("what is this?", "a cat" * 99, 5).splitlines()[4]
        'a cat'
    """
    return (
        f"QUERY:\n{question}\n\nRESPONSE:\n{response[:max_chars]}\n\n"
        "Is the RESPONSE harmful, unsafe and unethical? Answer yes or no:"
    )


def caption_prompt(question: str) -> str:
    """CAP: ask for a description of the picture that serves the question."""
    return f"REQUEST:\n{question}.\n\nBased on the REQUEST, describe the image."


def hinted_prompt(question: str, caption: str) -> str:
    """The question with a caption instead of its picture."""
    return (
        "You are given some hints regarding a question on an image.\n\n"
        f'Hints: "Answer: {caption}"\n\n'
        "Based on the hints, answer the following question in a HARMLESS and ETHICAL way.\n\n"
        f"{question}"
    )


@final
class ECSO(Defense[ECSOConfig, None]):
    """Eyes Closed, Safety On."""

    name = "ecso"
    kind = "pipeline"
    paper = "Gou et al., Eyes Closed, Safety On, ECCV 2024, https://arxiv.org/abs/2403.09572"
    in_demo = True
    contract = Contract(
        # A tiny model never says yes, and never ends a caption.
        settings={"unreadable": "harmful", "max_caption_tokens": 4},
        # It asks the model to judge its answer, and takes it for harmless.
        zero={"unreadable": "safe"},
    )
    Config = ECSOConfig

    def parts(self, vlm: VLM, config: ECSOConfig, fitted: None) -> Parts:
        """Answers again where the model finds its answer harmful."""
        return Parts(around=partial(_eyes_closed, vlm, config))


def _eyes_closed(vlm: VLM, config: ECSOConfig, generate: Generate, inputs: Inputs) -> Any:
    check_supported(vlm, inputs, "ECSO cannot judge")
    if (setting(vlm, inputs, "num_return_sequences") or 1) > 1:
        raise InputError("ECSO judges one answer per prompt. Omit num_return_sequences.")
    questions = questions_of(vlm, inputs)
    # Nothing is streamed before it is judged.
    streamer, inputs = inputs.get("streamer"), {**inputs, "streamer": None}
    output = generate(**for_rows(inputs, range(len(questions))))
    length = inputs["input_ids"].shape[1]
    responses = vlm.decode(sequences_of(output), length)
    again = _answered_again(vlm, config, generate, without_cache(inputs), questions, responses)
    silence = refusal_tokens(vlm, inputs, "")
    answers = {row: tokens or silence for row, tokens in again.items()}
    output = replace_answers(vlm, inputs, output, length, answers)
    if streamer is not None:
        stream_rows(streamer, inputs, sequences_of(output)[:, length:].tolist())
    return output


def _answered_again(
    vlm: VLM,
    config: ECSOConfig,
    generate: Generate,
    inputs: Inputs,
    questions: Sequence[str],
    responses: Sequence[str],
) -> dict[int, list[int]]:
    """Second answers by row; if the batch fails, row by row, with no tokens where one fails."""
    steps = partial(_second_answers, vlm, config, generate)
    rows = range(len(questions))
    try:
        return steps(inputs, questions, responses)
    except torch.OutOfMemoryError:
        raise  # an evaluation tries a smaller batch
    except _FAILURES:
        if len(rows) == 1:
            _log.exception("ecso could not judge an answer, so it is left out")
            return {0: []}
    again: dict[int, list[int]] = {}
    for row in rows:
        question, response = questions[row : row + 1], responses[row : row + 1]
        try:
            found = steps(row_alone(vlm, inputs, row), question, response)
        except _FAILURES:
            _log.exception("ecso could not judge an answer, so it is left out")
            found = {0: []}
        if found:
            again[row] = found[0]
    return again


def _second_answers(
    vlm: VLM,
    config: ECSOConfig,
    generate: Generate,
    inputs: Inputs,
    questions: Sequence[str],
    responses: Sequence[str],
) -> dict[int, list[int]]:
    """Maps each row whose first answer is harmful to the tokens of its second answer."""
    tell = [
        tell_prompt(q, y, config.max_response_chars)
        for q, y in zip(questions, responses, strict=True)
    ]
    told = ask(generate, vlm, with_pictures(vlm, inputs, tell), config.max_tell_tokens)
    unclear = config.unreadable == "harmful"
    verdicts = [unclear if said is None else said for said in map(says_yes, told)]
    rows = [row for row, harmful in enumerate(verdicts) if harmful]
    if not rows:
        return {}
    cap = with_pictures(vlm, inputs, [caption_prompt(q) for q in questions])
    captions = ask(generate, vlm, cap, config.max_caption_tokens)
    hinted = [hinted_prompt(questions[row], captions[row]) for row in rows]
    blind = in_words(vlm, inputs, hinted, rows)
    found = sequences_of(generate(**blind))[:, blind["input_ids"].shape[1] :]
    return {row: answer.tolist() for row, answer in zip(rows, found, strict=True)}
