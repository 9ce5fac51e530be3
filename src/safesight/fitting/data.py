"""The samples a defense is fitted on, and their hash. Independent of any model."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from safesight.errors import InputError
from safesight.fitting.facts import Facts
from safesight.guests import refuse_unlike
from safesight.types import Sample, TuningSample, group_of, pixels_of

__all__ = ["FitData", "refuse_repeated", "rows_hash", "thing_of"]


@dataclass(frozen=True)
class FitData:
    """Labelled samples for a fit, and benign ones that only set the threshold.

    Raises:
        InputError: what a set holds is no sample, an id repeats within a set, or one sample is in
            two sets.

    Example:
        >>> samples = [Sample(id=str(i), question="?", target="x",
        ...                   label="harmful" if i % 2 else "benign") for i in range(200)]
        >>> data = FitData.from_pool(samples[:100], samples[100::2], share=0.1)
        >>> len(data.harmful), len(data.benign), len(data.calibration_benign)
        (5, 5, 50)
    """

    harmful: Sequence[Sample]
    benign: Sequence[Sample]
    calibration_benign: Sequence[Sample] = ()
    """Held out from the fit; used only to set the threshold."""
    pool_size: int | None = None
    """Size of the pool that `harmful` and `benign` were drawn from."""
    tuning: Sequence[TuningSample] = ()
    """Questions with answers, for methods that train; other methods ignore them."""
    tuning_source: Mapping[str, Any] = field(default_factory=dict)
    """The data set the tuning rows were drawn from, with its options; empty if there is none."""
    tasks: Sequence[str] = ()
    """The tasks that the samples come from, for the card; empty for samples of one's own."""
    held_out: Facts = field(default_factory=dict)
    """Facts whose samples were left out of all of this; see `safesight.fitting.facts`."""

    def __post_init__(self) -> None:
        given = {
            "harmful": self.harmful,
            "benign": self.benign,
            "calibration": self.calibration_benign,
        }
        for name, samples in given.items():
            refuse_unlike(Sample, samples, f"{name} samples")
        refuse_unlike(TuningSample, self.tuning, "tuning rows")
        sets = {name: _by_id(samples, name) for name, samples in given.items()}
        refuse_repeated(self.tuning)
        for one, other in itertools.combinations(sets, 2):
            _refuse_shared(sets[one], sets[other], f"the {one} and the {other} set")

    @classmethod
    def from_pool(
        cls,
        pool: Sequence[Sample],
        calibration_benign: Sequence[Sample] = (),
        *,
        share: float = 0.05,
        seed: int = 0,
        held_out: Facts | None = None,
    ) -> FitData:
        """Draw at most a share of a labelled pool, balanced over labels, attacks and kinds.

        Args:
            pool: Labelled samples.
            calibration_benign: Benign samples outside the pool.
            share: Fraction of the pool to use, above 0 and up to 1; the draw is never larger.
            seed: The same seed draws the same samples.
            held_out: Facts whose samples are in neither, for the card; nothing is removed here.

        Raises:
            InputError: the share is out of range or leaves a label without samples, or what the
                pool holds is no sample.
        """
        if not 0 < share <= 1:
            raise InputError(f"A share of {share} is not possible. Use one above 0, up to 1.")
        refuse_unlike(Sample, pool, "samples of the pool")
        groups: dict[str, list[Sample]] = defaultdict(list)
        for sample in pool:
            groups[_stratum(sample)].append(sample)
        rng = random.Random(seed)
        queues = [rng.sample(group, len(group)) for _, group in sorted(groups.items())]
        budget = int(share * len(pool) + 1e-9)
        drawn: list[Sample] = []
        # The stratum furthest behind its share of the budget goes next.
        taken = [0] * len(queues)
        while len(drawn) < budget:
            behind = [n / len(q) if n < len(q) else 2.0 for n, q in zip(taken, queues, strict=True)]
            index = behind.index(min(behind))
            drawn.append(queues[index][taken[index]])
            taken[index] += 1
        harmful = [sample for sample in drawn if sample.label == "harmful"]
        benign = [sample for sample in drawn if sample.label == "benign"]
        if not harmful or not benign:
            raise InputError(
                f"A share of {share:g} of {len(pool)} samples is {len(harmful)} harmful and "
                f"{len(benign)} benign ones, but both kinds are needed. Use a larger pool or share."
            )
        found = cls(harmful, benign, calibration_benign, pool_size=len(pool))
        return found if held_out is None else replace(found, held_out=held_out)

    @property
    def share(self) -> float | None:
        """Fitted samples divided by pool size, if the pool size is known."""
        if self.pool_size is None:
            return None
        return (len(self.harmful) + len(self.benign)) / self.pool_size

    @property
    def hash(self) -> str:
        """Hex hash of every sample in order: texts, labels and pixels."""
        digest = hashlib.sha256()
        for part in (self.harmful, self.benign, self.calibration_benign):
            digest.update(f"{len(part)};".encode())
            for sample in part:
                digest.update(_content(sample))
        if self.tuning:
            digest.update(rows_hash(self.tuning).encode())
        return digest.hexdigest()


def thing_of(sample: Sample) -> str:
    """What a sample is about, so that a split can keep all samples about one thing together.

    See `safesight.types.group_of`; a sample that does not say is a group of its own.

    Example:
        >>> thing_of(Sample("1", "what is this?", "benign", "cat", facts={"concept": "cat"}))
        'cat'
        >>> thing_of(Sample("1", "what is this?", "benign", "cat"))
        'sample 1'
    """
    return str(group_of(sample.facts, f"sample {sample.id}"))


def refuse_repeated(rows: Sequence[TuningSample]) -> None:
    """Refuse tuning rows that share an id.

    Raises:
        InputError: two rows have the same id; the message names it.
    """
    seen: dict[str, TuningSample] = {}
    for row in rows:
        other = seen.setdefault(row.id, row)
        if other is row:
            continue
        if other.set != row.set:
            raise InputError(
                f"The row {row.id!r} is in the forget set and in the retain set. Keep it in one."
            )
        raise InputError(f"Two rows have the id {row.id!r}. Give every row its own.")


def _by_id(samples: Sequence[Sample], which: str) -> dict[str, Sample]:
    found = {sample.id: sample for sample in samples}
    if len(found) < len(samples):
        counts = Counter(sample.id for sample in samples)
        repeated = next(name for name, count in counts.items() if count > 1)
        raise InputError(
            f"Two {which} samples have the id {repeated!r}. Give every sample its own."
        )
    return found


def _refuse_shared(one: Mapping[str, Sample], other: Mapping[str, Sample], which: str) -> None:
    """Refuse a sample that is in two sets.

    Sets from different files may be numbered alike, so an id alone proves nothing.
    """
    for name in one.keys() & other.keys():
        if _shown(one[name]) == _shown(other[name]):
            raise InputError(f"The sample {name!r} is in {which}. Keep it in one of them.")


def _stratum(sample: Sample) -> str:
    facts = [sample.facts.get("request"), sample.facts.get("picture")]
    return json.dumps([sample.label, sample.attack, *facts], default=str)


def _content(sample: Sample) -> bytes:
    more: list[Any] = [list(sample.turns)] if sample.turns else []
    more += [] if sample.prefill is None else [sample.prefill]
    texts = json.dumps([sample.id, sample.question, sample.label, sample.system, *more])
    return texts.encode() + _pixels(sample)


def _shown(sample: Sample) -> tuple[str | bytes | None, ...]:
    """What the model sees of a sample, whatever its id and label."""
    turns = json.dumps(sample.turns)
    return sample.question, sample.system, turns, sample.prefill, _pixels(sample)


def _pixels(sample: Sample) -> bytes:
    return b"".join(pixels_of(picture()) for picture in sample.pictures)


def rows_hash(rows: Sequence[TuningSample]) -> str:
    """Hex hash of rows in order: texts, labels, sets and pixels."""
    found = hashlib.sha256()
    for row in rows:
        texts = [row.id, row.question, row.answer, row.refusal, row.label, row.set]
        texts += [] if row.whole else ["cut off"]
        found.update(json.dumps([*texts, row.digest]).encode())
    return found.hexdigest()
