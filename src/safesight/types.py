"""The shared types: samples, training rows, messages, verdicts and judges.

Nothing here imports torch. Pictures are PIL images, rendered only on demand, so a data set of
any size needs only the memory of its descriptions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = [
    "GRADED",
    "LETTER",
    "VERDICTS",
    "YES_NO",
    "Judge",
    "Label",
    "Message",
    "Messages",
    "Reading",
    "Sample",
    "TuningSample",
    "TuningSet",
    "Verdict",
    "begins_answer",
    "group_of",
    "pixels_of",
]

Message = dict[str, Any]
"""One chat turn as `transformers` chat templates expect it:
`{"role": "user", "content": [{"type": "image", "image": PIL}, {"type": "text", "text": str}]}`."""

Messages = Sequence[Message]

Label = Literal["harmful", "benign"]
"""The label of a *request*. Answers get a `Verdict`."""

Verdict = Literal["refused", "harmful", "harmless", "invalid"]
"""The verdict on an *answer*. `harmless` answers neither refuse nor do harm (off-topic ones
included); `invalid` answers cannot be judged and never count as safe."""

TuningSet = Literal["forget", "retain"]
"""What training should do with a row: unlearn it, or preserve it."""

VERDICTS: tuple[Verdict, ...] = get_args(Verdict)

LETTER, YES_NO, GRADED = "letter", "yes_no", "graded"
"""How a right answer is told, as `facts["answer"]` says it: by the letter of a choice (`target`,
with `facts["choices"]`), by a yes or no at the beginning, or only by a judge that grades, whose
readings say `correct` in their details."""


@dataclass(frozen=True)
class Sample:
    """One item of a benchmark: a conversation, and what a right answer to it names.

    Example:
        >>> sample = Sample(id="t-0", question="how do i make a cake?", label="benign",
        ...                 target="cake")
        >>> sample.messages()
        [{'role': 'user', 'content': [{'type': 'text', 'text': 'how do i make a cake?'}]}]
    """

    id: str
    """Stable and unique within its benchmark; pairs the same sample across defenses."""
    question: str
    label: Label
    target: str
    """What a right answer names: the object of a request, or the answer of a picture question."""
    image: Callable[[], Image] | None = None
    """Renders the picture; called each time the picture is needed."""
    system: str | None = None
    attack: str | None = None
    """Name of the attack that made this sample, or None for a plain request."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Further information for judges and reports; JSON values only."""
    shots: tuple[str, ...] = ()
    """Rewordings of the same request, beginning with `question`. Each is asked alone, and the
    attack succeeds if one of them does; empty for a request asked once."""
    shot_pictures: tuple[tuple[Callable[[], Image], ...], ...] = ()
    """The pictures of each shot, for an attack that changes them as well, beginning with
    `pictures`; empty if all shots are asked about the same ones."""
    prefill: str | None = None
    """Words the answer is forced to begin with; only what the model writes after them is judged."""
    further_images: tuple[Callable[[], Image], ...] = ()
    """Pictures after the first."""
    turns: tuple[Message, ...] = ()
    """The whole conversation if it is more than one question, with `{"type": "image"}` where a
    picture belongs; its last turn is the user's and holds `question`. Pictures without such a place
    stand before the text of the last turn."""

    @property
    def pictures(self) -> tuple[Callable[[], Image], ...]:
        """What renders each picture, in order."""
        return () if self.image is None else (self.image, *self.further_images)

    def reworded(self, question: str) -> Sample:
        """The same sample with another question; earlier turns and pictures stay.

        Example:
            >>> Sample(id="1", question="a?", label="benign", target="").reworded("b?").question
            'b?'
        """
        if not self.turns:
            return replace(self, question=question)
        # Pictures of the last turn lose their places, and stand before its text.
        return replace(self, question=question, turns=(*self.turns[:-1], _asked(question)))

    def tries(self) -> tuple[Sample, ...]:
        """Every shot as a sample of its own, with the same id; the sample itself if it has none.

        A shot with the words of `question` is the same conversation, pictures in their places.

        Example:
            >>> sample = Sample("1", "a?", "harmful", "", shots=("a?", "b?"))
            >>> [each.question for each in sample.tries()]
            ['a?', 'b?']
        """
        if not self.shots:
            return (self,)
        shown = self.shot_pictures or (self.pictures,) * len(self.shots)
        plain = replace(self, shots=(), shot_pictures=())
        return tuple(
            replace(
                plain if question == self.question else plain.reworded(question),
                image=pictures[0] if pictures else None,
                further_images=pictures[1:],
            )
            for question, pictures in zip(self.shots, shown, strict=True)
        )

    def without_pictures(self) -> Sample:
        """The same conversation in text alone."""
        turns = tuple(
            {**turn, "content": [part for part in turn["content"] if part["type"] == "text"]}
            for turn in self.turns
        )
        return replace(self, image=None, further_images=(), shot_pictures=(), turns=turns)

    def messages(self) -> list[Message]:
        """The conversation, with all pictures rendered; by default, pictures before text."""
        shown = iter([{"type": "image", "image": picture()} for picture in self.pictures])
        turns: list[Message] = []
        if self.system is not None:
            turns.append({"role": "system", "content": [{"type": "text", "text": self.system}]})
        for turn in self.turns or (_asked(self.question),):
            parts = [next(shown) if part["type"] == "image" else part for part in turn["content"]]
            turns.append({"role": turn["role"], "content": parts})
        turns[-1]["content"] = [*shown, *turns[-1]["content"]]
        if self.prefill is not None:
            begun = [{"type": "text", "text": self.prefill}]
            turns.append({"role": "assistant", "content": begun})
        return turns


def _asked(question: str) -> Message:
    return {"role": "user", "content": [{"type": "text", "text": question}]}


@dataclass(frozen=True)
class TuningSample:
    """One row to train on: a question with its answer.

    Example:
        >>> TuningSample("1", "what is this?", "a cup.", "benign", "retain").picture() is None
        True
    """

    id: str
    """Stable and unique within its set."""
    question: str
    answer: str
    """The model's answer: harmful in a forget row, good in a retain row; empty if the set has
    none."""
    label: Label
    """The label of the request."""
    set: TuningSet
    """Whether to unlearn the row or preserve it."""
    image: Callable[[], Image] | None = None
    """Renders the picture; called each time the picture is needed."""
    refusal: str | None = None
    """The refusal for this question, for methods that teach refusals; None lets them choose."""
    group: str | None = None
    """What it is about, if that is known, so that statistics can keep such rows together."""
    whole: bool = True
    """Whether the answer is whole. Of one that was cut off, the end is not taught."""

    def picture(self) -> Image | None:
        """The picture, rendered."""
        return None if self.image is None else self.image()

    def messages(self) -> list[Message]:
        """The question as a conversation, with the picture rendered, image before text."""
        picture = self.picture()
        shown = [] if picture is None else [{"type": "image", "image": picture}]
        return [{"role": "user", "content": [*shown, {"type": "text", "text": self.question}]}]

    @cached_property
    def digest(self) -> str:
        """Hex hash of what the model is shown: the question and the pixels."""
        found = hashlib.sha256(self.question.strip().encode())
        picture = self.picture()
        if picture is not None:
            found.update(pixels_of(picture))
        return found.hexdigest()


def pixels_of(picture: Image) -> bytes:
    """What tells a picture from others, for a hash: not an encoded file, which codecs change.

    Example:
        >>> from PIL import Image
        >>> pixels_of(Image.new("L", (2, 1), "white")).startswith(b"L(2, 1)")
        True
    """
    return f"{picture.mode}{picture.size}".encode() + picture.tobytes()


def group_of(facts: Mapping[str, Any], own: Hashable = None) -> Hashable:
    """What a sample is about, so that statistics can keep samples about the same thing together.

    Args:
        facts: The sample's facts. `facts["group"]` counts, else `facts["concept"]`, the thing.
        own: What to return if the facts hold neither: what stands for the sample itself.

    Example:
        >>> group_of({"concept": "axe"}), group_of({"group": 7, "concept": "axe"})
        ('axe', '7')
    """
    named = (facts.get(key) for key in ("group", "concept"))
    return next((str(name) for name in named if name is not None), own)


def begins_answer(messages: Messages) -> bool:
    """Whether the last turn of a conversation is the start of an answer, to be continued.

    Example:
        >>> begins_answer([{"role": "user", "content": "a cake?"},
        ...                {"role": "assistant", "content": "Sure,"}])
        True
    """
    last = messages[-1] if isinstance(messages, Sequence) and messages else None
    return isinstance(last, Mapping) and last.get("role") == "assistant"


@dataclass(frozen=True)
class Reading:
    """What a judge finds in one answer: a verdict, and what led to it.

    Example:
        >>> Reading("invalid", {"failure": "timeout"}).verdict
        'invalid'
    """

    verdict: Verdict
    details: Mapping[str, Any] = field(default_factory=dict)
    """Kept in the log beside the verdict; JSON values only. `members` holds the verdicts of the
    judges of a panel, by name; `failure` says why an answer could not be graded."""


class Judge(Protocol):
    """Turns an answer into a verdict. Has a name and a version, so that results can cite it.

    It may also have two more methods:

    * `broken(answer, sample)`: whether the answer is broken text, or None if it cannot tell.
      Without it, `safesight.judges.broken` decides;
    * `async readings(pairs)`: a `Reading` of each pair of answer and sample, in order, for a judge
      that reads many answers at once, waits for another model, or has more to say than a verdict.
    """

    name: str
    version: str

    def __call__(self, answer: str, sample: Sample) -> Verdict:
        """The verdict on one answer to one sample."""
        ...

    def correct(self, answer: str, sample: Sample) -> bool:
        """Whether an answer to a utility question is right."""
        ...

    def caveat(self, model: str, sample: Sample) -> str | None:
        """A sentence on what the verdicts on this model's answers to such samples do not show.

        Every scorecard, headline and report that uses them carries it. None if they mean what
        they say.
        """
        ...
