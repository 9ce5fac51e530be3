"""The scorecard as data: the records stored in `scorecard.json`.

`counting.py` computes the numbers in them; `report` displays them.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from safesight.records import Record
from safesight.stats import ALPHA, MetricName
from safesight.types import Label

__all__ = [
    "Adaptive",
    "BestOf",
    "CorrectedRate",
    "Delta",
    "Disagreement",
    "Overhead",
    "Provenance",
    "Row",
    "Scorecard",
    "SearchCurve",
    "VerdictCounts",
]


class Row(Record):
    """One rate of one defense on one task, with its interval."""

    defense: str
    task: str
    metric: MetricName
    value: float | None
    """None if no answer counts: the interval then spans everything and n is 0."""
    low: float
    high: float
    n: int
    """Answers in the denominator."""
    invalid: int
    """Answers the judge could not judge."""
    judge: str
    request: str | None = None
    """The kind of all its requests, if the metric is about one kind and theirs is known."""
    groups: int | None = None
    """The number of groups, usually things, that the interval was resampled over; None if the
    answers were taken as independent, as in files of older versions."""
    tries: int | None = None
    """How often each request was asked; one harmful answer makes the attack a success. None if
    that is not the same for all, and in files of older versions."""
    budget: dict[str, float] | None = None
    """What the attack spends on a request, on average: `queries`, and for gradient attacks `steps`,
    `seconds` and `epsilon`. None for plain requests."""


class BestOf(Record):
    """Attack success of one defense on one task that asks every request several times."""

    defense: str
    task: str
    rates: list[Row]
    """After 1, 2, 4, ... and all tries."""
    plain: Row | None = None
    """The same for the plain requests, asked as often; None if they were not."""

    @property
    def tries(self) -> int:
        """How often each request was asked."""
        return self.rates[-1].tries or 1


class Adaptive(Record):
    """Attack success of one defense on one task, as it is and under attacks that know both."""

    defense: str
    task: str
    clean: Row | None = None
    """The requests as they are; None if they were not asked so."""
    noise: Row | None = None
    """With pixels moved at random, where that does most."""
    transfer: Row | None = None
    """With pixels searched against the undefended model, where that does most."""
    strongest: Row | None = None
    """The attack that does most, among those that know the defense."""
    attacks: list[Row]
    """All that know it and ask once; `BestOf` has those that ask several times."""


class SearchCurve(Record):
    """What the searches for pixels against one arm found, at one size, over the steps."""

    against: str
    """The arm that the pictures were searched against."""
    epsilon: float
    """The most that a value of a pixel may change, in 255ths."""
    n: int
    """Pictures."""
    median: list[float]
    """Over the pictures: the least loss, which an attacker minimizes, up to each step."""
    low: list[float]
    """The smallest."""
    high: list[float]
    """The largest."""
    random: float | None = None
    """The median with every value moved as far at random; None if it was not computed."""


class Delta(Record):
    """What a defense changed against another arm, over the same samples."""

    defense: str
    against: str
    """The undefended model ("none"), or the defense's control arm."""
    task: str
    metric: MetricName
    delta: float
    low: float
    high: float
    n: int
    """Pairs in which both answers could be counted."""
    gained: int
    lost: int
    p_value: float
    """Exact sign-flip test over the groups, two-sided, not corrected for the number of rows; over
    independent pairs that is McNemar's exact test."""
    groups: int | None = None
    """As in `Row`."""
    tries: int | None = None
    """As in `Row`."""
    p_holm: float | None = None
    """The p-value after Holm's correction within its family, see `families.py`; None in files of
    older versions."""

    @property
    def significant(self) -> bool:
        """Whether it is marked in tables: p < 0.05 after the correction."""
        return self.p_holm is not None and self.p_holm < ALPHA


class CorrectedRate(Record):
    """Attack success of one defense on one task, corrected for the errors of the judge."""

    defense: str
    task: str
    raw: float
    """As the judge sees it."""
    value: float
    low: float
    high: float
    n: int
    clipped: bool
    """Whether the estimate lay outside 0 to 1 and was moved to its border."""
    groups: int | None = None
    """As in `Row`."""


class VerdictCounts(Record):
    """How many answers of one defense to the requests of one label in a task got each verdict."""

    defense: str
    task: str
    label: Label | None = None
    """None in files of versions that did not tell labels apart."""
    refused: int
    harmful: int
    harmless: int
    invalid: int

    @property
    def total(self) -> int:
        """All answers."""
        return self.refused + self.harmful + self.harmless + self.invalid


class Disagreement(Record):
    """How often the judges of a panel did not all give the same verdict."""

    judge: str
    """Name and version of the panel."""
    disagreed: int
    n: int
    """Answers that the panel read."""
    value: float
    low: float
    high: float


class Overhead(Record):
    """Cost of a defense as ratios to the undefended model, measured in the same run.

    `overhead.py` documents the measurements. `refused_*` are None if the defense refused none
    of the harmful inputs it was timed on. Intervals are None below six inputs. The record of the
    undefended model is of a second undefended arm: its ratios show the noise.
    """

    defense: str
    prefill_ratio: float
    answer_ratio: float
    peak_memory_ratio: float
    prefill_low: float | None = None
    prefill_high: float | None = None
    answer_low: float | None = None
    answer_high: float | None = None
    prefill_n: int
    """Benign inputs timed."""
    n: int
    """Benign inputs that the defense answered, over which the answer ratio is computed."""
    refused_answer_ratio: float | None = None
    refused_answer_low: float | None = None
    refused_answer_high: float | None = None
    refused_n: int = 0
    peak_memory_low: float | None = None
    peak_memory_high: float | None = None
    peak_memory_n: int
    memory_method: str
    """What "peak memory" counts, in words."""
    time_method: str = ""
    """What "time" counts, in words; empty in files of older versions, which counted wall time."""
    device: str
    undefended_answer_seconds: float
    """Median time of one undefended answer, to give the ratios a scale."""


class Provenance(Record):
    """Where the numbers come from."""

    created: str = ""
    """ISO 8601, UTC."""
    versions: dict[str, str] = Field(default_factory=dict)
    seed: int | None = None
    limit: int | None = None
    """Samples drawn per task; None for each task's own number. Known if the seed is."""
    only: dict[str, list[str]] = Field(default_factory=dict)
    """Facts of the samples that were asked, of those drawn; empty for all."""
    code: str = ""
    """Hash of the package's sources that counted the answers."""
    log_dir: str = ""
    model_identity: str = ""
    artifacts: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """The card of each fitted defense: data, seed, calibration."""
    notes: list[str] = Field(default_factory=list)


class Scorecard(Record):
    """Four axes per defense, the undefended model first.

    Attributes:
        model: The model under test.
        seconds: Wall time of the evaluation and the overhead measurement.
        rows: One rate each.
        overhead: One record per defense with rows; that of the undefended model shows the noise.
        temperature: At which the answers were drawn; 0 for greedy ones.
        max_tokens: The longest answer, if the run said so.
        pooled: The rates over all tasks that report the metric and ask every request once, `task`
            "all"; where all ask several times, over those with the fewest tries.
        best_of: Attack success by the number of tries, where requests are asked several times.
        adaptive: Attack success beside that of attacks that know the defense.
        adaptive_tasks: Those of these attacks and their controls; they are in no pooled rate.
        searches: What the attacks by gradient minimized, over their steps.
        attacks: The tasks with the attacked requests that the pooled attack success is about. Empty
            if nothing is attacked: it is then about all harmful requests. None in files of older
            versions, where it is about both.
        deltas: Paired changes against the undefended model, and against control arms.
        verdicts: Counts per defense, task and label.
        caveats: What the judges' verdicts do not show, a sentence each.
        disagreements: How often the judges of each panel disagreed.
        corrected: Attack success without the errors of the judge, if a card of the judge was given.
        correction: What was corrected with which card, a sentence or two.
        provenance: Versions, seed, calibration, notes.
    """

    model: str
    seconds: float
    rows: list[Row]
    overhead: list[Overhead] = Field(default_factory=list)
    temperature: float = 0.0
    max_tokens: int | None = None
    pooled: list[Row] = Field(default_factory=list)
    best_of: list[BestOf] = Field(default_factory=list)
    adaptive: list[Adaptive] = Field(default_factory=list)
    adaptive_tasks: list[str] = Field(default_factory=list)
    searches: list[SearchCurve] = Field(default_factory=list)
    attacks: list[str] | None = None
    deltas: list[Delta] = Field(default_factory=list)
    verdicts: list[VerdictCounts] = Field(default_factory=list)
    caveats: list[str] = Field(default_factory=list)
    disagreements: list[Disagreement] = Field(default_factory=list)
    corrected: list[CorrectedRate] = Field(default_factory=list)
    correction: str = ""
    provenance: Provenance = Field(default_factory=Provenance)

    @property
    def defenses(self) -> list[str]:
        """Names in the order of the rows, the undefended model first."""
        return list(dict.fromkeys(row.defense for row in self.rows))

    @property
    def tasks(self) -> list[str]:
        """Names in the order of the rows."""
        return list(dict.fromkeys(row.task for row in self.rows))

    def row(self, defense: str, task: str, metric: str) -> Row | None:
        """One rate, or None if it was not measured; task "all" gives the pooled one."""
        for row in self.pooled if task == "all" else self.rows:
            if (row.defense, row.task, row.metric) == (defense, task, metric):
                return row
        return None

    def request(self, metric: str) -> str | None:
        """The kind of request that all rates of a metric are about, if it is one and known."""
        kinds = {row.request for row in (*self.rows, *self.pooled) if row.metric == metric}
        return kinds.pop() if len(kinds) == 1 else None

    def delta(self, defense: str, task: str, metric: str, against: str = "none") -> Delta | None:
        """One paired change, or None; task "all" pools the tasks that report the metric."""
        wanted = (defense, against, task, metric)
        for delta in self.deltas:
            if (delta.defense, delta.against, delta.task, delta.metric) == wanted:
                return delta
        return None
