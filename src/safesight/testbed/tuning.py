"""Questions with answers for methods that change the weights of the bundled VLM.

The forget set: harmful requests whose object is in the picture, with an answer that complies and a
refusal. The retain set: benign requests in all forms, and questions about pictures, including
harmful things. The forget set has no written words in pictures, so that one attack stays unseen.
Training rows come from their own split; no task is evaluated, fitted or calibrated on it.
"""

from __future__ import annotations

import hashlib

from safesight.testbed.tasks import Split, image_harm, over_refusal, sensitive_benign, vqa
from safesight.types import Sample, TuningSample, group_of

__all__ = ["DEFAULT_ROWS", "tuning_row", "tuning_rows"]

DEFAULT_ROWS = 600


def tuning_rows(
    n: int | None = None, *, seed: int = 0, split: Split = "train"
) -> list[TuningSample]:
    """One third harmful rows to forget, two thirds benign rows to retain.

    Args:
        n: Number of rows; None for 600.
        seed: Seed of all random choices.
        split: "train", or the split of the tasks that the rows are taken from.

    Example:
        >>> [row.set for row in tuning_rows(6)]
        ['forget', 'forget', 'retain', 'retain', 'retain', 'retain']
    """
    count = DEFAULT_ROWS if n is None else n
    forget = count // 3
    requests = questions = (count - forget) * 2 // 5
    samples = [
        *image_harm(forget, seed=seed, split=split),
        *over_refusal(requests, seed=seed, split=split),
        *vqa(questions, seed=seed, split=split),
        *sensitive_benign(count - forget - requests - questions, seed=seed, split=split),
    ]
    return [tuning_row(sample) for sample in samples]


def tuning_row(sample: Sample) -> TuningSample:
    """A task's sample as a training row; its refusal depends only on its id.

    Example:
        >>> tuning_row(vqa(1, split="train")[0]).set
        'retain'
    """
    refusals = sample.facts.get("refusals") or [None]
    choice = int(hashlib.sha256(sample.id.encode()).hexdigest(), 16) % len(refusals)
    return TuningSample(
        id=sample.id,
        question=sample.question,
        answer=sample.facts["answer"],
        label=sample.label,
        set="forget" if sample.label == "harmful" else "retain",
        image=sample.image,
        refusal=refusals[choice],
        group=None if (about := group_of(sample.facts)) is None else str(about),
    )
