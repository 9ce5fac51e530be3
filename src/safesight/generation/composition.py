"""The state of a protected model: which defenses are attached, and how a call runs through them.

`Protection.add` attaches the parts of a defense to a model object and returns a function that
detaches them. The model's `generate` becomes an instance attribute that runs, in this order:

1. input rewriting, in the order of attachment;
2. detectors, all on one prefill. The generation uses the same prefill, unless an edit
   changes it;
3. pipelines, with activation edits inside them, around the generation of the rows that were
   not refused. So a pipeline's own questions are answered under the edits, too.

Adapters and changed weights are active as long as the defense is attached, so attached
detectors see them. When the last defense is removed, the model object is as it was before.
`defenses.front_door` is the public entry point.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from safesight.errors import ModelError
from safesight.generation.answers import put_back_prompt
from safesight.generation.calls import bind, completed, refuse_full_cache, refuse_long
from safesight.generation.detectors import Outcome, generate_after, generate_guarded
from safesight.generation.outside import tell_outside
from safesight.generation.parts import Kind, Parts
from safesight.generation.prompt_sizes import prompt_sizes
from safesight.generation.with_blocks import Undo, WithBlocks, no_copy, undo_all
from safesight.models.changes import weights_state
from safesight.models.decoding import ending
from safesight.models.wrappers import unwrapped

if TYPE_CHECKING:
    from safesight.generation.call_types import Generate, Inputs
    from safesight.models import VLM

__all__ = ["Protection", "protection"]

_HANDLE = "_safesight_protection"
_CLOSED_DOORS = (
    "generate_batch",
    "init_continuous_batching",
    "continuous_batching_context_manager",
)
"""Ways to generate that bypass `generate`; blocked while a defense is attached."""

_DEPENDENT: frozenset[Kind] = frozenset({"weights", "detector", "activation"})
"""Kinds that hold only for the weights they were attached to."""


@dataclass
class _Entry:
    name: str
    kind: Kind
    parts: Parts
    stack: ExitStack
    changes_weights: bool


class Protection:
    """The defenses on one model. `protection(model)` finds it.

    Calls of `generate` take turns, whichever threads they come from, and nothing is attached or
    removed while one runs.
    """

    def __init__(self, vlm: VLM) -> None:
        self._vlm = vlm
        self._entries: list[_Entry] = []
        self._undefended: Generate = vlm.model.generate
        self._save: Callable[..., Any] = vlm.model.save_pretrained
        self._placed: dict[str, Any] = {}
        """The attributes that were put on the model."""
        self._hidden: dict[str, Any] = {}
        """Those that they hide."""
        self._blocks = WithBlocks()
        self._state: list[Any] = []
        self._turn = threading.RLock()
        self._generating = False
        self._latest: Outcome | None = None
        self._own = threading.local()

    @property
    def names(self) -> list[str]:
        """The attached defenses, in the order of attachment."""
        return [entry.name for entry in self._entries]

    @property
    def vlm(self) -> VLM:
        """The model, with the identity it had before any weights were changed."""
        return self._vlm

    @property
    def changes_weights(self) -> str | None:
        """The attached defense that changes the weights, or None."""
        return next((e.name for e in self._entries if e.changes_weights), None)

    @property
    def last(self) -> Outcome | None:
        """Decisions of this thread's latest call, or of any if this thread has made none.

        None if that call failed, if no detector is attached, and before the first call.
        """
        own: Outcome | None = getattr(self._own, "last", self._latest)
        return own

    @last.setter
    def last(self, outcome: Outcome | None) -> None:
        """Set by each call."""
        self._own.last = self._latest = outcome

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """The model's own generate, with every attached defense.

        Raises:
            ModelError: it was called from inside itself, a defense was removed before its turn
                came, or the weights have changed.
        """
        with ending(kwargs.get("streamer")), self._own_turn():
            self.last = None
            self._refuse_changed(dependent=True)
            inputs = completed(self._vlm, bind(self._undefended, args, kwargs))
            refuse_long(self._vlm, inputs)
            original = inputs.get("input_ids")
            for entry in self._entries:
                if entry.parts.rewrite is not None:
                    inputs = entry.parts.rewrite(inputs)
            refuse_long(self._vlm, inputs)  # with what was added to the prompt
            output = self._judged(inputs)
            rewritten = inputs.get("input_ids")
            if original is None or rewritten is None or rewritten is original:
                return output
            return put_back_prompt(output, rewritten, original)

    @contextmanager
    def _own_turn(self) -> Iterator[None]:
        """Wait for a turn to generate."""
        wanted = list(self._entries)
        with self._turn:
            if self._generating:
                raise ModelError(
                    "generate was called from inside a call of generate on the same protected "
                    "model, where the defenses would act twice. Call one after the other."
                )
            gone = [entry.name for entry in wanted if entry not in self._entries]
            if gone:
                raise ModelError(
                    f"{gone[0]} was removed while this call waited for its turn, so it was not "
                    "answered. Call generate again."
                )
            self._generating = True
            try:
                yield
            finally:
                self._generating = False

    @contextmanager
    def _quiet(self, what: str) -> Iterator[None]:
        """Wait until nothing generates."""
        with self._turn:
            if self._generating:
                raise ModelError(
                    f"{what} from inside its generate, whose answer would be partly undefended. "
                    "Wait until generate has returned."
                )
            yield

    def _judged(self, inputs: Inputs) -> Any:
        outermost_first = sorted(self._entries, key=lambda e: e.kind != "pipeline")
        arounds = [e.parts.around for e in outermost_first if e.parts.around is not None]
        detectors = {
            e.name: e.parts.detector for e in self._entries if e.parts.detector is not None
        }
        generate: Generate = self._fitting
        for around in reversed(arounds):
            generate = _wrapped(around, generate)
        if not detectors:
            return generate(**inputs)
        run = generate_after if arounds else generate_guarded
        output, outcome = run(generate, self._vlm, detectors, inputs)
        self.last = outcome
        ranges = {
            e.name: e.parts.calibrated for e in self._entries if e.parts.calibrated is not None
        }
        measure = functools.partial(prompt_sizes, self._vlm, inputs)
        tell_outside(ranges, outcome.decisions, measure)
        return output

    def _fitting(self, **inputs: Any) -> Any:
        """The model's own generate, with whatever the defenses have made of the prompt."""
        refuse_full_cache(self._vlm, inputs)
        return self._undefended(**inputs)

    def remove(self) -> None:
        """Remove every defense and restore the model, bit for bit; waits for a running generate.

        Raises:
            ModelError: it was called from inside generate.
        """
        with self._quiet("Defenses cannot be removed"):
            undo_all([functools.partial(self._detach, entry) for entry in self._entries])

    def enterable(self, model: Any, undo: Sequence[Undo]) -> None:
        """Let the `with` block that begins with `model` call `undo` when it is left."""
        self._blocks.begin(model, undo)

    def add(self, name: str, kind: Kind, build: Callable[[], Parts] | None) -> Undo:
        """Attach a defense to the model; call the result to detach it.

        Args:
            name: The defense's name.
            kind: Where it acts.
            build: Builds its parts; None for a disabled defense.

        Raises:
            ModelError: it is already attached, a second one would change the weights, or the
                weights have changed since the first.
        """
        with self._quiet("A defense cannot be attached"):
            self._refuse_second(name, changes_weights=kind == "weights" and build is not None)
            self._refuse_changed(dependent=False)
            parts = Parts() if build is None else build()
            with ExitStack() as stack:
                if parts.attached is not None:
                    stack.enter_context(parts.attached)
                if not self._entries:
                    self._take_over()
                kept = stack.pop_all()
            changes_weights = kind == "weights" and build is not None
            entry = _Entry(name, kind, parts, kept, changes_weights)
            self._entries.append(entry)
            self._state = weights_state(self._vlm.model)
            return functools.partial(self._detach, entry)

    def _refuse_second(self, name: str, changes_weights: bool) -> None:
        if name in self.names:
            raise ModelError(
                f"{name} already protects this model. "
                "Call unprotect(model) first, or leave the other `with` block."
            )
        if changes_weights and self.changes_weights:
            raise ModelError(
                f"{self.changes_weights} already changes the weights of this model, and "
                f"{name} was fitted without it. Call unprotect(model) first, or merge the "
                "first into a checkpoint and fit the second on that."
            )

    def _refuse_changed(self, *, dependent: bool) -> None:
        """Refuse to go on with other weights; with `dependent`, only if a defense needs them."""
        names = [e.name for e in self._entries if e.kind in _DEPENDENT or not dependent]
        if names and weights_state(self._vlm.model) != self._state:
            raise ModelError(
                f"The weights or adapters of this model have changed since {names[0]} was "
                "attached, so its defenses no longer hold. Undo the change, or call "
                "unprotect(model) and protect the model as it is now."
            )

    def _detach(self, entry: _Entry) -> None:
        with self._quiet("A defense cannot be removed"):
            if entry not in self._entries:
                return
            unchanged = weights_state(self._vlm.model) == self._state
            self._entries.remove(entry)
            if not self._entries:
                self._give_back()
            entry.stack.close()
            if unchanged:
                self._state = weights_state(self._vlm.model)

    def _take_over(self) -> None:
        @functools.wraps(self._undefended)
        def generate(*args: Any, **kwargs: Any) -> Any:
            return self.generate(*args, **kwargs)

        own = vars(self._vlm.model)
        if own.setdefault(_HANDLE, self) is not self:
            raise ModelError(
                "Another thread protects this model at the same moment. Call protect again."
            )
        self._placed = {
            "remove": self.remove,
            "generate": generate,
            "save_pretrained": self._save_pretrained,
            **{name: functools.partial(_refuse, name) for name in _CLOSED_DOORS},
        }
        self._hidden = {name: own[name] for name in self._placed if name in own}
        own.update(self._placed)

    def _give_back(self) -> None:
        self._blocks.restore()
        own = vars(self._vlm.model)
        own.pop(_HANDLE, None)
        for name, placed in self._placed.items():
            if own.get(name) is placed:  # otherwise it is the user's, who has set it since
                del own[name]
                own.update({name: self._hidden[name]} if name in self._hidden else {})

    def _save_pretrained(self, *args: Any, **kwargs: Any) -> Any:
        if self.changes_weights:
            raise ModelError(
                f"A checkpoint saved now would load elsewhere without {self.changes_weights}. "
                "Write one that has it with `safesight merge`, or call unprotect(model) first."
            )
        return self._save(*args, **kwargs)

    def __getstate__(self) -> Any:
        no_copy()


def protection(model: Any) -> Protection | None:
    """The protection of a model, or None if it has none.

    After a call of `generate`, `protection(model).last` holds the decision on each row.
    """
    handle = vars(unwrapped(model)).get(_HANDLE)
    assert handle is None or isinstance(handle, Protection)
    return handle


def _wrapped(around: Callable[[Generate, Inputs], Any], generate: Generate) -> Generate:
    def run(**inputs: Any) -> Any:
        return around(generate, inputs)

    return run


def _refuse(name: str, *_: Any, **__: Any) -> None:
    raise ModelError(
        f"{name} would bypass the defenses on this model. "
        "Use model.generate, or remove them with unprotect(model)."
    )
