"""Visual self-fulfilling alignment (VSFA): neutral questions about pictures of threats, no labels.

Paper: Yang et al., "Visual Self-Fulfilling Alignment", ACL 2026, arXiv 2603.08486. Its abstract
and summaries by others could be read, its text could not: what each setting rests on stands
beside it, and most of it is ours.

Where it acts: on the weights. With a picture I of something threatening, a question q that any
picture could be asked, and an answer y that describes, without a word about safety,

    L = mean over rows of  -(1/|y|) sum_t log p(y_t | y_<t, I, q)

No request is refused in the data, no row is labelled, no answer speaks of danger: a filter sees
to that. What the method claims is that a model that has looked at threats becomes wary of them.

What it cannot do: call forth a disposition that the model does not have. And a model that names
what it sees better also answers attacks better, so the claim counts only beside the same training
on matched neutral pictures, blank ones and shuffled answers, which `testbed_neutral` has as arms.

Where we differ: the question families, the filter's words and the schedule are ours; answers may
be the model's own (`answers="self"`), which takes the teacher's style out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, final

from pydantic import Field, FiniteFloat
from torch import Tensor

from safesight.defenses.base import Defense, Parts, Stored
from safesight.defenses.contract import ONE_STEP
from safesight.errors import InputError
from safesight.training.config import TuningConfig
from safesight.training.run import Fitting, Method, TuningRun, train
from safesight.training.weights import Weights, choose, tuned

if TYPE_CHECKING:
    from safesight.fitting.artifact import Artifact
    from safesight.fitting.data import FitData
    from safesight.models import VLM
    from safesight.training.batches import Collator
    from safesight.training.passes import Batch, Passes
    from safesight.types import TuningSample

__all__ = ["VSFA", "VSFAConfig", "is_neutral"]

SAFETY_WORDS = (
    "safe",
    "danger",
    "harm",
    "threat",
    "risk",
    "warn",
    "caution",
    "cautious",
    "illegal",
    "should",
    "must",
    "sorry",
    "cannot",
    "can not",
    "can't",
    "won't",
    "unable",
    "refuse",
    "refusal",
)
# Of a stem of English: what may stand before and behind it, so that "unharmed" and "harmful" are
# found and "harmony" is not.
_BEFORE = "(?:un|en|pre)?"
_BEHIND = (
    "(?:s|d|r|st|ed|en|ened|ening|ing|ings|ful|fully|less|ous|ously|y|ily|ly|ty"
    "|guard|guards|guarded|guarding|n't|'ve)?"
)
_BATCH = 16


class VSFAConfig(TuningConfig):
    """Settings of visual self-fulfilling alignment."""

    learning_rate: FiniteFloat = Field(2e-4, gt=0)
    """The largest. Source: ours, for models below a billion parameters."""
    epochs: FiniteFloat = Field(3.0, gt=0)
    """Passes over the rows. Source: ours."""
    batch_size: int = Field(16, ge=1)
    """Rows in a step, on each device. Source: ours."""
    answers: Literal["given", "self"] = "given"
    """Those of the rows, or what the model says itself before it is trained. Source: ours."""
    max_answer_tokens: int = Field(48, ge=1)
    """The longest answer of its own. Source: ours."""
    words: tuple[str, ...] = SAFETY_WORDS
    """Rows with one of these, in any common form, are left out. Source: ours; the paper filters
    too, with words that are not known."""


def is_neutral(row: TuningSample, words: Sequence[str] = SAFETY_WORDS) -> bool:
    """Whether a row neither asks for harm nor speaks of safety.

    Example:
        >>> from safesight.types import TuningSample
        >>> def row(answer): return TuningSample("1", "what is this?", answer, "benign", "retain")
        >>> is_neutral(row("a bomb on a table.")), is_neutral(row("a harmful thing."))
        (True, False)
    """
    if row.label == "harmful" or row.set == "forget":
        return False
    if not words:
        return True
    stems = "|".join(map(re.escape, words))
    pattern = rf"\b{_BEFORE}(?:{stems}){_BEHIND}\b"
    text = f"{row.question} {row.answer}".replace("’", "'")
    return re.search(pattern, text, re.IGNORECASE) is None


@final
class VSFA(Defense[VSFAConfig, Weights]):
    """Trains plain descriptions of pictures, which are to show threats.

    Example:
        >>> VSFA(answers="self").config.epochs
        3.0
    """

    name = "vsfa"
    headline = ()
    kind = "weights"
    paper = "Yang et al., Visual Self-Fulfilling Alignment, ACL 2026, arXiv 2603.08486"
    needs = frozenset({"gradients", "neutral_set"})
    fitted = True
    in_demo = True
    contract = ONE_STEP
    Config = VSFAConfig

    def fit(
        self,
        vlm: VLM,
        data: FitData,
        *,
        seed: int = 0,
        progress: bool = True,
        run: TuningRun | None = None,
    ) -> Artifact:
        """Train on the rows that are neutral; the model is given back as it was.

        Raises:
            InputError: no rows, none that are neutral, or one without an answer.
            TrainingError: the run diverged or cannot be resumed.
        """
        fitting = Fitting(self.name, vlm, data, self.config, seed, progress, run)
        given = fitting.rows("retain")
        rows: Sequence[TuningSample] = given.retain
        if self.config.answers == "self":
            rows = _answered(vlm, rows, self.config.max_answer_tokens)
        else:
            given.need_answers(f"{self.name} with answers='given'", "retain")
        kept = [row for row in rows if row.answer.strip() and is_neutral(row, self.config.words)]
        if not kept:
            raise InputError(
                f"None of the {len(rows)} rows is neutral: each speaks of safety or has no answer. "
                "Give questions about what is in the picture, with answers that only describe it."
            )

        def note(passes: Passes, _: Collator) -> None:
            passes.facts.update(rows=len(kept), left_out=len(data.tuning) - len(kept))

        method = Method({"rows": kept}, [_answers], prepare=note)
        return train(fitting, choose(vlm, self.config), method)

    def read(self, stored: Stored, config: VSFAConfig) -> Weights:
        """The trained weights."""
        return Weights.read(stored)

    def parts(self, vlm: VLM, config: VSFAConfig, fitted: Weights) -> Parts:
        """Installs the trained weights."""
        return Parts(attached=tuned(vlm, fitted))


def _answered(vlm: VLM, rows: Sequence[TuningSample], longest: int) -> list[TuningSample]:
    """The rows with what the model answers now, greedily."""
    answers: list[str] = []
    for start in range(0, len(rows), _BATCH):
        asked = [row.messages() for row in rows[start : start + _BATCH]]
        answers += vlm.answer(asked, max_new_tokens=longest)
    return [replace(row, answer=text) for row, text in zip(rows, answers, strict=True)]


def _answers(passes: Passes, batch: Batch) -> dict[str, Tensor]:
    """The mean over rows of the mean over each answer's tokens."""
    return {"loss": passes.row_losses(batch["rows"]).mean()}
