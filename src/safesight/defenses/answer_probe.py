"""Answer probe: judge the answer, read back without the picture, and refuse in its place.

A probe of the prompt reads states that every pixel moves, so whoever has gradients moves its score
to where they want it. This one reads the answer instead. The model answers; then it reads the
question and that answer again, as words and without the picture, and a linear probe looks at the
states of the answer's tokens. The picture moves this score only through the words that the model
wrote about it. No paper proposes it in this form: that a model which a picture misleads still
recognizes harm in words is the idea of ECSO, which asks it in words, with the picture there.

Where it acts: around the generation. With h_t the state after one block at token t of the answer,
in a pass over the question and the answer alone,

    score = max over t of (w . h_t + b)

and an answer at or above the threshold is replaced by the refusal. So an answer is refused if any
beginning of it would be, whatever stands before or behind the harm. Any other is returned as the
model wrote it. Nothing is streamed before it is judged.

What is fitted: w and b by logistic regression on tokens of harmful and benign answers, those of a
forget and a retain set; the block by cross-validation over whole things; the threshold on the
model's own answers to the half of the retain set that the probe has not seen. Cost: one prefill per
answer, of its question and its words, without a picture. Seconds to fit.

What it cannot do: see harm that its fit did not see, such as an answer in another language or in a
code, which a model that can write one may be made to write. Nor can it judge what is harmful only
beside the picture. It reads the question, too, whose words an attacker chooses.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, final

import torch
from pydantic import Field
from torch import Tensor

from safesight.activations import LinearProbe, threshold_at_fpr
from safesight.defenses.base import Defense, DefenseConfig, Parts, Stored
from safesight.defenses.contract import Contract
from safesight.defenses.probe import candidate_blocks
from safesight.defenses.shared.validation import Validation, choose, folds_of, validated
from safesight.errors import InputError
from safesight.fitting.artifact import Artifact
from safesight.fitting.provenance import provenance
from safesight.generation.answer_states import answer_states, answer_tokens
from safesight.generation.answers import refusal_tokens, replace_answers, sequences_of, stream_rows
from safesight.generation.calls import (
    check_supported,
    setting,
    short_answer,
    undefended,
    without_cache,
)
from safesight.generation.follow_ups import in_words, questions_of
from safesight.generation.per_row import for_rows
from safesight.models.asking import by_batches, encode_asked
from safesight.training.rows import TuningData
from safesight.types import Sample

if TYPE_CHECKING:
    from safesight.fitting.data import FitData
    from safesight.generation.call_types import Generate, Inputs
    from safesight.models import VLM
    from safesight.types import Messages, TuningSample

__all__ = ["AnswerProbe", "AnswerProbeConfig", "spread"]


class AnswerProbeConfig(DefenseConfig):
    """Settings of the answer probe."""

    at_use: ClassVar[frozenset[str]] = frozenset({"enabled", "refusal", "threshold", "batch_size"})

    layer: Annotated[int, Field(ge=0)] | Literal["auto"] | None = "auto"
    """The block to read. "auto" compares up to eight, spread over the depth, and keeps the last one
    unless another is better; None is the last one. Source: ours."""
    C: float = Field(0.01, gt=0, allow_inf_nan=False)
    """Inverse strength of the probe's regularisation. Source: ours, as for the probe."""
    tokens: int = Field(8, ge=1)
    """Maximum number of tokens of each answer that the fit reads, spread evenly, the last one
    among them. Source: ours."""
    folds: int = Field(5, ge=2, le=20)
    """Validation folds; a fold holds out whole things, not single answers. Source: ours."""
    margin: float = Field(0.01, ge=0, lt=1)
    """How much greater the balanced accuracy of another block has to be to replace the preferred
    one. Source: ours."""
    max_fpr: float = Field(0.01, ge=0, lt=1)
    """Maximum share of answers to held-out benign prompts refused. Source: ours."""
    max_answer_tokens: int = Field(128, ge=1)
    """Maximum length of the answers that set the threshold. Source: ours."""
    threshold: float | None = Field(None, gt=0, lt=1)
    """A probability that replaces the calibrated threshold. Source: ours."""
    batch_size: int = Field(16, ge=1)
    """Prompts per forward pass during a fit. Source: ours."""
    refusal: str = Field(
        "I'm sorry, but I cannot help with that request.", min_length=1, max_length=10_000
    )
    """What replaces a harmful answer. Source: ours, as for the probe."""


def spread(length: int, most: int) -> list[int]:
    """At most so many indices below a length, spread evenly, the last one among them.

    Example:
        >>> spread(9, 3), spread(2, 3)
        ([2, 5, 8], [0, 1])
    """
    number = min(length, most)
    return [round((i + 1) * length / number) - 1 for i in range(number)]


@dataclass(frozen=True)
class AnswerProbeFitted:
    """What a fit of the answer probe found."""

    layer: int
    probe: LinearProbe


@final
class AnswerProbe(Defense[AnswerProbeConfig, AnswerProbeFitted]):
    """A linear probe on the answer, read back without its picture."""

    name = "answer_probe"
    kind = "pipeline"
    attacks = ("paraphrase",)
    paper = "none: ours, after the idea of ECSO (Gou et al., ECCV 2024, arXiv 2403.09572)"
    needs = frozenset({"activations", "forget_set", "retain_set"})
    fitted = True
    contract = Contract(
        settings={"layer": 2, "max_answer_tokens": 5},
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
        if len(rows.retain) < 2:
            raise InputError(
                f"{self.name} fits a probe on half of the retain set and sets its threshold with "
                "the other half. Give at least two retain rows."
            )
        reader, held_out = _Reader(vlm, config, progress), rows.retain[1::2]
        found = _probe(reader, rows.forget, rows.retain[::2], seed)
        said = reader.own_answers(held_out)
        scores = _scores(reader.states(held_out, said, [found.layer], "calibrating"), found.probe)
        threshold = threshold_at_fpr(scores, config.max_fpr)
        best = found.validations[found.layer]
        return Artifact(
            self.name,
            config.model_dump(mode="json"),
            {"layer": found.layer, "threshold": threshold.value},
            {"weight": found.probe.weight, "bias": found.probe.bias.reshape(1)},
            {
                **provenance(vlm, data, seed),
                "validation_auroc": {"folds": best.folds, "by": best.by, **asdict(best.area)},
                "candidates": {
                    str(layer): {"balanced_accuracy": each.accuracy, "auroc": each.area.value}
                    for layer, each in found.validations.items()
                },
                "calibration": {"max_fpr": config.max_fpr, **asdict(threshold)},
            },
        )

    def read(self, stored: Stored, config: AnswerProbeConfig) -> AnswerProbeFitted:
        """The block, the probe and its threshold."""
        weight, bias = stored.tensor("weight", stored.vlm.hidden_size), stored.tensor("bias", 1)
        threshold = stored.number("threshold")
        if config.threshold is not None:
            threshold = math.log(config.threshold / (1 - config.threshold))
        return AnswerProbeFitted(stored.layer(), LinearProbe(weight, bias[0], threshold))

    def parts(self, vlm: VLM, config: AnswerProbeConfig, fitted: AnswerProbeFitted) -> Parts:
        """Judges what was generated."""
        margins = partial(_margins, vlm, fitted)
        return Parts(around=partial(_judged, vlm, config, margins), answers=margins)


def _margins(
    vlm: VLM, fitted: AnswerProbeFitted, inputs: Inputs, answers: Sequence[Sequence[int]]
) -> Tensor:
    """By how much each answer is above the threshold; B, on the CPU."""
    questions = questions_of(vlm, inputs)
    blind = in_words(vlm, without_cache(inputs), questions, range(len(questions)))
    states = answer_states(vlm, blind, answers, [fitted.layer])
    return _scores(states, fitted.probe) - fitted.probe.threshold


def _judged(
    vlm: VLM,
    config: AnswerProbeConfig,
    margins: Callable[[Inputs, Sequence[Sequence[int]]], Tensor],
    generate: Generate,
    inputs: Inputs,
) -> Any:
    check_supported(vlm, inputs, "The answer probe cannot judge")
    if (setting(vlm, inputs, "num_return_sequences") or 1) > 1:
        raise InputError("answer_probe judges one answer per prompt. Omit num_return_sequences.")
    rows = range(len(questions_of(vlm, inputs)))  # refuses what it could not judge
    # Nothing is streamed before it is judged.
    streamer, inputs = inputs.get("streamer"), {**inputs, "streamer": None}
    output = generate(**for_rows(inputs, rows))
    length = inputs["input_ids"].shape[1]
    written = sequences_of(output)[:, length:].tolist()
    passed = margins(inputs, [answer_tokens(vlm, inputs, tokens) for tokens in written]) < 0
    refusal = refusal_tokens(vlm, inputs, config.refusal)
    refused = (~passed).nonzero().flatten().tolist()  # what is no number, too
    output = replace_answers(vlm, inputs, output, length, dict.fromkeys(refused, refusal))
    if streamer is not None:
        stream_rows(streamer, inputs, sequences_of(output)[:, length:].tolist())
    return output


def _scores(states: Sequence[Tensor], probe: LinearProbe) -> Tensor:
    """The largest score of each answer's tokens, from tokens x 1 x d each; of none, the least."""
    none = torch.tensor(-math.inf)
    return torch.stack(
        [probe.score(each[:, 0]).amax().cpu() if len(each) else none for each in states]
    )


@dataclass(frozen=True)
class _Reader:
    """Reads answers to rows of a fit, in batches."""

    vlm: VLM
    config: AnswerProbeConfig
    progress: bool

    def states(
        self,
        rows: Sequence[TuningSample],
        answers: Sequence[Sequence[int]],
        layers: Sequence[int],
        label: str,
    ) -> list[Tensor]:
        """Of the answer to each question, tokens x layers x d, on the CPU."""
        asked = [
            Sample(str(number), row.question, row.label, target="")
            for number, row in enumerate(rows)
        ]

        def read(batch: Sequence[Sample]) -> list[Tensor]:
            own = [answers[int(sample.id)] for sample in batch]
            found = answer_states(self.vlm, dict(encode_asked(self.vlm, batch)), own, layers)
            return [each.cpu() for each in found]

        size = self.config.batch_size
        found = by_batches(asked, size, read, label, progress=self.progress)
        return [each for batch in found for each in batch]

    def own_answers(self, rows: Sequence[TuningSample]) -> list[list[int]]:
        """The tokens of the model's own answers."""
        vlm, config = self.vlm, self.config

        def said(batch: Sequence[Messages]) -> list[list[int]]:
            inputs = dict(vlm.encode(batch))
            pad = {"pad_token_id": vlm.tokenizer.pad_token_id}
            with torch.no_grad():
                found = undefended(vlm)(
                    **inputs, **short_answer(vlm, config.max_answer_tokens), **pad
                )
            length = inputs["input_ids"].shape[1]
            written = sequences_of(found)[:, length:].tolist()
            return [answer_tokens(vlm, inputs, tokens) for tokens in written]

        prompts = [row.messages() for row in rows]
        found = by_batches(prompts, config.batch_size, said, "answering", progress=self.progress)
        return [each for batch in found for each in batch]


@dataclass(frozen=True)
class _Found:
    """The best block, a probe of its states, and the cross-validation of every block."""

    layer: int
    probe: LinearProbe
    validations: Mapping[int, Validation]


def _probe(
    reader: _Reader, forget: Sequence[TuningSample], retain: Sequence[TuningSample], seed: int
) -> _Found:
    vlm, config = reader.vlm, reader.config
    rows = [*forget, *retain]
    tokens = [vlm.tokenizer(row.answer, add_special_tokens=False)["input_ids"] for row in rows]
    layers = candidate_blocks(vlm.num_layers, config.layer)
    states = reader.states(rows, tokens, layers, "reading answers")
    kept = [each[spread(len(each), config.tokens)] for each in states]
    lengths = torch.tensor([len(each) for each in kept])
    of_rows = torch.tensor([1] * len(forget) + [0] * len(retain))
    features, labels = torch.cat(kept), of_rows.repeat_interleave(lengths)
    things = [
        row.group or f"row {row.id}" for row, each in zip(rows, kept, strict=True) for _ in each
    ]
    folds = folds_of(labels, things, config.folds, seed)
    solve = partial(LinearProbe.fit, C=config.C, standardize=True, seed=seed)
    validations = {
        layer: validated(features[:, place], labels, folds, solve)
        for place, layer in enumerate(layers)
    }
    chosen = choose(validations, config.margin)
    return _Found(chosen, solve(features[:, layers.index(chosen)], labels), validations)
