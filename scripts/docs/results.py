"""The committed results, `docs/results/*`, and a note of those that pages need but lack.

A result is `NAME.json`, or `NAME.json.gz` where the verdicts of every answer make it large.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safesight.compare import Scorecard
from safesight.files import write_text

COSTS = "cost"
"""The scorecard of the benchmark of costs. Times in the documentation come from it: the runs that
other scorecards are made of time a handful of prompts."""

LARGE = 160_000
"""Bytes above which a result is committed compressed."""


class Results:
    """Reads results by name; absent ones are recorded in `missing`, never invented."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made: Mapping[str, str] = {}
        """Files that are generated in this run; their text on disk may be stale."""
        self.missing: list[str] = []
        self._read: dict[str, Any] = {}

    def text(self, name: str, page: str) -> str | None:
        text = self.made.get(name) or read(self.folder / name)
        if text is None:
            self.miss(f"{page} wants {name}")
        return text

    def json(self, name: str, page: str) -> Any:
        if name not in self._read:
            text = self.text(f"{name}.json", page)
            if text is None:
                return None
            self._read[name] = json.loads(text)
        return self._read[name]

    def scorecard(self, name: str, page: str) -> Scorecard | None:
        found = self.json(name, page)
        return None if found is None else Scorecard.model_validate(found)

    def timed(self, name: str, page: str) -> Scorecard | None:
        """A scorecard with the times of the benchmark of costs, if that measured its model."""
        card = self.scorecard(name, page)
        if card is None or not self.timed_elsewhere(name):
            return card
        costs = self.scorecard(COSTS, page)
        known = [] if costs is None else costs.overhead
        wanted = [cost for cost in known if cost.defense in card.defenses]
        return card.model_copy(update={"overhead": wanted})

    def timed_elsewhere(self, name: str) -> bool:
        """Whether times beside this scorecard are those of the benchmark of costs."""
        if name == COSTS or not has(self.folder, name):
            return False
        card, costs = self.scorecard(name, name), self.scorecard(COSTS, name)
        return costs is None or card is None or costs.model == card.model

    def miss(self, sentence: str) -> None:
        """Record a result that a page needs but that was never measured."""
        if sentence not in self.missing:
            self.missing.append(sentence)

    def identity(self, name: str) -> str:
        """The identity of the bundled weights behind a result; empty if it does not say."""
        found = self.json(name, name) if has(self.folder, name) else None
        if not isinstance(found, dict) or found.get("model", "testbed") != "testbed":
            return ""
        return str(found.get("identity") or found.get("provenance", {}).get("model_identity", ""))

    def seconds(self, name: str) -> float:
        """How long the benchmark behind a result ran; 0 for a scorecard."""
        found = self.json(name, name) if has(self.folder, name) else None
        if not isinstance(found, dict) or "rows" not in found or "verdicts" in found:
            return 0.0
        return float(found.get("seconds") or 0)

    def value(self, name: str, path: str, page: str) -> Any:
        """A value in a JSON file, by a dotted path such as `stages.0.seconds`."""
        value = self.json(name, page)
        if value is None:
            return None
        for key in path.split("."):
            inside = isinstance(value, list) and int(key) < len(value)
            if not inside and not (isinstance(value, dict) and key in value):
                self.miss(f"{page} wants {path} of {name}.json")
                return None
            value = value[int(key)] if isinstance(value, list) else value[key]
        return value


def read(path: Path) -> str | None:
    """The text of a result, packed or not; None if there is none."""
    packed = path.with_name(f"{path.name}.gz")
    if packed.is_file():
        return gzip.decompress(packed.read_bytes()).decode()
    return path.read_text(encoding="utf-8") if path.is_file() else None


def has(folder: Path, name: str) -> bool:
    """Whether there is such a result, packed or not."""
    return any((folder / f"{name}.{ending}").is_file() for ending in ("json", "json.gz"))


def publish(source: Path, folder: Path) -> Path:
    """Copy a finished result to the committed ones, compressed if it is large.

    Raises:
        ValueError: the file is not JSON.
    """
    data = source.read_bytes()
    text = (gzip.decompress(data) if source.suffix == ".gz" else data).decode()
    json.loads(text)
    plain = folder / source.name.removesuffix(".gz")
    packed = plain.with_name(f"{plain.name}.gz")
    if len(text) <= LARGE:
        packed.unlink(missing_ok=True)
        return write_text(plain, text)
    plain.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    packed.write_bytes(gzip.compress(text.encode(), mtime=0))  # the same bytes every time
    return packed
