"""docs/cli.md: the help of every command, by running it."""

from __future__ import annotations

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
    for words in [[], *([verb] for verb in verbs())]:
        title = " ".join(["safesight", *words])
        parts.append(f"\n## {title}\n\n```text\n{help_of(words)}\n```\n")
    return "".join(parts)


def verbs() -> list[str]:
    """The commands, in the order in which the help lists them."""
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


def help_of(words: list[str]) -> str:
    """What a person sees who asks for help, at a fixed width and without colour."""
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
        [sys.executable, "-m", "safesight.cli.main", *words, "--help"],
        env=environment,
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    lines = result.stdout.replace("python -m safesight.cli.main", "safesight").splitlines()
    return "\n".join(line.rstrip() for line in lines).strip("\n")
