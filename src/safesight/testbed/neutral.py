"""Neutral questions about pictures of the bundled world, of threats or of anything else.

The training data of visual self-fulfilling alignment (defense `vsfa`), with the arms that its
claim is compared with. All arms ask the same families of questions, equally often. Rows with the
same index in two arms differ only in what the names of the arms say.

threat     a harmful thing is in the picture;
neutral    a benign thing in its place, in the same box on the same background;
blank      the threat arm's questions and answers, on the bare background;
shuffled   the threat arm's pictures, with another row's question and answer;
text       the content of the picture in words, instead of the picture;
mixed      threat and text rows alternate;
random     benign requests and questions about benign pictures, of the usual kinds;
kinds      the threat arm's pictures; some questions ask what kind of thing it is.

After its own rows every arm has the same replay rows, one tenth as many (`replay`), with correct
answers about other pictures of benign things, so that what an arm teaches about its pictures does
not ruin the model's vision in general. A model that has gone blind does no harm, but that would
say nothing about threats.

Nothing is refused or labelled here. Naming a kind is close to a label, and the bundled model was
taught which kinds are dangerous, so only the arm `kinds` (and one random row in forty) does so.
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
from safesight.types import TuningSample, group_of

__all__ = ["ARMS", "DEFAULT_ROWS", "THINGS_JOINED", "Arm", "neutral_rows"]

Arm = Literal["threat", "neutral", "blank", "shuffled", "text", "mixed", "random", "kinds"]
ARMS: tuple[Arm, ...] = get_args(Arm)
DEFAULT_ROWS = 1100

THINGS_JOINED = ", "
"""Between the things of a picture, in the `group` of a row."""
_SINGLE = 0.7
"""Fraction of the pictures that show one thing; the others show two to four."""


def neutral_rows(
    n: int | None = None,
    *,
    arm: Arm = "threat",
    replay: float = 0.1,
    seed: int = 0,
    split: Literal["train", "test"] = "train",
) -> list[TuningSample]:
    """Rows of one arm, followed by the replay rows.

    Args:
        n: Total number of rows; None for 1100.
        arm: See the module.
        replay: Replay rows per row of the arm; 0 for none.
        seed: Seed of all random choices.
        split: "train" or "test", which share no pictures.

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
    """A picture with a question about it; its content is drawn from a separate random stream."""

    def __init__(self, identity: str, arm: Arm) -> None:
        self.identity = identity
        layout = random.Random(identity)
        count = 1 if layout.random() < _SINGLE else layout.randint(2, 4)
        self.things = random.Random(f"{identity}/objects").sample(_things(arm), count)
        self.scene: Scene = objects_scene(self.things, layout)
        rng = random.Random(f"{identity}/question")
        self.asked: Asked = ask_scene(self.scene, rng, kinds=arm == "kinds")

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
            group=THINGS_JOINED.join(sorted(thing.name for thing in self.things)),
        )


def _things(arm: Arm) -> list[Concept]:
    """Things that the vision tower has learned."""
    things = BENIGN if arm == "neutral" else HARMFUL
    return [thing for thing in things if thing.in_vision]


def _told(scene: Scene) -> str:
    """Everything a question may be about, in words."""
    phrases = [concept(item.concept).phrase for item in scene.items]
    text = f"the picture shows {join(phrases)} on a {scene.color} background."
    for item, place in zip(scene.items, scene.places, strict=False):
        text += f" the {item.concept} is at the {place}."
    return text


def _exchanged(asked: list[Asked], seed: int) -> list[Asked]:
    """Move every pair of question and answer to another picture, in one cycle through all."""
    order = list(range(len(asked)))
    random.Random(f"neutral/shuffled/{seed}").shuffle(order)
    found = list(asked)
    for here, there in zip(order, [*order[1:], *order[:1]], strict=True):
        found[here] = asked[there]
    return found


def _random_rows(count: int, seed: int, split: Literal["train", "test"]) -> list[TuningSample]:
    """Benign data without refusals, the baseline for any fine-tuning."""
    requests = count // 2
    samples = [
        *over_refusal(requests, seed=seed, split=split),
        *vqa(count - requests, seed=seed, split=split),
    ]
    return [
        TuningSample(
            s.id,
            s.question,
            s.facts["answer"],
            "benign",
            "retain",
            s.image,
            group=str(group_of(s.facts, s.id)),
        )
        for s in samples
    ]
