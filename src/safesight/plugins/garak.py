"""A protected model in garak: `python -m safesight.plugins.garak --target_type safesight ...`.

garak loads generators from its own package only. So this program is garak's command line with one
generator more; every argument is garak's. In Python, call `register` first.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from garak import _config, cli
from garak.attempt import Conversation, Message
from garak.generators.base import Generator

from safesight import types
from safesight.console import stderr
from safesight.errors import InputError
from safesight.hosting.requests import Generation
from safesight.hosting.served import serve
from safesight.hosting.settings import Settings

__all__ = ["DEFAULT_CLASS", "Safesight", "main", "register"]

DEFAULT_CLASS = "Safesight"
"""What garak makes of `--target_type safesight`."""
_NAME = "garak.generators.safesight"
_PLACE = "<image>"
"""Where the prompts of garak's picture probes want the picture."""


class Safesight(Generator):
    """A vision-language model of transformers, with safesight's defenses or without.

    Configure it like garak's own, under `generators: safesight:` or with `--generator_options`:
    `name` (`--target_name`: "testbed", a folder, or a hub id), `defense`, `artifact` (a folder or
    a list of them), `dtype`, `device`, `batch_size`, `max_tokens`, `temperature`, `top_k`,
    `top_p`, and `settings`, a mapping with loading options and settings of the defense. With a
    temperature, garak's own `seed` makes the answers repeatable.
    """

    __module__ = _NAME  # the place in garak's configuration is read off this name
    generator_family_name = "safesight"
    modality = {"in": {"text", "image"}, "out": {"text"}}  # noqa: RUF012 (as garak declares it)
    supports_multiple_generations = True
    parallel_capable = False
    DEFAULT_PARAMS: Mapping[str, Any] = Generator.DEFAULT_PARAMS | {
        "name": "testbed",
        "defense": "none",
        "artifact": [],
        "dtype": None,
        "device": None,
        "batch_size": None,
        "top_p": None,
        "settings": {},
    }

    def __init__(self, name: str = "", config_root: Any = _config) -> None:
        if name:
            self.name = name
        super().__init__(name, config_root=config_root)
        self._served = serve(
            self.name,
            defense=self.defense,
            artifact=self.artifact,
            dtype=self.dtype,
            device=self.device,
            batch_size=self.batch_size,
            **self.settings,
        )

    def _call_model(
        self, prompt: Conversation, generations_this_call: int = 1
    ) -> list[Message | None]:
        """The answers to one prompt; None, which garak leaves out, where it cannot be asked."""
        try:
            messages = list(_turns(prompt))
            asked = [self._served.ask(messages, each) for each in self._each(generations_this_call)]
            found = [future.result() for future in asked]
        except InputError as error:
            stderr().print(f"A prompt got no answer. {error}")
            return [None] * generations_this_call
        if len(found) < generations_this_call:
            found *= generations_this_call  # greedy: all of them are the same
        return [_message(each) for each in found]

    def _each(self, generations: int) -> list[Settings]:
        """The settings of every answer that has to be generated."""
        temperature = self.temperature or 0.0
        if not temperature:
            return [Settings(self.max_tokens)]
        one = Settings(self.max_tokens, temperature, self.top_p, self.top_k)
        if self.seed is None:
            return [one] * generations
        return [replace(one, seed=self.seed + index) for index in range(generations)]


def _message(generation: Generation) -> Message:
    refused = {} if generation.refused is None else {"refused_by_detector": generation.refused}
    return Message(generation.text, notes=refused)


def _turns(conversation: Conversation) -> Iterator[types.Message]:
    for turn in conversation.turns:
        yield {"role": turn.role, "content": _content(turn.content)}


def _content(message: Message) -> list[dict[str, Any]]:
    """The parts of a message: the picture where its text says, or before the text."""
    picture = message.data_path if message.data_path is not None else message.data
    text = message.text or ""
    if picture is None:
        return [{"type": "text", "text": text}]
    kind = (message.data_type or (None,))[0] or "image"
    if not kind.startswith("image"):
        raise InputError(f"safesight models take text and pictures, not {kind}.")
    before, place, after = text.partition(_PLACE)
    texts = (before, after) if place else ("", text)
    parts = [{"type": "text", "text": each} if each else None for each in texts]
    shown = {"type": "image", "image": picture}
    return [part for part in (parts[0], shown, parts[1]) if part is not None]


def register() -> None:
    """Make the generator one of garak's, for this process."""
    sys.modules[_NAME] = sys.modules[__name__]


def main() -> None:
    """Run garak's command line."""
    register()
    cli.main(sys.argv[1:])


if __name__ == "__main__":
    main()
