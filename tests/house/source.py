"""The package's source files as the house rules see them: a place, a text, a tree.

Only reading; what is right and wrong is in `rules`.
"""

from __future__ import annotations

import ast
import subprocess
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"


@dataclass(frozen=True)
class Source:
    """One Python file; made from a string, it lets a rule be tried on a broken example."""

    module: str
    """Dotted name; a package's `__init__` carries the package's own name."""
    text: str
    is_package: bool = False

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def room(self) -> str:
        """First part below `safesight`; the empty string for the package itself."""
        return self.module.split(".")[1] if "." in self.module else ""


@cache
def sources() -> tuple[Source, ...]:
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        module = ".".join(parts[:-1] if is_package else parts)
        found.append(Source(module, path.read_text(encoding="utf-8"), is_package))
    return tuple(found)


@cache
def tracked() -> tuple[Path, ...]:
    """Every file that git tracks or would add, so that a new file is seen before its commit."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return tuple(ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file())
