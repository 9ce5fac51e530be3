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
from collections.abc import Hashable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

from safesight import registry
from safesight.errors import LengthError, ModelError, reason_of
from safesight.hosting.arms import Arm
from safesight.hosting.batching import Batcher
from safesight.hosting.generating import generated
from safesight.hosting.requests import Generation, Request, size_of
from safesight.hosting.settings import Settings
from safesight.types import Message, begins_answer

if TYPE_CHECKING:
    from safesight.models import VLM

__all__ = ["Host", "host"]

_log = logging.getLogger("safesight")

DEFAULT_BATCH = 32
_TOO_LONG = "sequence-length-is-longer-than-the-specified-maximum"
DEFAULT_MAX_TOKENS = 256


class Host:
    """A model, a lock, and the thread that answers requests in batches.

    Example:
        >>> served = host("testbed")
        >>> served is host("testbed")
        True
    """

    def __init__(self, vlm: VLM) -> None:
        self.vlm = vlm
        # Too long a prompt is an error of ours, with both lengths; transformers would only warn.
        getattr(vlm.tokenizer, "deprecation_warnings", {})[_TOO_LONG] = True
        self.lock = threading.RLock()
        """Held while a batch runs or a defense is attached."""
        self._attached: Arm | None = None
        self._unrestored: str | None = None
        """Why the model is not as it was."""
        self._stack = ExitStack()
        self.batcher: Batcher[Request, Generation] = Batcher(
            self._run, idle=self._rest, max_batch=DEFAULT_BATCH
        )
        self.keep_attached = False
        """Whether a defense stays on the model, and the lock held, while nothing is waiting.

        It saves a server the work of changing weights for every request."""

    def submit(
        self, arm: Arm, settings: Settings, messages: Sequence[Message]
    ) -> Future[Generation]:
        """Request an answer from an arm; it shares a batch with equal arms and settings.

        Seeds may differ: what a row draws does not depend on the others.

        If the last turn is the assistant's, the answer continues it. Such rows only share
        batches with each other, since they get no generation prompt.
        """
        return self.request(Request(arm, settings, messages))

    def request(self, asked: Request) -> Future[Generation]:
        """Request an answer, perhaps with tools, perhaps followed while it is written.

        Rows that are followed may share a batch though their lengths and stop strings differ
        as well, and each is settled as soon as its own answer has ended.
        """
        followed = asked.caller is not None
        alike = asked.settings.of_batch if followed else asked.settings.but_seed
        tools = json.dumps(asked.tools, sort_keys=True)
        key = (asked.arm.identity, followed, alike, begins_answer(asked.messages), tools)
        return self.batcher.submit(key, asked, size_of(asked.messages), asked.future)

    @property
    def default_max_tokens(self) -> int:
        """The limit in the checkpoint's generation config, or 256."""
        config = getattr(self.vlm.model, "generation_config", None)
        return int(getattr(config, "max_new_tokens", None) or DEFAULT_MAX_TOKENS)

    def detach(self) -> None:
        """Remove the defense of the last batch; the model is restored."""
        if self._attached is not None:
            self._attached = None
            try:
                self._stack.close()
            except Exception as error:
                self._unrestored = reason_of(error)
                raise
            finally:
                self.lock.release()

    def _rest(self) -> None:
        if not self.keep_attached:
            self.detach()  # the batcher logs what it raises, and who asks next is told

    def _attach(self, arm: Arm) -> None:
        if self._unrestored is not None:
            raise ModelError(
                f"A defense could not be removed from {self.vlm.name!r} ({self._unrestored}), so "
                "it answers nothing more. Load it again."
            )
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

    def _run(self, key: Hashable, batch: list[Request]) -> list[Generation | Exception]:
        self._attach(batch[0].arm)
        return self._generate(batch)

    def _generate(self, batch: list[Request]) -> list[Generation | Exception]:
        """Generate, in smaller batches if one does not fit or holds a row that cannot be answered.

        When a batch is too large for the memory, it is halved. So are later ones for a while,
        unless a single row was too large, which no halving helps. Whatever else one row raises,
        halving finds it, and the others are answered.
        """
        import torch

        if not batch:
            return []
        try:
            return list(generated(self.vlm, batch))
        except torch.OutOfMemoryError as error:
            if len(batch) == 1:
                return [error]
            torch.cuda.empty_cache()
            results = self._halved(batch, error)
        except LengthError as error:
            shorter = _shortened(batch, error.left)
            if shorter is not None:
                return self._generate(shorter)
            return [error] if len(batch) == 1 else self._halved(batch, error)
        # One request must not fail those that it shares a batch with; each has its own error.
        except Exception as error:
            return [error] if len(batch) == 1 else self._halved(batch, error)
        if not any(isinstance(each, torch.OutOfMemoryError) for each in results):
            size, half = len(batch), len(batch) // 2
            self.batcher.shrink(half)
            _log.warning("Out of memory with a batch of %d; continuing with %d.", size, half)
        return results

    def _halved(self, batch: list[Request], error: Exception) -> list[Generation | Exception]:
        """The results of both halves; the error for rows of which something was heard already."""
        open_rows = [row for row in batch if not row.future.done()]
        silent = [row for row in open_rows if row.caller is None or not row.caller.heard]
        half = len(silent) // 2
        again = iter(self._generate(silent[:half]) + self._generate(silent[half:]))
        left = {id(row) for row in silent}
        return [next(again) if id(row) in left else error for row in batch]


def _shortened(batch: Sequence[Request], left: int) -> list[Request] | None:
    """The rows with answers that fit into what their prompt leaves of the context.

    None if that is no help: a row takes no shorter answer, there is no room for one, or the rows
    have several prompts. What another prompt leaves must not shorten an answer.
    """
    if left < 1 or any(row.messages is not batch[0].messages for row in batch):
        return None
    most = max(row.settings.max_new_tokens for row in batch)
    if left >= most or not all(row.settings.shortened for row in batch):
        return None
    return [
        replace(
            row,
            settings=replace(row.settings, max_new_tokens=min(row.settings.max_new_tokens, left)),
        )
        for row in batch
    ]


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
