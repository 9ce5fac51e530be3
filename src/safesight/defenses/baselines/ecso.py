"""ECSO: the model judges its own answer; if it is harmful, it answers again with eyes closed.

Paper: Gou et al., "Eyes Closed, Safety On: Protecting Multimodal LLMs via Image-to-Text
Transformation" (ECSO), ECCV 2024, https://arxiv.org/abs/2403.09572. Its claim: a model
that picks up harm from a picture still knows an unsafe answer when it reads one, and still
refuses the same request in words. Prompts and steps follow the authors' code.

Where it acts: around the generation, with the model as it is. For a picture v and a
question q:

    y0 = answer(v, q)
    TELL(v, q, y0) is not "yes"  ->  y0, untouched
    c  = answer(v, CAP(q))                         what the picture shows, as q needs it
    y1 = answer(without v, hints c, q)             -> y1

Nothing is fitted.

What it cannot do: it is as good as the model's judgement of itself, and a model that says
"no" to every TELL is not defended at all. On prompts without a picture it is a check of the
answer and a second try. It costs one short generation on every prompt, and two more on those
judged harmful.

Where we differ: greedy decoding of TELL and CAP, and the call's own settings for y1, where
the authors sample all at temperature 0.2; the first word of TELL's answer decides, where
they compare all of it with "yes"; a batch with one harmful answer is captioned as a whole,
since pictures cannot be taken out of a batch in a way that all architectures share (only
the time it takes depends on that); earlier turns stay in the text-only step unless they
hold a picture. If a step after y0 fails, or its answer is empty, the row is refused.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, final

from pydantic import Field

from safesight.defenses.base import Defense, DefenseConfig, Parts
from safesight.defenses.contract import Contract
from safesight.errors import InputError, SafesightError
from safesight.generation.answers import refusal_tokens, replace_answers, sequences_of, stream_out
from safesight.generation.calls import check_supported, setting
from safesight.generation.follow_ups import ask, in_words, questions_of, says_yes, with_pictures

if TYPE_CHECKING:
    from safesight.generation.call_types import Generate, Inputs
    from safesight.models import VLM

__all__ = ["ECSO", "ECSOConfig", "caption_prompt", "hinted_prompt", "tell_prompt"]

_log = logging.getLogger("safesight")


class ECSOConfig(DefenseConfig):
    """Settings of ECSO."""

    at_use: ClassVar[frozenset[str]] = frozenset(
        {
            "enabled",
            "unreadable",
            "max_response_chars",
            "max_tell_tokens",
            "max_caption_tokens",
            "refusal",
        }
    )

    unreadable: Literal["safe", "harmful"] = "safe"
    """What an answer to TELL that is neither yes nor no means.
    Source: authors' code, where everything but yes is safe."""
    max_response_chars: int = Field(1927, ge=1)
    """How much of the answer TELL is shown. Source: authors' code."""
    max_tell_tokens: int = Field(8, ge=1)
    """Only the first word of TELL's answer is read. Source: ours."""
    max_caption_tokens: int = Field(128, ge=1)
    """The authors allow 1024. Source: ours."""
    refusal: str = Field(
        "I'm sorry, but I cannot help with that request.", min_length=1, max_length=10_000
    )
    """The answer where a step fails. Source: ours."""


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
    """CAP: what of the picture the question needs."""
    return f"REQUEST:\n{question}.\n\nBased on the REQUEST, describe the image."


def hinted_prompt(question: str, caption: str) -> str:
    """The question without its picture."""
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
        # A tiny model neither says yes nor stops talking.
        settings={"unreadable": "harmful", "max_caption_tokens": 4},
        # It asks the model to judge its answer, and believes that it is harmless.
        zero={"unreadable": "safe"},
    )
    Config = ECSOConfig

    def parts(self, vlm: VLM, config: ECSOConfig, fitted: None) -> Parts:
        """Asks again where the model finds its answer harmful."""
        return Parts(around=partial(_eyes_closed, vlm, config))


def _eyes_closed(vlm: VLM, config: ECSOConfig, generate: Generate, inputs: Inputs) -> Any:
    check_supported(vlm, inputs, "ECSO cannot judge")
    if (setting(vlm, inputs, "num_return_sequences") or 1) > 1:
        raise InputError("ECSO judges one answer a prompt. Drop num_return_sequences.")
    questions = questions_of(vlm, inputs)
    # Nothing is streamed before it is judged.
    streamer, inputs = inputs.get("streamer"), {**inputs, "streamer": None}
    output = generate(**inputs)
    length = inputs["input_ids"].shape[1]
    refusal = refusal_tokens(vlm, inputs, config.refusal)
    try:
        again = _answered_again(vlm, config, generate, inputs, questions, output)
    except (RuntimeError, ValueError, SafesightError):
        _log.exception("ecso could not judge the answers: every row is refused")
        again = {row: [] for row in range(len(questions))}
    answers = {row: tokens or refusal for row, tokens in again.items()}
    output = replace_answers(vlm, inputs, output, length, answers)
    if streamer is not None:
        stream_out(streamer, inputs, sequences_of(output)[0, length:].tolist())
    return output


def _answered_again(
    vlm: VLM,
    config: ECSOConfig,
    generate: Generate,
    inputs: Inputs,
    questions: list[str],
    output: Any,
) -> dict[int, list[int]]:
    """Row to the tokens of its second answer, for rows whose first one is harmful."""
    responses = vlm.decode(sequences_of(output), inputs["input_ids"].shape[1])
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
    texts = vlm.decode(found, 0)
    return {
        row: answer.tolist() if text else []
        for row, answer, text in zip(rows, found, texts, strict=True)
    }
