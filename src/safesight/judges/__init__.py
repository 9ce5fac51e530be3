"""Judges turn an answer into a verdict: refused, harmful, harmless or invalid.

A judge sees the answer and the sample, never the model under test. Each has a name and a version,
because a number means nothing without the instrument that measured it. `exact` knows the right
object; `rules` sees refusals in free English; `keywords` and its kin are published lists of refusal
phrases, kept for comparison; `relevance`, `classifier` and `panel` have files of those names, and
the judge that asks a model to grade is `safesight.evals.graded`, with its `rubrics` here. `card`
measures any of them on answers with a known truth. Whether an answer is language at all is a truth
value of its own, beside the verdict (`broken`). Nothing here knows about evaluations or logs.
"""

from safesight.judges.exact import ExactJudge
from safesight.judges.keywords import JudgeError, KeywordJudge, measure_error

__all__ = ["ExactJudge", "JudgeError", "KeywordJudge", "measure_error"]
