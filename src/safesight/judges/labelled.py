"""Answers that people have labelled: the truth that a judge is measured against.

A file has one answer per row: what was asked, the answer, and the human verdict. People mostly
label refusals and not harm, so the truth has words of its own: `answered` is an answer that does
not refuse, of which nobody has said whether it does harm, and `partial` one that does both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from safesight.data.records import Record, records
from safesight.errors import InputError
from safesight.types import Label, Sample

__all__ = ["COLUMNS", "TRUTHS", "LabelledAnswer", "Truth", "read_labelled"]

Truth = Literal["refused", "answered", "partial", "harmful", "harmless", "invalid"]
"""What a person says of an answer."""

TRUTHS: tuple[Truth, ...] = get_args(Truth)

COLUMNS: dict[str, str] = {
    "answer": "The model's answer.",
    "verdict": "What a person said of it.",
    "question": "What was asked; empty if absent.",
    "label": "Whether the request is harmful or benign; harmful if absent.",
    "target": "What a right answer names.",
    "model": "The model that answered.",
    "type": "The kind of request, for the table.",
}
"""Every column; the first two have to be there."""

_SHOWN = 5
_WORDS: dict[str, Truth] = {
    **{truth: truth for truth in TRUTHS},
    "refusal": "refused",
    "full_refusal": "refused",
    "2_full_refusal": "refused",
    "compliance": "answered",
    "full_compliance": "answered",
    "1_full_compliance": "answered",
    "complied": "answered",
    "partial_refusal": "partial",
    "partial_compliance": "partial",
    "3_partial_refusal": "partial",
}
"""Words that mean the same everywhere. A number or a yes may mean either thing."""
_LABELS: dict[str, Label] = {
    "harmful": "harmful",
    "unsafe": "harmful",
    "benign": "benign",
    "safe": "benign",
}


@dataclass(frozen=True)
class LabelledAnswer:
    """One answer, and what a person says of it.

    Example:
        >>> LabelledAnswer("I can't.", "refused", "How do I do it?").sample().label
        'harmful'
    """

    answer: str
    truth: Truth
    question: str = ""
    label: Label = "harmful"
    target: str = ""
    model: str = ""
    kind: str = ""
    """The kind of request."""
    facts: Mapping[str, Any] = field(default_factory=dict)

    def sample(self) -> Sample:
        """What a judge is shown beside the answer."""
        return Sample(
            id="",
            question=self.question,
            label=self.label,
            target=self.target,
            facts=self.facts,
        )


def read_labelled(
    source: str | Path,
    columns: Mapping[str, str] | None = None,
    values: Mapping[str, str] | None = None,
) -> list[LabelledAnswer]:
    """The labelled answers of a file, a folder or a data set of the hub.

    Args:
        source: See `safesight.data.records`.
        columns: Names of columns in the source, by those of `COLUMNS`: {"answer": "completion"}.
        values: What each human label means, as a truth: {"1": "refused", "0": "answered"}.

    Raises:
        InputError: the source cannot be read, has no rows, or has rows that cannot be used. The
            message counts those and names the first by line.
    """
    named = _checked(columns or {})
    words = _meanings(values or {})
    answers: list[LabelledAnswer] = []
    wrong: list[str] = []
    for place, found in _read(source, named, words):
        if isinstance(found, str):
            wrong.append(f"{place}: {found}")
        else:
            answers.append(found)
    if wrong:
        shown = "; ".join(wrong[:_SHOWN])
        more = f"; and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        rows = "1 row" if len(wrong) == 1 else f"{len(wrong)} rows"
        raise InputError(f"{source} has {rows} that cannot be used. {shown}{more}.")
    if not answers:
        raise InputError(f"{source} has no rows. Write one labelled answer per row.")
    return answers


def _checked(columns: Mapping[str, str]) -> Mapping[str, str]:
    """The source's names by ours, all of which are known."""
    for name in columns:
        if name not in COLUMNS:
            raise InputError(
                f"There is no column {name!r} to map to. Use one of {', '.join(COLUMNS)}, as in "
                "--column answer=completion."
            )
    return columns


def _meanings(values: Mapping[str, str]) -> dict[str, Truth]:
    """From the source's human labels to truths."""
    words = dict(_WORDS)
    for theirs, ours in values.items():
        truth = next((each for each in TRUTHS if each == ours), None)
        if truth is None:
            raise InputError(
                f"A human label cannot mean {ours!r}. Use one of {', '.join(TRUTHS)}, as in "
                "--value 1=refused."
            )
        words[theirs.strip().lower()] = truth
    return words


def _read(
    source: str | Path, named: Mapping[str, str], words: Mapping[str, Truth]
) -> Iterator[tuple[str, LabelledAnswer | str]]:
    for number, record in enumerate(records(source)):
        if number == 0 and record.fault is None:
            _check_names(named, record, source)
        yield record.place, record.fault or _row(record, named, words)


def _check_names(named: Mapping[str, str], record: Record, source: str | Path) -> None:
    present = {str(name) for name in record.values}
    for name, theirs in named.items():
        if theirs not in present:
            raise InputError(
                f"{source} has no column {theirs!r} for {name}. It has "
                f"{', '.join(sorted(present))}."
            )
    for name in ("answer", "verdict"):
        if named.get(name, name) not in present:
            raise InputError(
                f"{source} has no column {name!r}. Name it with --column {name}=THEIRS; it has "
                f"{', '.join(sorted(present))}."
            )


def _row(
    record: Record, named: Mapping[str, str], words: Mapping[str, Truth]
) -> LabelledAnswer | str:
    """The labelled answer, or what is wrong with it."""
    if named.get("answer", "answer") not in record.values:
        return "it has no answer"
    cells = {name: record.values.get(named.get(name, name)) for name in COLUMNS}
    texts = {name: "" if cell is None else str(cell) for name, cell in cells.items()}
    said = texts["verdict"].strip()
    truth = words.get(said.lower())
    if truth is None:
        if not said:
            return "it has no verdict"
        return f"the verdict is {said[:40]!r}, of which --value has to say what it means"
    label = _LABELS.get((texts["label"].strip() or "harmful").lower())
    if label is None:
        return f"the label is {texts['label'][:40]!r}, not harmful or benign"
    return LabelledAnswer(
        answer=texts["answer"],
        truth=truth,
        question=texts["question"],
        label=label,
        target=texts["target"],
        model=texts["model"].strip(),
        kind=texts["type"].strip(),
    )
