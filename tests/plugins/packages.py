"""Packages as an installer leaves them: modules and metadata in one folder, made without one.

`toys` is the package of `docs/how-to/add-a-plugin.md`, read off the page.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

from tests.house.source import ROOT

PAGE = ROOT / "docs/how-to/add-a-plugin.md"
_BLOCK = re.compile(
    r"^`(\S+)`[^\n]*:\n\n(?:<!-- fill: [^\n]*? -->\n)?```\w+\n(.*?)^```$", re.DOTALL | re.MULTILINE
)


def files_of(page: str) -> dict[str, str]:
    """Path to content of every code block below a line that names a file."""
    return {match.group(1): match.group(2) for match in _BLOCK.finditer(page)}


def toys() -> dict[str, str]:
    """The files of the package on the page."""
    return files_of(PAGE.read_text(encoding="utf-8"))


def installed(site: Path, files: Mapping[str, str]) -> Path:
    """Put a package, its `pyproject.toml` among its files, into a folder for `sys.path`."""
    project = tomllib.loads(files["pyproject.toml"])["project"]
    for name, text in files.items():
        if name.startswith("src/"):
            path = site / name.removeprefix("src/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    info = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    head = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (info / "METADATA").write_text(head, encoding="utf-8")
    groups = [
        "\n".join([f"[{group}]", *(f"{name} = {target}" for name, target in names.items()), ""])
        for group, names in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n".join(groups), encoding="utf-8")
    return site
