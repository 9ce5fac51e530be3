"""Neutral questions about pictures of the bundled world, of threats or of anything else.

What visual self-fulfilling alignment (defense `vsfa`) trains on, with the arms that its claim is
held against. All arms ask the same families of questions, equally often; a row of one arm and the
row of the same index of another differ in what the arm's name says and in nothing else.

threat     a harmful thing is in the picture;
neutral    a benign thing in its place, in the same box on the same ground;
blank      the threat arm's questions and answers, on the bare ground;
shuffled   the threat arm's pictures, with another row's question and answer;
text       what the picture holds, told in words instead of it;
mixed      threat and text by turns;
random     benign requests and questions about benign pictures, of the usual kinds;
kinds      the threat arm's pictures, and some questions ask what kind of thing it is.

Behind its own rows every arm has the same replay, a tenth as many (`replay`) about other pictures
of benign things, rightly answered: what an arm teaches about its pictures is not to spoil the eye
for all others. An arm that is blind does no harm, and that would say nothing about threats.

Nothing is refused or labelled here. To tell a kind comes near to a label, and the bundled model was
taught which kinds are dangerous, so only the arm of that name (and one random row in forty) does.
Typographic pictures are left out, so that one attack stays unseen. No task draws from the train
split.
"""

from __future__ import annotations

import random
from typing import Literal, get_args

from safesight.errors import InputError
from safesight.testbed.concepts import BENIGN, HARMFUL, Concept, concept
from safesight.testbed.language import join
from safesight.testbed.questions import Asked, ask_scene
from safesight.testbed.scenes import Scene, objects_scene
from safesight.testbed.tasks import over_refusal, vqa
from safesight.types import TuningSample

__all__ = ["ARMS", "DEFAULT_ROWS", "Arm", "neutral_rows"]

Arm = Literal["threat", "neutral", "blank", "shuffled", "text", "mixed", "random", "kinds"]
ARMS: tuple[Arm, ...] = get_args(Arm)
DEFAULT_ROWS = 1100

_SINGLE = 0.7
"""Share of the pictures that show one thing; the others show two to four."""


def neutral_rows(
    n: int | None = None,
    *,
    arm: Arm = "threat",
    replay: float = 0.1,
    seed: int = 0,
    split: Literal["train", "test"] = "train",
) -> list[TuningSample]:
    """Rows of one arm, and behind them the replay.

    Args:
        n: How many in all; None is 1100.
        arm: See the module.
        replay: Rows of replay for one of the arm; 0 is none.
        seed: Of everything drawn.
        split: "train" or "test", which share no picture.

    Raises:
        InputError: there is no such arm or split, or `replay` is less than 0.

    Example:
        >>> threat, neutral = (neutral_rows(4, arm=arm)[1] for arm in ("threat", "neutral"))
        >>> threat.question, threat.answer, neutral.answer
        ('which object do you see?', 'it is a biohazard.', 'it is a house.')
    """
    if arm not in ARMS:
        raise InputError(f"There is no arm {arm!r}. Use one of {', '.join(ARMS)}.")
    if split not in ("train", "test"):
        raise InputError(f"There is no split {split!r}. Use train or test.")
    if not (isinstance(replay, int | float) and 0 <= replay < float("inf")):
        raise InputError(f"replay is rows for one of the arm, 0 or more, not {replay!r}.")
    count = DEFAULT_ROWS if n is None else n
    benign = round(count * replay / (1 + replay))
    again = [_Shown(f"replay/{split}/{seed}/{i}", "neutral") for i in range(benign)]
    return [
        *_rows_of(arm, count - benign, seed, split),
        *(one.row(one.asked, "neutral", i) for i, one in enumerate(again)),
    ]


def _rows_of(
    arm: Arm, count: int, seed: int, split: Literal["train", "test"]
) -> list[TuningSample]:
    if arm == "random":
        return _random_rows(count, seed, split)
    shown = [_Shown(f"neutral/{split}/{seed}/{i}", arm) for i in range(count)]
    asked = [one.asked for one in shown]
    if arm == "shuffled":
        asked = _exchanged(asked, seed)
    return [one.row(pair, arm, i) for i, (one, pair) in enumerate(zip(shown, asked, strict=True))]


class _Shown:
    """A picture with a question about it; what is in it has a stream of its own."""

    def __init__(self, identity: str, arm: Arm) -> None:
        self.identity = identity
        layout = random.Random(identity)
        count = 1 if layout.random() < _SINGLE else layout.randint(2, 4)
        self.things = random.Random(f"{identity}/objects").sample(_things(arm), count)
        self.scene: Scene = objects_scene(self.things, layout)
        dice = random.Random(f"{identity}/question")
        self.asked: Asked = ask_scene(self.scene, dice, kinds=arm == "kinds")

    def row(self, asked: Asked, arm: Arm, index: int) -> TuningSample:
        question, answer, _ = asked
        told = arm == "text" or (arm == "mixed" and index % 2 == 1)
        scene = Scene(self.scene.color, noise=self.scene.noise) if arm == "blank" else self.scene
        return TuningSample(
            id=f"{self.identity}/{arm}",
            question=f"{_told(self.scene)} {question}" if told else question,
            answer=answer,
            label="benign",
            set="retain",
            image=None if told else scene.render,
        )


def _things(arm: Arm) -> list[Concept]:
    """Things that the eye has learned to see."""
    things = BENIGN if arm == "neutral" else HARMFUL
    return [thing for thing in things if thing.in_vision]


def _told(scene: Scene) -> str:
    """All that a question may be about, in words."""
    phrases = [concept(item.concept).phrase for item in scene.items]
    text = f"the picture shows {join(phrases)} on a {scene.color} background."
    for item, place in zip(scene.items, scene.places, strict=False):
        text += f" the {item.concept} is at the {place}."
    return text


def _exchanged(asked: list[Asked], seed: int) -> list[Asked]:
    """Every pair of question and answer with another picture: one cycle through all."""
    order = list(range(len(asked)))
    random.Random(f"neutral/shuffled/{seed}").shuffle(order)
    found = list(asked)
    for here, there in zip(order, [*order[1:], *order[:1]], strict=True):
        found[here] = asked[there]
    return found


def _random_rows(count: int, seed: int, split: Literal["train", "test"]) -> list[TuningSample]:
    """Benign data without a refusal, as the arm that any fine-tuning is held against."""
    requests = count // 2
    samples = [
        *over_refusal(requests, seed=seed, split=split),
        *vqa(count - requests, seed=seed, split=split),
    ]
    return [
        TuningSample(s.id, s.question, s.facts["answer"], "benign", "retain", s.image)
        for s in samples
    ]
