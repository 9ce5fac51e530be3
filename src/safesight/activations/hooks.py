"""Hooks that act only where they were installed: in one thread, and in code that really runs.

Several threads may use one model at once, and each must see and change its own passes alone. And
what torch.compile has traced before runs without hooks that come later, so while any of ours are
installed, compiled code runs as it is written. All hooks of safesight are installed here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

__all__ = ["After", "Before", "Hooks", "hooked"]

Before = Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], Any]
"""A hook on a module's input; returns None, or other arguments as a pair."""

After = Callable[[nn.Module, tuple[Any, ...], Any], Any]
"""A hook on a module's output; returns None, or another output."""


class Hooks:
    """The hooks of one context; `hooked` makes it."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack, self._thread = stack, threading.get_ident()

    def before(self, module: nn.Module, hook: Before) -> None:
        """Call `hook` before the module runs, until the context ends."""

        def here(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            return hook(module, args, kwargs) if self._mine() else None

        handle = module.register_forward_pre_hook(here, with_kwargs=True)
        self._stack.callback(handle.remove)

    def after(self, module: nn.Module, hook: After) -> None:
        """Call `hook` after the module has run, until the context ends."""

        def here(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
            return hook(module, args, output) if self._mine() else None

        self._stack.callback(module.register_forward_hook(here).remove)

    def _mine(self) -> bool:
        return threading.get_ident() == self._thread


@contextmanager
def hooked() -> Iterator[Hooks]:
    """Install hooks that act in this thread until the context ends.

    Example:
        >>> seen, layer = [], nn.Identity()
        >>> with hooked() as hooks:
        ...     hooks.after(layer, lambda module, args, output: seen.append(output))
        ...     _ = layer(1), threading.Thread(target=layer, args=(2,)).start()
        >>> seen
        [1]
    """
    with _as_written, ExitStack() as stack:
        yield Hooks(stack)


class _AsWritten:
    """While anyone is inside, compiled code runs as it is written; the setting is the process's."""

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0
        self._stance: AbstractContextManager[None] | None = None

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._stance = torch.compiler.set_stance("force_eager")
            self._inside += 1

    def __exit__(self, *_: Any) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0 and self._stance is not None:
                self._stance.__exit__(None, None, None)


_as_written = _AsWritten()
