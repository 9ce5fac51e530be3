"""vLLM's Model Runner V1, which a CPU without triton gets: who is in which row.

V1 tells a model nothing of its requests. Its logits processors know them: one of ours hears of
every request before a step, and the forward context says how many tokens each has in it.
"""

from __future__ import annotations

from functools import cache
from itertools import count
from typing import Any

import torch
from torch import Tensor
from vllm.v1.sample.logits_processor.interface import LogitsProcessor, MoveDirectionality

from safesight.vllm.about import About
from safesight.vllm.gate import once
from safesight.vllm.guard import Guard
from safesight.vllm.request_check import check_request
from safesight.vllm.requests import Left

__all__ = ["Requests", "Undefended", "adopt"]

_OF_ENGINE: dict[str, Requests] = {}
"""By vLLM's id of an engine: this object is made before the model is."""


class Undefended(LogitsProcessor):  # type: ignore[misc]
    """Only checks what requests ask for, where no defense is in the engine.

    vLLM is given the name of a subclass; see `about`.
    """

    about: About

    @classmethod
    def validate_params(cls, sampling_params: Any) -> None:
        """Refuse a request that asks for what it may not have; called in the front end."""
        check_request(sampling_params, cls.about)

    def __init__(self, vllm_config: Any, device: Any, is_pin_memory: bool) -> None:
        pass

    def is_argmax_invariant(self) -> bool:
        """Logits stay as they are, so vLLM need not call this for greedy requests."""
        return True

    def update_state(self, batch_update: Any) -> None:
        """Nothing is kept of requests."""

    def apply(self, logits: Tensor) -> Tensor:
        """The same logits."""
        return logits


class Requests(Undefended):
    """Keeps the guard's requests as V1's batch has them, and forces refusals."""

    def __init__(self, vllm_config: Any, device: Any, is_pin_memory: bool) -> None:
        self.guard: Guard | None = None
        scheduling = vllm_config.scheduler_config
        slots = scheduling.max_num_seqs
        self._free = list(range(slots))
        self._slots: dict[int, int] = {}
        """Row of the batch to slot."""
        self._answers: dict[int, Any] = {}
        """Slot to the list in which its answer grows, which is all that names a request here."""
        self._left = Left(4 * slots, 4 * scheduling.max_num_batched_tokens)
        """V1 takes out requests that have no tokens in a step, or had to make room, and adds them
        again as if they were new."""
        self._numbers = count()
        self._now: Tensor = torch.zeros(0, dtype=torch.long)
        self._positions: Tensor = torch.zeros(0, dtype=torch.long)
        self._running = False
        """Whether a forward pass over requests was made whose logits were not asked for yet."""
        _OF_ENGINE[vllm_config.instance_id] = self

    def is_argmax_invariant(self) -> bool:
        """Refusals change the most likely token."""
        return False

    def update_state(self, batch_update: Any) -> None:
        """Take in what changed in the batch: removed, added, moved, in this order."""
        if batch_update is None or self.guard is None:
            return
        for row in batch_update.removed:
            self._remove(row)
        for row, params, prompt, answer in batch_update.added:
            self._remove(row)
            self._add(row, params, prompt, answer)
        for row, other, direction in batch_update.moved:
            self._move(row, other, swap=direction == MoveDirectionality.SWAP)

    def before(self, positions: Tensor, embeds: Tensor | None) -> None:
        """Tell the guard what the forward pass that begins now is over."""
        from vllm.forward_context import get_forward_context

        assert self.guard is not None
        metadata, rows = get_forward_context().attn_metadata, len(self._slots)
        self._running = bool(metadata and rows and self.guard.defenses.detectors)
        if not metadata or not rows:
            self.guard.skip()
            return
        one = next(iter(metadata.values()))
        starts = one.query_start_loc[: rows + 1].cpu().long()
        lengths = one.seq_lens[:rows].cpu().long()
        counts = starts.diff()
        self._now = torch.tensor([self._slots[row] for row in range(rows)])
        self._positions = lengths - 1
        columns = (self._now, starts[:-1], counts, lengths - counts)
        self.guard.begin(zip(*(each.tolist() for each in columns), strict=True), positions)
        self.guard.at_embeds(embeds)

    def after(self, logits: Tensor | None) -> Tensor | None:
        """After the forward pass: judge, and leave refused rows one possible token.

        Before anything else sees the logits, so that no log-probability tells what the model would
        have said. vLLM also computes logits for other ends; those stay as they are.
        """
        if not self._running:
            return logits
        assert self.guard is not None
        self._running = False
        self.guard.judge()
        return None if logits is None else self.apply(logits)  # only the first rank may have them

    def apply(self, logits: Tensor) -> Tensor:
        """The same once more, as a grammar may have ruled the refusal out since."""
        if self.guard is None or not self.guard.defenses.detectors or not self._slots:
            return logits
        slots, positions = self._now.to(logits.device), self._positions.to(logits.device)
        return self.guard.forcing.hide(logits, slots, positions)

    def _add(self, row: int, params: Any, prompt: Any, answer: Any) -> None:
        assert self.guard is not None
        slot = self._slots[row] = self._free.pop()
        self._answers[slot] = answer
        before = self._left.take(id(answer))
        name = f"number {next(self._numbers)}" if before is None else before.id
        self.guard.add(slot, name, prompt, params, before)

    def _remove(self, row: int) -> None:
        assert self.guard is not None
        slot = self._slots.pop(row, None)
        if slot is None:
            return
        request, answer = self.guard.remove(slot), self._answers.pop(slot, None)
        if request is not None:
            self._left.put(id(answer), request, answer)
        self._free.append(slot)

    def _move(self, row: int, other: int, *, swap: bool) -> None:
        moved = self._slots.pop(row, None)
        if swap and other in self._slots:
            self._slots[row] = self._slots.pop(other)
        self._remove(other)  # who was there has left, and is not named among the removed
        if moved is not None:
            self._slots[other] = moved


@cache
def __getattr__(name: str) -> type[Undefended]:
    about = About.of_class(name)
    base = Requests if about.defenses else Undefended
    return type(name, (base,), {"about": about, "__module__": __name__})


def adopt(model: Any, vllm_config: Any, guard: Guard) -> None:
    """Let the guard know of every forward pass of the model, and see its logits first."""
    requests = _OF_ENGINE.pop(vllm_config.instance_id)
    requests.guard = guard
    plain = model.forward

    def forward(
        input_ids: Any = None,
        positions: Any = None,
        intermediate_tensors: Any = None,
        inputs_embeds: Any = None,
        **more: Any,
    ) -> Any:
        requests.before(positions, inputs_embeds)
        return plain(
            input_ids, positions, intermediate_tensors, inputs_embeds=inputs_embeds, **more
        )

    logits_of = model.compute_logits

    def compute_logits(*args: Any, **kwargs: Any) -> Any:
        return requests.after(logits_of(*args, **kwargs))

    once(model, guard, vllm_config, plain)
    object.__setattr__(model, "forward", forward)
    object.__setattr__(model, "compute_logits", compute_logits)
