"""docs/reference/cli.md: the help of every command, by running it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

_HEAD = """# Command line

Made from the program's own help by `make docs`; a test fails when it is stale.

Errors that you can fix are one sentence on standard error, with exit code 2.
"""
_WIDTH = 100


def render() -> str:
    """The page."""
    parts = [_HEAD]
    for title, text in help_pages([[], *([verb] for verb in verbs())]).items():
        parts.append(f"\n## {title}\n\n```text\n{text}\n```\n")
    return "".join(parts)


def verbs() -> list[str]:
    """The commands, in the order of the help."""
    return list(command_tree())


def command_tree() -> dict[str, set[str]]:
    """Every command with all spellings of its options."""
    from typer.main import get_command

    from safesight.cli.main import app

    root = get_command(app)
    commands = getattr(root, "commands", {})
    return {
        name: {
            spelling
            for parameter in command.params
            for spelling in (*parameter.opts, *parameter.secondary_opts)
            if spelling.startswith("-")
        }
        | {"--help"}
        for name, command in commands.items()
        if not command.hidden
    }


_RUN = """
import json, sys
from typer.testing import CliRunner
from safesight.cli.main import app
pages = {}
for words in json.loads(sys.argv[1]):
    result = CliRunner().invoke(app, [*words, "--help"], prog_name="safesight")
    assert result.exit_code == 0, result.output
    pages[" ".join(["safesight", *words])] = result.output
print(json.dumps(pages))
"""


def help_pages(commands: list[list[str]]) -> dict[str, str]:
    """The help texts as a user sees them, at a fixed width and without color.

    Runs in a separate interpreter, since libraries read these variables on import.
    """
    environment = {
        **os.environ,
        "COLUMNS": str(_WIDTH),
        "TERMINAL_WIDTH": str(_WIDTH),
        "TERM": "dumb",
        "NO_COLOR": "1",
        "PYTHONIOENCODING": "utf-8",
    }
    for name in ("FORCE_COLOR", "CI", "GITHUB_ACTIONS", "PY_COLORS"):
        environment.pop(name, None)
    result = subprocess.run(
        [sys.executable, "-c", _RUN, json.dumps(commands)],
        env=environment,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        check=True,
    )
    pages: dict[str, str] = json.loads(result.stdout)
    return {
        title: "\n".join(line.rstrip() for line in text.splitlines()).strip("\n")
        for title, text in pages.items()
    }
