"""One copy of the weights per process, and the one thread that runs it.

All arms of an evaluation share a host. It attaches the defense of a batch before running it, and
keeps it attached while the next batches need the same one. The host knows nothing about Inspect;
`provider` translates.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Hashable
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, cast

from safesight import registry
from safesight.defenses import Outcome, protection
from safesight.errors import InputError
from safesight.hosting.arms import Arm
from safesight.hosting.batching import Batcher
from safesight.hosting.sampling import SeededSampling
from safesight.hosting.settings import Settings
from safesight.types import Message, Messages, begins_answer

if TYPE_CHECKING:
    from torch import Tensor

    from safesight.models import VLM

__all__ = ["Generation", "Host", "host", "size_of"]

_log = logging.getLogger("safesight")

DEFAULT_BATCH = 32
DEFAULT_MAX_TOKENS = 256


@dataclass(frozen=True)
class Generation:
    """The result for one row."""

    text: str
    stop_reason: Literal["stop", "max_tokens"]
    input_tokens: int
    output_tokens: int
    refused: bool | None
    """Whether a detector refused the row; None if there was no detector."""
    decisions: dict[str, dict[str, Any]]
    """Per detector: score, threshold, refuse, error."""


class Host:
    """A model, a lock, and the thread that answers requests in batches.

    Example:
        >>> served = host("testbed")
        >>> served is host("testbed")
        True
    """

    def __init__(self, vlm: VLM) -> None:
        self.vlm = vlm
        self.lock = threading.RLock()
        """Held while a batch runs or a defense is attached."""
        self._arms: dict[str, Arm] = {}
        self._attached: Arm | None = None
        self._stack = ExitStack()
        self.batcher: Batcher[list[Message], Generation] = Batcher(
            self._run, idle=self.detach, max_batch=DEFAULT_BATCH
        )

    def submit(self, arm: Arm, settings: Settings, messages: list[Message]) -> Future[Generation]:
        """Request an answer from an arm; it shares a batch with equal arms and settings.

        If the last turn is the assistant's, the answer continues it. Such rows only share
        batches with each other, since they get no generation prompt.
        """
        self._arms[arm.identity] = arm
        key = (arm.identity, settings, begins_answer(messages))
        return self.batcher.submit(key, messages, size_of(messages))

    @property
    def default_max_tokens(self) -> int:
        """The limit in the checkpoint's generation config, or 256."""
        config = getattr(self.vlm.model, "generation_config", None)
        return int(getattr(config, "max_new_tokens", None) or DEFAULT_MAX_TOKENS)

    def detach(self) -> None:
        """Remove the defense of the last batch; the model is restored."""
        if self._attached is not None:
            self._attached = None
            self._stack.close()
            self.lock.release()

    def _attach(self, arm: Arm) -> None:
        if self._attached is not None and self._attached.identity == arm.identity:
            return
        self.detach()
        self.lock.acquire()
        try:
            self._stack.enter_context(arm.attached(self.vlm))
        except BaseException:
            self.lock.release()
            raise
        self._attached = arm

    def _run(self, key: Hashable, batch: list[list[Message]]) -> list[Generation | Exception]:
        identity, settings, _ = cast("tuple[str, Settings, bool]", key)
        self._attach(self._arms[identity])
        return self._generate(settings, batch)

    def _generate(
        self, settings: Settings, batch: list[list[Message]]
    ) -> list[Generation | Exception]:
        """Generate, in smaller batches if one does not fit or holds a row that is refused.

        When a batch is too large for the memory, it is halved, and so are all later ones.
        """
        import torch

        alone = len(batch) == 1
        try:
            return list(self._generate_batch(settings, batch))
        except InputError as error:
            if alone:
                return [error]
            return [result for row in batch for result in self._generate(settings, [row])]
        except torch.OutOfMemoryError:
            if alone:
                raise
        half = len(batch) // 2
        self.batcher.max_batch = min(self.batcher.max_batch, half)
        _log.warning("Out of memory with a batch of %d; continuing with %d.", 2 * half, half)
        torch.cuda.empty_cache()
        return self._generate(settings, batch[:half]) + self._generate(settings, batch[half:])

    def _generate_batch(self, settings: Settings, batch: list[list[Message]]) -> list[Generation]:
        import torch

        with torch.inference_mode():
            inputs = self.vlm.encode(batch, continue_answer=begins_answer(batch[0]))
            sequences = self.vlm.generate(inputs, **_decoding(settings, self.vlm))
        handle = protection(self.vlm.model)
        outcome = handle.last if handle is not None else None
        prompt = int(inputs["input_ids"].shape[1])
        lengths = inputs["attention_mask"].sum(dim=1).tolist()
        texts = self.vlm.decode(sequences, prompt)
        used, ended = _used_tokens(sequences[:, prompt:], self.vlm)
        rows: list[Generation] = []
        for row, text in enumerate(texts):
            refused, decisions = _decision(outcome, row)
            cut = min((text.find(stop) for stop in settings.stop if stop in text), default=-1)
            stopped = ended[row] or cut >= 0 or bool(refused)
            rows.append(
                Generation(
                    text=text if cut < 0 else text[:cut],
                    stop_reason="stop" if stopped else "max_tokens",
                    input_tokens=int(lengths[row]),
                    output_tokens=used[row],
                    refused=refused,
                    decisions=decisions,
                )
            )
        return rows


def host(name: str, **loading: Any) -> Host:
    """The host of a model, loaded on first use and shared from then on.

    Args:
        name: "testbed", a folder, or a hub id.
        loading: As for `VLM.load`; JSON values only.

    Raises:
        ModelError: the model cannot be loaded.
    """
    if name in registry.names("model"):
        from safesight.models.built import bundled_folder

        name = bundled_folder(name)
    place = os.path.expanduser(name)
    resolved = os.path.realpath(place) if os.path.exists(place) else name
    given = {k: value for k, value in loading.items() if value is not None and value is not False}
    return _load(resolved, json.dumps(given, sort_keys=True))


@cache
def _load(name: str, loading: str) -> Host:
    from safesight.models import VLM

    return Host(VLM.load(name, **json.loads(loading)))


def size_of(messages: Messages) -> int:
    """The approximate length of the prompt: characters, plus a fixed weight per picture."""
    parts = [part for message in messages for part in message["content"]]
    return sum(1000 if part["type"] == "image" else len(part["text"]) for part in parts)


def _decoding(settings: Settings, vlm: VLM) -> dict[str, Any]:
    """Arguments of `generate` for these settings."""
    kwargs: dict[str, Any] = {"max_new_tokens": settings.max_new_tokens, "do_sample": False}
    if settings.stop:
        kwargs |= {"stop_strings": list(settings.stop), "tokenizer": vlm.tokenizer}
    if settings.temperature and settings.seed is not None:
        sampling = SeededSampling(
            settings.seed,
            settings.temperature,
            settings.top_p,
            settings.top_k,
            pad=vlm.tokenizer.pad_token_id,
        )
        kwargs["logits_processor"] = [sampling]
    elif settings.temperature:
        kwargs |= {
            "do_sample": True,
            "temperature": settings.temperature,
            "top_p": settings.top_p,
            "top_k": settings.top_k or 0,
        }
    return kwargs


def _used_tokens(new: Tensor, vlm: VLM) -> tuple[list[int], list[bool]]:
    """Per row of B x new: tokens up to and including the first end token, and whether it ended."""
    import torch

    config = vlm.model.generation_config
    end = config.eos_token_id if config.eos_token_id is not None else vlm.tokenizer.eos_token_id
    ends = torch.isin(new, torch.as_tensor(end, device=new.device))
    ended = ends.any(dim=1)
    first = ends.int().argmax(dim=1) + 1
    used = torch.where(ended, first, torch.full_like(first, new.shape[1]))
    return used.tolist(), ended.tolist()


def _decision(outcome: Outcome | None, row: int) -> tuple[bool | None, dict[str, dict[str, Any]]]:
    if outcome is None:
        return None, {}
    decisions = {
        name: {
            "score": float(decision.scores[row]),
            "threshold": decision.threshold,
            "refuse": bool(decision.refuse[row]),
            **({"error": decision.error} if decision.error else {}),
        }
        for name, decision in outcome.decisions.items()
    }
    return bool(outcome.refused[row]), decisions
