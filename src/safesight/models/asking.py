"""Encode many conversations as a generation would see them, in batches.

A conversation that ends with the start of an answer is continued; any other gets the mark where an
answer begins. A batch holds either the one or the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, TypeVar

from safesight import ranks
from safesight.console import steps
from safesight.types import Messages, Sample, begins_answer

if TYPE_CHECKING:
    from transformers import BatchFeature

    from safesight.models.vlm import VLM

__all__ = ["asked_slices", "by_batches", "encode_asked"]

Prompt = TypeVar("Prompt", Sample, Messages)
Result = TypeVar("Result")


def asked_slices(prompts: Sequence[Sample] | Sequence[Messages], size: int) -> list[slice]:
    """Consecutive parts of at most `size`, whose answers have all begun or none of them.

    Example:
        >>> plain, begun = [{"role": "user"}], [{"role": "user"}, {"role": "assistant"}]
        >>> asked_slices([plain, plain, plain, begun], 2)
        [slice(0, 2, None), slice(2, 3, None), slice(3, 4, None)]
    """
    found: list[slice] = []
    start = 0
    for _, alike in groupby(map(_begun, prompts)):
        end = start + len(list(alike))
        found += [slice(at, min(at + size, end)) for at in range(start, end, size)]
        start = end
    return found


def by_batches(
    prompts: Sequence[Prompt],
    size: int,
    work: Callable[[Sequence[Prompt]], Result],
    label: str = "",
    *,
    progress: bool = False,
) -> Iterator[Result]:
    """What `work` returns for each batch, in order, with a progress bar on standard error.

    No batch mixes begun answers and others. Inside `ranks.together`, several processes share the
    batches, which are the same as in one process; what `work` returns should then be on the CPU.
    """
    parts = asked_slices(prompts, size)
    with steps(label, len(parts), visible=progress) as step:
        for result in ranks.shared(parts, lambda part: work(prompts[part])):
            yield result
            step()


def encode_asked(vlm: VLM, batch: Sequence[Sample] | Sequence[Messages]) -> BatchFeature:
    """The inputs from which the answers to these conversations are generated.

    Raises:
        InputError: as for `VLM.encode`, or only some of the answers have begun.
    """
    rows = [each.messages() if isinstance(each, Sample) else each for each in batch]
    return vlm.encode(rows, continue_answer=any(map(begins_answer, rows)))


def _begun(prompt: Sample | Messages) -> bool:
    return prompt.prefill is not None if isinstance(prompt, Sample) else begins_answer(prompt)
