"""Phrasings that read as translated, and what to write in their place."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.house.source import ROOT, tracked

# pattern, what to write, a sentence that is caught. A space in a pattern also matches a line
# break, the quotes between two halves of a string and the mark of a comment.
BANNED: tuple[tuple[str, str, str], ...] = (
    (r"\bgone on with\b", "resumed", "A run that cannot be gone on with."),
    (
        r"\bgo(?:es)? on (?:where|there|from)\b",
        "resumes where, or continues from",
        "It goes on where it stopped.",
    ),
    (r"\bnames nothing\b", "no name given", "'' names nothing."),
    (
        r"\b(?:samples?|prompts?|prefills?|requests?|rows?|columns?|vectors?|batch|bar|folder|file"
        r"|delta|captions?|pass(?:es)?|seconds|threads?|answers?) an? (?:task|layer|head|forward"
        r"|step|defense|measure|arm|file|process|batch|device|prompt|token|row|sample|method|fit)"
        r"(?=[.,;:)|]|\Z)",
        "X per Y",
        "Samples a task.",
    ),
    (r"\bgives? verdicts\b", "the judge that labels the answers", "Who gives verdicts."),
    (
        r"\bof the pool that is used\b",
        "fraction of the pool to use",
        "Of the pool that is used.",
    ),
    (r"\bmost \w+ in one \w+\b", "maximum batch size", "Most answers in one batch."),
    (r'(?:help=f?"|""")Of ', "a noun first: 'Seed for ...'", 'help="Of samples and fits."'),
    (r"\bwhat stands where\b", "file overview", "It says what stands where."),
    (r"\bmend(?:s|ed)? (?:it|them|the)\b", "repair it", "Mend it, or move it away."),
    (r"\bdice\b", "rng", "dice = random.Random(0)"),
    (r"\blinear maps?\b", "linear layers", "Linear maps rounded to 8 bits."),
    (r"\bsmall matrices\b", "LoRA adapters", "Small matrices beside linear layers."),
    (r"\bopens? no door\b", "do not use it on", "It opens no door to other models."),
    (
        r"(?<!there.)\bis no (?:file|folder|picture|data set|rate|name|number)\b",
        "is not a",
        "x is no file.",
    ),
    (r"\bmid-run\b", "during the run", "Checked now, not in mid-run."),
    (r"\banew\b", "again", "Measure anew what the page shows."),
    (r"\bin vain\b", "missing", "Results that were asked for in vain."),
    (r"\b(?:not|never) behind it\b", "not after it", "Before the work, not behind it."),
    (r"\bwhat was said of\b", "the options given for", "What was said of loading."),
    (r"\bhangs on\b", "depends on", "What hangs on words."),
    (r"\bheld against\b", "compared with", "The arms they are held against."),
    (r"\bis told of\b", "is reported", "A wrong file is told of early."),
    (r"\bof today\b", "current", "The weights of today."),
    (r"\bword exchanged\b|\bexchang(?:es|ing) the\b", "replaces", "With one word exchanged."),
    (
        r"\bsay(?:s)? (?:below|above) (?:itself|themselves)\b",
        "notes below",
        "It says below itself.",
    ),
    (r"\byou may write\b", "you can write", "Choose a place you may write to."),
    (
        r"\bthe same command again (?:resumes|continues|goes|starts)\b",
        "running the same command again",
        "The same command again resumes.",
    ),
    (r"\bprints nothing else\b", "prints only that", "Write JSON; - prints nothing else."),
    (r"\bas a whole or not at all\b", "completely or not at all", "As a whole or not at all."),
    (r"\bgiven back as (?:it was|they were)\b", "restored", "The model is given back as it was."),
    (
        r"\b(?:too few|no) samples of (?:a|one) kind\b",
        "too few harmful or benign samples",
        "Too few samples of a kind.",
    ),
    (r"\bkeeps? (?:its|their) bits\b", "unchanged, bit for bit", "A row keeps its bits."),
    (r"\bdealt out\b", "shuffled", "Words that are dealt out."),
    (r"\b(?:among|of) equals\b", "ties go to", "The latest among equals."),
    (
        r"\b(?:forward|backward)s? a (?:step|token)\b",
        "passes per step",
        "A forward and a backward a step.",
    ),
    (r"\bwhere answers are cut\b", "maximum length of answers", "Where answers are cut."),
    (r"\bwhose verdicts\b", "the judge that labels the answers", "Whose verdicts count."),
    (r"\bbeg[iau]n anew\b|\bmade anew\b", "start again", "It is begun anew."),
    (r"\bstands? (?:behind|beside)\b", "is next to, or is reported with", "It stands beside it."),
    (r"\bwhoever\b", "anyone who", "Whoever calls it afterwards."),
    (r"\b(?:take[sn]?|took) off\b", "remove", "Leaving the block takes off the defense."),
    (r"\bcannot be told apart\b", "cannot be distinguished", "Its heads cannot be told apart."),
    (r"\bas before afterwards\b", "left unchanged", "The model; it is as before afterwards."),
    (
        r"\bone (?!token)\w+ an? (?:layer|arm|input|sample|prompt)\b",
        "one per layer",
        "One entry a layer.",
    ),
    (
        r"\b(?:say|says|is said) elsewhere\b",
        "omit it, or a link",
        "What it means is said elsewhere.",
    ),
    (r"\bseventeen\b", "a count that is computed", "Compare seventeen defenses."),
)

CLEAN = (
    "src",
    "docs",
    "scripts",
    "benchmarks",
    "examples",
    "README.md",
    "CONTRIBUTING.md",
    "Makefile",
)
"""What is read. History (CHANGELOG.md, LOG.md) keeps its words; docs/results is output."""

NOT_READ = ("docs/results/",)
PROSE = {".py", ".md", ".toml", ".yaml", ""}

_GAP = r"(?:\s|\"|#|\bf\")+"


def stilted(name: str, text: str) -> list[str]:
    """A sentence for every banned phrasing in a text."""
    return [
        f"{name}:{text.count(chr(10), 0, match.start()) + 1}: {match.group()!r}; write: {better}"
        for pattern, better, _ in BANNED
        for match in re.finditer(pattern.replace(" ", _GAP), text, re.MULTILINE | re.IGNORECASE)
    ]


def prose(rooms: tuple[str, ...]) -> list[Path]:
    """The files with text below some paths of the repository."""
    found = []
    for path in tracked():
        name = path.relative_to(ROOT).as_posix()
        within = any(name == room or name.startswith(f"{room}/") for room in rooms)
        if within and path.suffix in PROSE and not name.startswith(NOT_READ):
            found.append(path)
    return found


def test_plain_english() -> None:
    wrong = [
        sentence
        for path in prose(CLEAN)
        for sentence in stilted(str(path.relative_to(ROOT)), path.read_text(encoding="utf-8"))
    ]
    assert not wrong, "\n".join(wrong)


def test_every_clean_room_exists() -> None:
    for room in CLEAN:
        assert prose((room,)), room


@pytest.mark.parametrize(("pattern", "example"), [(p, example) for p, _, example in BANNED])
def test_a_banned_phrasing_is_caught(
    pattern: str, example: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{__name__}.BANNED", ((pattern, "better", example),))
    assert stilted("x", example)


def test_a_phrase_is_caught_across_lines_and_strings() -> None:
    assert stilted("x", '    "a run that cannot be gone on "\n    "with"')
    assert stilted("x", "# it goes on\n# where it stopped")


def test_plain_text_passes() -> None:
    text = "Samples per task. It resumes where it stopped. The rows a task reports are counted."
    assert stilted("x", text) == []
