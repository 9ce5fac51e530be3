"""The committed results, `docs/results/*`, and a list of those that are missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safesight.compare import Scorecard


class Results:
    """Reads results by name; absent ones are recorded in `missing`, never invented."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.missing: list[str] = []

    def text(self, name: str, page: str) -> str | None:
        path = self.folder / name
        if not path.is_file():
            self.miss(f"{page} wants {path.name}")
            return None
        return path.read_text(encoding="utf-8")

    def json(self, name: str, page: str) -> Any:
        text = self.text(f"{name}.json", page)
        return None if text is None else json.loads(text)

    def scorecard(self, name: str, page: str) -> Scorecard | None:
        text = self.text(f"{name}.json", page)
        return None if text is None else Scorecard.model_validate_json(text)

    def miss(self, sentence: str) -> None:
        """Record a result that a page needs but that was never measured."""
        if sentence not in self.missing:
            self.missing.append(sentence)

    def identity(self, name: str) -> str:
        """The identity of the bundled model behind a result; empty if not recorded."""
        path = self.folder / f"{name}.json"
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
        if not isinstance(found, dict) or found.get("model", "testbed") != "testbed":
            return ""
        return str(found.get("identity") or found.get("provenance", {}).get("model_identity", ""))

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
