"""What every argument of every command has to be, whatever the command does with it.

A wrong one is refused while the command line is read, before anything is loaded or written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Any

from typer.core import TyperCommand

from safesight.errors import InputError, reason_of

__all__ = ["Command"]


MOST = 1_000_000
"""The largest number: of anything that is counted, more would run for days without a word."""
LAST_SEED = 2**32 - 1
"""The largest seed that every library takes."""
_MOST_OF = {"--seed": LAST_SEED, "--max-pixels": 1_000_000_000}
"""The largest numbers of options that count something small."""


class Command(TyperCommand):
    """A command that takes no empty argument, endless number, impossible text or path.

    Nor does it take an option twice that has one value: the first would be left out without a word,
    and it may be a defense.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the command line.

        Raises:
            InputError: an argument cannot be used by any command.
        """
        needed = {word for each in self.params if each.required for word in each.opts}
        for name in _empty(args):
            advice = "Give it a value" if name in needed else "Give it a value, or leave it out"
            raise InputError(f"{name} is empty. {advice}.")
        if foreign := self._foreign(args):
            into = "into --vllm-options" if "--vllm-options" in self._known() else "after --"
            raise InputError(f"There is no option {foreign}. Options of vLLM go {into}.")
        for option in self._given_again(ctx, args):
            told = f"{option.help} {option.metavar}".lower()
            lists = "comma-separated" in told or told.endswith(",...")
            advice = "Name everything in one, with commas between" if lists else "Give it once"
            raise InputError(f"{max(option.opts, key=len)} is given twice. {advice}.")
        rest = super().parse_args(ctx, args)
        for parameter in self.params:
            given = ctx.params.get(str(parameter.name))
            for value in given if isinstance(given, list | tuple) else [given]:
                _check(parameter.opts[0], value)
        return rest

    def _known(self) -> set[str]:
        found = {word for each in self.params for word in (*each.opts, *each.secondary_opts)}
        return found | {"--help"}

    def _foreign(self, args: Sequence[str]) -> str:
        """The first option that is not ours, where vLLM may have one of that name; or nothing."""
        if "--engine=vllm" not in args and ("--engine", "vllm") not in pairwise(args):
            return ""
        ours = list(takewhile(lambda word: word != "--", args))
        options: list[Any] = [each for each in self.params if each.param_type_name == "option"]
        valued = {word for each in options if not each.is_flag for word in each.opts}
        words = [word for before, word in pairwise(["", *ours]) if before not in valued]
        names = [word.partition("=")[0] for word in words if word.startswith("--")]
        return next((name for name in names if name not in self._known()), "")

    def _given_again(self, ctx: Any, args: Sequence[str]) -> Iterator[Any]:
        """Options of one value that are given more than once."""
        order: Sequence[Any] = self.make_parser(ctx).parse_args([*args])[2]
        given = Counter(each for each in order if each.param_type_name == "option")
        for each, times in given.items():
            if times > 1 and not (each.multiple or each.is_flag):
                yield each


def _empty(args: Sequence[str]) -> Iterator[str]:
    """The options without a value, by name."""
    for before, text in zip(["", *args], args, strict=False):
        if not text:
            yield before if before.startswith("-") else "An argument"
        elif text.startswith("--") and text.endswith("=") and text.count("=") == 1:
            yield text[:-1]


def _check(name: str, value: Any) -> None:
    shown = name if name.startswith("-") else name.upper()
    most = _MOST_OF.get(name, MOST)
    if isinstance(value, int) and value > most:
        raise InputError(f"{shown} is {value}, which is too much. Use at most {most}.")
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise InputError(f"{shown} is not text in UTF-8. Write it again.") from None
    if isinstance(value, str | Path) and "\0" in str(value):
        raise InputError(f"{shown} contains a null character. Remove it.")
    if isinstance(value, Path):
        try:
            value.stat()
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            pass  # the command may make it, or says itself what it needs
        except (OSError, ValueError) as error:
            raise InputError(
                f"{shown} cannot be a path ({reason_of(error)}). Choose another."
            ) from None
