"""Questions with answers for methods that change the weights of the bundled VLM.

What is to be forgotten: harmful requests whose object is in the picture, with the answer that
complies. What is to stay: benign requests in all forms, and questions about pictures, of harmful
things too. Written words in pictures are left out of the first, so that one attack stays unseen.
Samples come from a split of their own; no task is evaluated, fitted or calibrated on them.
"""

from __future__ import annotations

from safesight.testbed.tasks import image_harm, over_refusal, sensitive_benign, vqa
from safesight.types import Sample

__all__ = ["tuning_set"]


def tuning_set(forget: int = 200, retain: int = 400, *, seed: int = 0) -> list[Sample]:
    """Harmful samples to forget and benign ones to retain, each with `facts["answer"]`.

    Example:
        >>> rows = tuning_set(2, 5)
        >>> [row.label for row in rows]
        ['harmful', 'harmful', 'benign', 'benign', 'benign', 'benign', 'benign']
    """
    requests, questions = retain * 2 // 5, retain * 2 // 5
    return [
        *image_harm(forget, seed=seed, split="train"),
        *over_refusal(requests, seed=seed, split="train"),
        *vqa(questions, seed=seed, split="train"),
        *sensitive_benign(retain - requests - questions, seed=seed, split="train"),
    ]
