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
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from safesight.errors import ModelError
from safesight.generation.answers import put_back_prompt
from safesight.generation.calls import bind, refuse_long
from safesight.generation.detectors import Outcome, generate_after, generate_guarded
from safesight.generation.parts import Kind, Parts
from safesight.models.wrappers import unwrapped

if TYPE_CHECKING:
    from safesight.generation.call_types import Generate, Inputs
    from safesight.models import VLM

__all__ = ["Protection", "protection"]

Undo = Callable[[], None]

_HANDLE = "_safesight_protection"
_CLOSED_DOORS = (
    "generate_batch",
    "init_continuous_batching",
    "continuous_batching_context_manager",
)
"""Ways to generate that bypass `generate`; blocked while a defense is attached."""


@dataclass
class _Entry:
    name: str
    kind: Kind
    parts: Parts
    stack: ExitStack
    changes_weights: bool


class Protection:
    """The defenses on one model. `protection(model)` finds it."""

    def __init__(self, vlm: VLM) -> None:
        self._vlm = vlm
        self._entries: list[_Entry] = []
        self._undefended: Generate = vlm.model.generate
        self._hidden: dict[str, Any] = {}
        self._classes: list[tuple[Any, type, type]] = []
        """Objects whose class was replaced, with the old and the new class."""
        # Two generations at once would mix their rows in the hooks on the same blocks.
        self._turn = threading.RLock()
        self.last: Outcome | None = None
        """Decisions of the latest call; None before the first call or without detectors."""

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

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """The model's own generate, with every attached defense."""
        with self._turn:
            self.last = None
            inputs = bind(self._undefended, args, kwargs)
            refuse_long(self._vlm, inputs)
            original = inputs.get("input_ids")
            for entry in self._entries:
                if entry.parts.rewrite is not None:
                    inputs = entry.parts.rewrite(inputs)
            output = self._judged(inputs)
            rewritten = inputs.get("input_ids")
            if original is None or rewritten is None or rewritten is original:
                return output
            return put_back_prompt(output, rewritten, original)

    def _judged(self, inputs: Inputs) -> Any:
        outermost_first = sorted(self._entries, key=lambda e: e.kind != "pipeline")
        arounds = [e.parts.around for e in outermost_first if e.parts.around is not None]
        detectors = {
            e.name: e.parts.detector for e in self._entries if e.parts.detector is not None
        }
        generate = self._undefended
        for around in reversed(arounds):
            generate = _wrapped(around, generate)
        if not detectors:
            return generate(**inputs)
        run = generate_after if arounds else generate_guarded
        output, self.last = run(generate, self._vlm, detectors, inputs)
        return output

    def remove(self) -> None:
        """Remove every defense and restore the model, bit for bit."""
        _undo_all([functools.partial(self._detach, entry) for entry in self._entries])

    def enterable(self, model: Any, undo: Sequence[Undo]) -> None:
        """Let the `with` block that begins with `model` call `undo` when it is left.

        Each call gives the object a class of its own. Python takes `__exit__` from the class when
        a block begins, so every block undoes its own call, in whatever order blocks end.
        """
        plain = type(model)
        for record in self._classes:
            known, before, ours = record
            if known is model and plain is ours:
                self._classes.remove(record)
                plain = before
                break
        ours = _enterable(plain, undo)
        self._classes.append((model, plain, ours))
        model.__class__ = ours

    def add(self, name: str, kind: Kind, build: Callable[[], Parts] | None) -> Undo:
        """Attach a defense to the model; call the result to detach it.

        Args:
            name: The defense's name.
            kind: Where it acts.
            build: Builds its parts; None for a disabled defense.

        Raises:
            ModelError: it is already attached, or a second one would change the weights.
        """
        if name in self.names:
            raise ModelError(
                f"{name} already protects this model. "
                "Call unprotect(model) first, or leave the other `with` block."
            )
        changes_weights = kind == "weights" and build is not None
        if changes_weights and self.changes_weights:
            raise ModelError(
                f"{self.changes_weights} already changes the weights of this model, and "
                f"{name} was fitted without it. Call unprotect(model) first, or merge the "
                "first into a checkpoint and fit the second on that."
            )
        parts = Parts() if build is None else build()
        stack = ExitStack()
        if parts.attached is not None:
            stack.enter_context(parts.attached)
        entry = _Entry(name, kind, parts, stack, changes_weights)
        if not self._entries:
            self._take_over()
        self._entries.append(entry)
        return functools.partial(self._detach, entry)

    def _detach(self, entry: _Entry) -> None:
        if entry not in self._entries:
            return
        self._entries.remove(entry)
        if not self._entries:
            self._give_back()
        entry.stack.close()

    def _take_over(self) -> None:
        @functools.wraps(self._undefended)
        def generate(*args: Any, **kwargs: Any) -> Any:
            return self.generate(*args, **kwargs)

        attributes: dict[str, Any] = {
            _HANDLE: self,
            "remove": self.remove,
            "generate": generate,
            **{name: functools.partial(_refuse, name) for name in _CLOSED_DOORS},
        }
        own = vars(self._vlm.model)
        self._hidden = {name: own[name] for name in attributes if name in own}
        own.update(attributes)

    def _give_back(self) -> None:
        for model, plain, ours in reversed(self._classes):
            if type(model) is ours:  # otherwise something else has replaced it since
                model.__class__ = plain
        self._classes.clear()
        own = vars(self._vlm.model)
        for name in (_HANDLE, "remove", "generate", *_CLOSED_DOORS):
            own.pop(name, None)
        own.update(self._hidden)

    def __getstate__(self) -> Any:
        raise _no_copy()


def protection(model: Any) -> Protection | None:
    """The protection of a model, or None if it has none.

    After a call of `generate`, `protection(model).last` holds the decision on each row.
    """
    handle = vars(unwrapped(model)).get(_HANDLE)
    assert handle is None or isinstance(handle, Protection)
    return handle


def _undo_all(undo: Iterable[Undo]) -> None:
    """Call all of them, the last one first, even if one raises."""
    with ExitStack() as stack:
        for each in undo:
            stack.callback(each)


def _enterable(plain: type, undo: Sequence[Undo]) -> type:
    """A class like `plain` whose objects can be entered once, and cannot be copied."""
    # `with` looks at the class alone. torch replaces it, too, to parametrize and to shard.
    entered = False

    def enter(model: Any) -> Any:
        nonlocal entered
        if entered:
            raise ModelError(
                "This `with` block has nothing to remove: the latest call of protect has a block "
                "already. Begin each block with a call of its own: `with protect(...) as model:`."
            )
        entered = True
        return model

    def leave(model: Any, *_: Any) -> None:
        _undo_all(undo)

    def reduce(model: Any, _: Any) -> Any:
        raise _no_copy()

    names = ("__module__", "__qualname__", "__doc__")
    body = {name: getattr(plain, name) for name in names}
    body |= {"__enter__": enter, "__exit__": leave, "__reduce_ex__": reduce}
    return type(plain.__name__, (plain,), body)


def _no_copy() -> ModelError:
    return ModelError(
        "A protected model cannot be copied or pickled: the copy would not be defended. "
        "Call unprotect(model) first and protect the copy."
    )


def _wrapped(around: Callable[[Generate, Inputs], Any], generate: Generate) -> Generate:
    def run(**inputs: Any) -> Any:
        return around(generate, inputs)

    return run


def _refuse(name: str, *_: Any, **__: Any) -> None:
    raise ModelError(
        f"{name} would bypass the defenses on this model. "
        "Use model.generate, or remove them with unprotect(model)."
    )
