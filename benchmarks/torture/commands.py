"""Wrong command lines over every command and option: each ends in a short message, nothing more.

A trial takes a command that would run and breaks it at one place: a name is misspelled or joined
with what it does not go with, a number has no end, a file is not there or is damaged, an option is
missing, repeated or of another command. The program has to end with exit code 1 or 2 and a message
on standard error, without a traceback, without the network, and without a change to any file.
"""

from __future__ import annotations

import inspect
import os
import random
import shlex
import shutil
import socket
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, get_args
from unittest.mock import patch

from PIL import Image
from typer.main import get_command
from typer.testing import CliRunner

from safesight import registry
from safesight.cli.main import app
from safesight.fitting.bundled import place_in

__all__ = ["run"]

_LONGEST = 1500
"""Characters of a message, which may list all names that are known."""

SOUND = {
    "demo": "demo -o new",
    "eval": "eval --defense safety_prompt --tasks vqa --limit 1 --overhead 0 --log-dir new",
    "fit": "fit sasa --limit 8 --calibration 2 -o new",
    "merge": "merge artifact -o new",
    "compare": "compare logs",
    "report": "report logs -o new.html",
    "run": "run image_tools -o new.json --n 1",
    "layers": "layers testbed --n 8 -o new.html",
    "spurious": "spurious mirage --n 40",
    "try": "try red.png what? --defense safety_prompt",
    "list": "list defenses",
    "check": "check testbed",
}
"""A command line for every command; each would run as it stands."""

_DEEP = "[" * 20_000
_FILES: dict[str, bytes] = {
    "empty.json": b"",
    "deep.json": _DEEP.encode(),
    "list.json": b"[1, 2]",
    "half.json": b'[{"id": "a", "question": ',
    "bytes.json": b"\xff\xfe\0",
    "row.json": b'[{"id": "a", "question": "q"}]',
    "deep.yaml": _DEEP.encode(),
    "list.yaml": b"- 1",
    "odd.yaml": b"experiment: [image_tools]",
    "key.yaml": b"experiment: image_tools\n5: 6\n",
    "bytes.yaml": b"\xff\xfe\0",
    "tasks.yaml": b"experiment: image_tools\ntasks: [nosuch]\n",
    "picture.png": b"hello",
}
_WORDS = ("Nosuch", "sasa+", "+", "~", "sasa++npo", "sasa+sasa", "npo+sft", "sasa~int4", "[red]x")


def run(n: int, seed: int, folder: Path) -> dict[str, Any]:
    """Make `n` trials."""
    rng = random.Random(seed)
    counts: dict[str, Any] = {"tried": 0, "right": 0, "refused": 0, "faults": []}
    here = Path.cwd()
    os.chdir(_furnished(folder))
    try:
        for index in range(n):
            line = _broken(list(SOUND)[index % len(SOUND)], rng)
            fault = _fault(line)
            counts["tried"] += 1
            counts["refused"] += not fault
            if fault:
                shown = shlex.join(line).encode("unicode_escape").decode()[:300]
                counts["faults"].append(f"{shown}: {fault}")
    finally:
        os.chdir(here)
    return counts


def _furnished(folder: Path) -> Path:
    """What the command lines read: damaged files, a picture, an artifact, logs of a small run."""
    for name, content in _FILES.items():
        (folder / name).write_bytes(content)
    Image.new("RGB", (40, 40), "red").save(folder / "red.png")
    (folder / "empty").mkdir()
    shutil.copytree(place_in("testbed", "npo"), folder / "artifact")
    small = shlex.split(SOUND["eval"].replace("new", str(folder / "logs")))
    made = CliRunner().invoke(app, small)
    if made.exit_code:
        raise RuntimeError(f"{shlex.join(small)} failed: {made.output}")
    return folder


def _fault(line: list[str]) -> str:
    """What is wrong with how the program took a wrong command line; empty if nothing is."""
    before, asked = _contents(), []

    def ask(*place: Any, **_: Any) -> Any:
        asked.append(place)
        raise OSError("there is no network")

    with patch.object(socket.socket, "connect", ask), patch.object(socket, "getaddrinfo", ask):
        result = CliRunner(env={"COLUMNS": "100"}).invoke(app, line)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        return f"{type(result.exception).__name__}: {str(result.exception)[:200]}"
    if result.exit_code not in (1, 2):
        return f"exit code {result.exit_code}"
    if asked:
        return f"asked for {asked[0]}"
    if _contents() != before:
        return "changed a file"
    message = result.stderr.strip()
    if not message or "Traceback" in message or len(message) > _LONGEST:
        return f"the message {message[:200]!r}"
    return ""


def _contents() -> dict[str, str]:
    return {
        str(path): sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in sorted(Path().rglob("*"))
    }


def _broken(verb: str, rng: random.Random) -> list[str]:
    """The sound line of a command with one mistake."""
    line = shlex.split(SOUND[verb])
    return rng.choice((_wrong_value, _wrong_value, _wrong_value, _wrong_word, _wrong_shape))(
        verb, line, rng
    )


def _wrong_shape(verb: str, line: list[str], rng: random.Random) -> list[str]:
    """The wrong command, or a word too many or too few."""
    options = [words[0] for words, _ in _options(verb)]
    mistakes: list[Callable[[], list[str]]] = [
        lambda: [_typo(verb, rng), *line[1:]],
        lambda: [*line, "one", "too", "many"],
        lambda: [*line, f"--{_typo('nosuch', rng)}"],
        lambda: [*line, ""],
    ]
    if options:
        mistakes.append(lambda: [*line, rng.choice(options)])
        mistakes.append(lambda: [*line, f"{rng.choice(options)}="])
    if len(line) > 1 and not line[1].startswith("-"):
        mistakes.append(lambda: [verb])
    return rng.choice(mistakes)()


def _wrong_word(verb: str, line: list[str], rng: random.Random) -> list[str]:
    """With another argument than the command takes."""
    wrong: dict[str, list[str]] = {
        "fit": ["", "none~int4", "sasa,npo", _typo("sasa", rng)],
        "merge": ["", "nosuch", "empty", "red.png", "x" * 5000],
        "compare": ["", "nosuch", "empty", "red.png", "x" * 5000],
        "report": ["", "nosuch", "empty", "red.png", "x" * 5000],
        "run": [name for name in _FILES if name.endswith(".yaml")]
        + ["", "nosuch", "nosuch.yaml", "empty", _typo("image_tools", rng)],
        "layers": ["", " ", "empty", "red.png", "~nosuchuser/x", _typo("testbed", rng)],
        "spurious": ["", "vlguard+x", "pictures", _typo("mirage", rng)],
        "try": ["", "nosuch.png", "picture.png", "empty", "~nosuchuser/a.png", "https://x.org/a"],
        "list": ["", "x" * 500, _typo("defenses", rng)],
        "check": ["", " ", "empty", "red.png", "a/b/c", "x" * 5000, _typo("testbed", rng)],
    }
    if verb not in wrong:
        return _wrong_value(verb, line, rng)
    return [verb, rng.choice(wrong[verb]), *line[2:]]


def _wrong_value(verb: str, line: list[str], rng: random.Random) -> list[str]:
    """With an option whose value means nothing."""
    options = _options(verb)
    if not options:
        return _wrong_shape(verb, line, rng)
    words, kind = rng.choice(options)
    value = rng.choice(list(_wrong_values(words[0], kind, rng)))
    return [*line, rng.choice(words), value]


def _wrong_values(option: str, kind: Any, rng: random.Random) -> Iterator[str]:
    yield ""
    kinds = {kind, *get_args(kind)}
    if int in kinds:
        yield from ("-1", "1.5", "many", "1e3", str(rng.randrange(2**33, 10**20)))
    elif float in kinds:
        yield from ("-0.5", "1.5", "half", str(rng.uniform(2, 1e9)))
    elif Path in kinds:
        yield from ("x" * rng.randrange(300, 5000), f"red.png/{rng.randrange(100)}", "a\0b")
    yield from _WRONG.get(option, lambda _: ())(rng)


def _names(kind: registry.Kind) -> Callable[[random.Random], list[str]]:
    return lambda rng: [_typo(rng.choice(registry.names(kind)), rng), f"{rng.random()}", "+", "~"]


def _arms(rng: random.Random) -> list[str]:
    known = [name for name in registry.names("defense") if name != "none"]
    one, other = rng.sample(known, 2)
    wrong = [",", f"{one}+", f"~{one}", f"{one}~{other}", f"none+{one}", f"{one}+{other}+{one}"]
    return [*_WORDS, *wrong, f"{one}+{_typo(other, rng)}"]


_WRONG: dict[str, Callable[[random.Random], Any]] = {
    "--defense": _arms,
    "--tasks": lambda rng: ["vqa+", "+prefill", "vqa+prefill+prefill", _typo("vqa", rng), ","],
    "--judge": _names("judge"),
    "--model": lambda rng: [_typo("testbed", rng), " ", "empty", "red.png", "a/b/c", "~nosuch/x"],
    "--artifact": lambda _: ["nosuch", "empty", "red.png"],
    "--vector": lambda _: ["nosuch", "empty", "red.png"],
    "--layers": lambda _: [name for name in _FILES if name.endswith(".json")],
    "--data": lambda _: ["nosuch.jsonl", "empty", "row.json", "deep.json", "bytes.json"],
    "--data-option": lambda _: ["x", "=1", "x=", "nosuch=1", f"rho={_DEEP}"],
    "--set": lambda _: ["x", "=1", "x=", "nosuch=1", f"C={_DEEP}", "C=nan", "C=abc", "C=-1"],
    "--words": lambda _: [",", " , "],
    "--json": lambda _: ["empty", "red.png/x"],
    "--dtype": lambda rng: ["int8", "__class__", _typo("float32", rng)],
    "--device": lambda rng: ["meta", "cuda:99", _typo("cpu", rng)],
    "--device-map": lambda _: ["{}", "null", "[1]", "moon", "{x", f"{{{_DEEP}", '{"": "meta"}'],
    "--quantization": lambda rng: ["int3", _typo("int8", rng)],
    "--attn-implementation": lambda rng: ["by hand", "paged|sdpa", _typo("sdpa", rng)],
    "--revision": lambda _: ["main"],
}


def _typo(name: str, rng: random.Random) -> str:
    """A name with a letter changed, so that no name of any registry comes out."""
    place = rng.randrange(len(name))
    return rng.choice((f"{name[:place]}Q{name[place:]}", f"{name[:place]}Q{name[place + 1 :]}"))


def _options(verb: str) -> list[tuple[list[str], Any]]:
    """The options of a command that take a value: their spellings and its type."""
    commands: Any = get_command(app)
    command = commands.commands[verb]
    types = inspect.signature(command.callback, eval_str=True).parameters
    return [
        (list(each.opts), get_args(types[each.name].annotation)[0])
        for each in command.params
        if each.param_type_name == "option" and not each.is_flag
    ]
