"""Visual self-fulfilling alignment (VSFA): training on neutral questions about pictures of threats.

Paper: Yang et al., "Visual Self-Fulfilling Alignment", ACL 2026, arXiv 2603.08486. Its abstract
and summaries by others could be read, but not its text: each setting states its source, and most
are ours.

Where it acts: on the weights. With a picture I of something threatening, a question q that fits
any picture, and an answer y that describes it without mentioning safety,

    L = mean over rows of  -(1/|y|) sum_t log p(y_t | y_<t, I, q)

No request in the data is refused, no row is labelled, and no answer mentions danger: a filter
ensures that. The method claims that a model that has seen threats becomes wary of them.

What it cannot do: bring out a disposition that the model does not have. A model that names what it
sees better also answers attacks better, so judge the claim only against the same training on
matched neutral pictures, blank ones and shuffled answers; `testbed_neutral` has these arms.

Where we differ: the question families, the filter's words and the schedule are ours; answers can
be the model's own (`answers="self"`), which removes the teacher's style.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, final

from pydantic import Field, FiniteFloat
from torch import Tensor

from safesight.defenses.base import Defense, Parts, Stored
from safesight.defenses.contract import ONE_STEP
from safesight.errors import InputError
from safesight.training.choice import choose
from safesight.training.own_answers import AnswersConfig, settled
from safesight.training.run import Fitting, Method, TuningRun, train
from safesight.training.weights import Weights, tuned

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
    "refusing",
    "refusal",
)
# Prefixes and suffixes allowed around an English stem, so that "unharmed" and "harmful" match but
# "harmony" does not.
_BEFORE = "(?:un|en|pre)?"
_BEHIND = (
    "(?:s|d|r|st|ed|en|ens|ened|ening|eningly|ing|ings|ful|fully|less|ous|ously|y|ier|iest|ily|ly|ty"
    "|ity|ary|guard|guards|guarded|guarding|n't|'ve)?"
)


class VSFAConfig(AnswersConfig):
    """Settings of visual self-fulfilling alignment."""

    learning_rate: FiniteFloat = Field(2e-4, gt=0)
    """Peak learning rate. Source: ours, for models with fewer than a billion parameters."""
    epochs: FiniteFloat = Field(3.0, gt=0)
    """Passes over the rows. Source: ours."""
    batch_size: int = Field(16, ge=1)
    """Rows per step on each device. Source: ours."""
    words: tuple[str, ...] = SAFETY_WORDS
    """Rows with one of these words, in any common form, are left out. Source: ours; the paper
    filters too, with words that are unknown."""


def is_neutral(row: TuningSample, words: Sequence[str] = SAFETY_WORDS) -> bool:
    """Whether a row neither asks for harm nor mentions safety.

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
    # Not \b: a script without spaces has no such boundary within a sentence.
    pattern = rf"(?<![A-Za-z]){_BEFORE}(?:{stems}){_BEHIND}(?![A-Za-z])"
    text = f"{row.question} {row.answer}".replace("’", "'")
    return re.search(pattern, text, re.IGNORECASE) is None


@final
class VSFA(Defense[VSFAConfig, Weights]):
    """Trains on plain descriptions of pictures, which should show threats.

    Example:
        >>> VSFA(answers="self").config.epochs
        3.0
    """

    name = "vsfa"
    headline = ()
    kind = "weights"
    attacks = ("one_word", "prefill")
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
        """Train on the neutral rows; the model is restored afterwards.

        Raises:
            InputError: there are no rows, none are neutral, or one has no answer.
            TrainingError: the run diverged or cannot be resumed.
        """
        fitting = Fitting(self.name, vlm, data, self.config, seed, progress, run)
        fitting, given = settled(fitting, fitting.rows("retain"), "retain")
        kept = [row for row in given.retain if is_neutral(row, self.config.words)]
        if not kept:
            raise InputError(
                f"None of the {len(given.retain)} rows is neutral: each mentions safety. "
                "Ask about what is in the picture, with answers that only describe it."
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


def _answers(passes: Passes, batch: Batch) -> dict[str, Tensor]:
    """The mean over rows of each answer's mean token loss."""
    return {"loss": passes.row_losses(batch["rows"]).mean()}
