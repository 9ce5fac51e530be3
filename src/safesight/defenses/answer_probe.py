"""Answer probe: the model reads its answer back without the picture, and a probe judges it.

A probe of the prompt reads states that every pixel moves, so anyone who has gradients moves its
score to where they want it. This one judges the answer instead. The model answers; then it is asked
whether that answer is harmful, in words and without the picture, and a linear probe reads the state
at the end of that question. The picture moves this score only through the words that the model
wrote about it. No paper proposes it in this form. The question is TELL of ECSO (Gou et al., ECCV
2024, arXiv 2403.09572), which is asked with the picture there, and whose answer in words decides.

Where it acts: around the generation. For a question q and an answer y, with h(.) the state of the
last prompt token after one block,

    score = max over y' of (w . h(TELL(q, y')) + b)        y' is y, or a part of it

and an answer at or above the threshold is replaced by the refusal. The parts are runs of sentences,
so harm cannot hide behind or before harmless words. Any other answer is returned as the model wrote
it. Nothing is streamed before it is judged.

What is fitted: w and b by logistic regression on harmful and benign answers, those of a forget and
a retain set; the block by cross-validation over whole things; the threshold on the model's own
answers to the half of the retain set that the probe has not seen. Cost: one prefill for an answer
and for each of its parts, without a picture. Nothing of the answer is generated again.

What it cannot do: see harm that the model does not recognize in words, such as an answer in a code,
which a model that can write one may be made to write. Nor can it judge what is harmful only beside
the picture. It reads the question, too, whose words an attacker chooses.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, final

import torch
from pydantic import Field
from torch import Tensor

from safesight.activations import threshold_at_fpr
from safesight.defenses.base import Defense, Parts, Stored
from safesight.defenses.baselines.ecso import tell_prompt
from safesight.defenses.contract import Contract
from safesight.defenses.shared.block_gate import (
    BlockConfig,
    BlockFitted,
    block_gate,
    candidate_blocks,
)
from safesight.defenses.shared.linear_gate import (
    LinearGate,
    blank_probe,
    fit_gate,
    gate_artifact,
    gate_probe,
)
from safesight.errors import InputError
from safesight.fitting.data import FitData
from safesight.fitting.provenance import provenance
from safesight.generation.answers import refusal_tokens, replace_answers, sequences_of, stream_rows
from safesight.generation.calls import (
    check_supported,
    run_prefill,
    setting,
    without_cache,
)
from safesight.generation.follow_ups import in_words, questions_of
from safesight.generation.per_row import for_rows
from safesight.models.asking import by_batches, encode_asked
from safesight.training.own_answers import asked_as, own_answers
from safesight.training.rows import TuningData
from safesight.types import Sample

if TYPE_CHECKING:
    from safesight.fitting.artifact import Artifact
    from safesight.generation.call_types import Generate, Inputs
    from safesight.models import VLM
    from safesight.types import TuningSample

__all__ = ["AnswerProbe", "AnswerProbeConfig", "parts_of"]

Answers = Callable[["Inputs", Sequence[str]], Tensor]
"""Maps a call and an answer to each of its prompts to margins, B."""


class AnswerProbeConfig(BlockConfig):
    """Settings of the answer probe."""

    at_use: ClassVar[frozenset[str]] = BlockConfig.at_use | {"pieces"}

    pieces: int = Field(8, ge=0, le=64)
    """The most parts of an answer that are judged beside the whole; 0 judges only the whole.
    Source: ours."""
    max_answer_tokens: int = Field(128, ge=1)
    """Maximum length of the model's own answers that set the threshold. Source: ours."""


def parts_of(answer: str, most: int) -> list[str]:
    """The answer, and the runs of sentences that it is divided into if it has several.

    Args:
        answer: Any text.
        most: The most runs.

    Example:
        >>> parts_of("a cat. to sit: sit.", 8)
        ['a cat. to sit: sit.', 'a cat.', 'to sit:', 'sit.']
        >>> parts_of("a. b. c. d.", 2), parts_of("a. b.", 0), parts_of(" ", 8)
        (['a. b. c. d.', 'a. b.', 'c. d.'], ['a. b.'], [])
    """
    said = [each for each in re.split(r"(?<=[.!?:])\s+|\n+", answer.strip()) if each.strip()]
    number = min(len(said), most)
    edges = [round(i * len(said) / number) for i in range(number + 1)] if number else []
    runs = [" ".join(said[a:b]) for a, b in itertools.pairwise(edges)]
    return [answer.strip(), *(runs if len(runs) > 1 else [])] if said else []


@final
class AnswerProbe(Defense[AnswerProbeConfig, BlockFitted]):
    """A linear probe on what the model makes of its answer, in words."""

    name = "answer_probe"
    kind = "pipeline"
    attacks = ("paraphrase",)
    paper = "none: ours, after the TELL step of ECSO (Gou et al., ECCV 2024, arXiv 2403.09572)"
    needs = frozenset({"activations", "forget_set", "retain_set"})
    fitted = True
    contract = Contract(
        settings={"layer": 2, "folds": 2, "max_answer_tokens": 5},
        zero={"threshold": 1 - 1e-9},
        fitted={"threshold": -1e30},
    )
    Config = AnswerProbeConfig

    def fit(self, vlm: VLM, data: FitData, *, seed: int = 0, progress: bool = True) -> Artifact:
        """Choose the block, fit the probe and set the threshold; the model is not changed.

        Raises:
            InputError: a set is too small, or a row has no answer.
            ModelError: the model does not have the requested block.
        """
        config = self.config
        rows = TuningData(data.tuning, ("forget", "retain"))
        rows.need_answers(self.name, "forget", "retain")
        benign, held_out = rows.retain[::2], rows.retain[1::2]
        layers = candidate_blocks(vlm.num_layers, config.layer)
        gates = {layer: block_gate(config, layer, blank_probe()) for layer in layers}
        told = FitData(
            [_told(row, row.answer) for row in rows.forget],
            [_told(row, row.answer) for row in benign],
            tuning=data.tuning,
            tuning_source=data.tuning_source,
        )
        fit = fit_gate(vlm, told, config, gates, seed=seed, progress=progress)
        own = own_answers(
            vlm,
            [asked_as(row) for row in held_out],
            longest=config.max_answer_tokens,
            batch_size=config.batch_size,
            progress=progress,
        )
        said = [(row, each.text) for row, each in zip(held_out, own, strict=True) if each.text]
        calibration = [_told(row, answer) for row, answer in said]
        gate = block_gate(config, fit.chosen, fit.probe)
        scores = _scores(vlm, gate, said, config, progress)
        threshold = threshold_at_fpr(scores, config.max_fpr)
        told = replace(told, calibration_benign=calibration)
        fit = replace(fit, threshold=threshold, scores=scores)
        artifact = gate_artifact(self.name, vlm, told, config, fit, seed, layer=fit.chosen)
        # Whose rows they were, not the questions that they were made into.
        return replace(artifact, card={**artifact.card, **provenance(vlm, data, seed)})

    def read(self, stored: Stored, config: AnswerProbeConfig) -> BlockFitted:
        """The block, the probe and its threshold."""
        return BlockFitted(stored.layer(), gate_probe(stored, config))

    def parts(self, vlm: VLM, config: AnswerProbeConfig, fitted: BlockFitted) -> Parts:
        """Judges what was generated."""
        gate = block_gate(config, fitted.layer, fitted.probe)
        margins = partial(_margins, vlm, gate, config.pieces)
        return Parts(around=partial(_judged, vlm, config, margins), answers=margins)


def _margins(
    vlm: VLM, gate: LinearGate, pieces: int, inputs: Inputs, answers: Sequence[str]
) -> Tensor:
    """By how much each answer is above the threshold; B, on the CPU. No words, no harm."""
    questions = questions_of(vlm, inputs)
    parts = [(row, part) for row, said in enumerate(answers) for part in parts_of(said, pieces)]
    found = torch.full((len(answers),), -math.inf)
    # As many at once as there are prompts, which fit into memory with their pictures.
    for start in range(0, len(parts), len(answers)):
        some = parts[start : start + len(answers)]
        rows, texts = [row for row, _ in some], [_tell(questions[row], part) for row, part in some]
        _, prefill = run_prefill(
            vlm, in_words(vlm, without_cache(inputs), texts, rows), gate.sites, None
        )
        with torch.no_grad():
            scores = gate.judge(prefill).scores.cpu()
        for row, score in zip(rows, scores, strict=True):
            found[row] = torch.maximum(found[row], score)  # no number stays none
    return found - gate.probe.threshold


def _judged(
    vlm: VLM, config: AnswerProbeConfig, margins: Answers, generate: Generate, inputs: Inputs
) -> Any:
    check_supported(vlm, inputs, "The answer probe cannot judge")
    if (setting(vlm, inputs, "num_return_sequences") or 1) > 1:
        raise InputError("answer_probe judges one answer per prompt. Omit num_return_sequences.")
    rows = range(len(questions_of(vlm, inputs)))  # refuses what it could not judge
    # Nothing is streamed before it is judged.
    streamer, inputs = inputs.get("streamer"), {**inputs, "streamer": None}
    output = generate(**for_rows(inputs, rows))
    length = inputs["input_ids"].shape[1]
    passed = margins(inputs, vlm.decode(sequences_of(output), length)) < 0
    refusal = refusal_tokens(vlm, inputs, config.refusal)
    refused = (~passed).nonzero().flatten().tolist()  # and where it is not a number
    output = replace_answers(vlm, inputs, output, length, dict.fromkeys(refused, refusal))
    if streamer is not None:
        stream_rows(streamer, inputs, sequences_of(output)[:, length:].tolist())
    return output


def _tell(question: str, answer: str) -> str:
    """TELL, with all of the answer."""
    return tell_prompt(question, answer, len(answer))


def _told(row: TuningSample, answer: str) -> Sample:
    """The question about an answer to a row."""
    facts = {} if row.group is None else {"concept": row.group}
    return Sample(row.id, _tell(row.question, answer), row.label, target="", facts=facts)


def _scores(
    vlm: VLM,
    gate: LinearGate,
    said: Sequence[tuple[TuningSample, str]],
    config: AnswerProbeConfig,
    progress: bool,
) -> Tensor:
    """The score of every answer: the largest of its parts."""
    parts = [
        (number, _told(row, part))
        for number, (row, answer) in enumerate(said)
        for part in parts_of(answer, config.pieces)
    ]

    def read(batch: Sequence[Sample]) -> Tensor:
        _, prefill = run_prefill(vlm, dict(encode_asked(vlm, batch)), gate.sites, None)
        with torch.no_grad():
            return gate.judge(prefill).scores.cpu()

    asked = [sample for _, sample in parts]
    found = by_batches(asked, config.batch_size, read, "calibrating", progress=progress)
    of_parts = torch.cat([torch.zeros(0), *found])
    rows = torch.tensor([number for number, _ in parts], dtype=torch.long)
    least = torch.full((len(said),), -math.inf)
    return least.scatter_reduce(0, rows, of_parts, "amax")
