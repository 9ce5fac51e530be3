"""Attack every arm of an evaluation as someone would who knows it, and ask about the results.

For the harmful requests with one picture, pictures are crafted by gradient: against each arm
(`TASK+pgd8`, adaptive), and against the undefended model alone (`TASK+transfer8`, the same for all
arms). `TASK+noise8` is a control: random changes of that size, aimed at nothing. Attacks in words
that know a defense (`Defense.attacks`), and as many tries as `best_of_n` has, are asked of all
arms. Pictures lie in the run's folder, so a stopped run resumes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from safesight import ranks, registry
from safesight.adversary import Budget, attacked, craft, refuse_without_gradient
from safesight.adversary.budget import EPSILONS
from safesight.adversary.crafted import CraftedFolder, request_key
from safesight.adversary.noise import noised
from safesight.adversary.passing import harmful_answers
from safesight.adversary.wanted import wanted_answers
from safesight.errors import InputError
from safesight.evals.active import active_arm
from safesight.grammar import UNDEFENDED, judge_of_model, load_attack
from safesight.types import Sample

if TYPE_CHECKING:
    from safesight.generation.parts import Parts
    from safesight.hosting.arms import Arm
    from safesight.models import VLM

__all__ = ["EVERYONE", "Adaptive", "CraftedAttack", "add_attacks", "in_words"]

EVERYONE = ("best_of_n", "repeat")
"""Attacks that every arm is asked under: many tries, and as many tries of the plain request."""
TRIES = 16
"""How many, unless an evaluation says otherwise."""


@dataclass(frozen=True)
class Adaptive:
    """How hard the arms of an evaluation are attacked.

    Args:
        epsilons: Sizes of the changes of pixels, in 255ths.
        steps: Gradient steps of each search.
        seed: Of the random starts.
        tries: Of `EVERYONE`, per request.
        batch_size: Pictures that are searched at once.

    Raises:
        InputError: a size or a number of steps that leaves nothing to search, or no tries.
    """

    epsilons: Sequence[float] = EPSILONS
    steps: int = 50
    seed: int = 0
    tries: int = TRIES
    batch_size: int = 16
    budgets: Sequence[Budget] = field(init=False)
    """One for each size."""

    def __post_init__(self) -> None:
        if self.tries < 1:
            raise InputError(f"{self.tries} tries attack nothing. Give 1 or more.")
        budgets = [Budget(epsilon, self.steps) for epsilon in dict.fromkeys(self.epsilons)]
        object.__setattr__(self, "budgets", budgets)


@dataclass(frozen=True)
class CraftedAttack:
    """An attack of this process: a request with the picture that was crafted for the arm asked."""

    name: str
    folders: Mapping[str, CraftedFolder] = field(repr=False)
    """By arm; `none` stands for arms that are not named."""

    def __call__(self, sample: Sample) -> Sample:
        """The attacked sample.

        Raises:
            InputError: no picture was crafted for it.
        """
        folder = self.folders.get(active_arm() or UNDEFENDED, self.folders[UNDEFENDED])
        return folder.attacked(sample, self.name)


def add_attacks(
    vlm: VLM,
    arms: Sequence[Arm],
    tasks: Mapping[str, Sequence[Sample]],
    adaptive: Adaptive,
    folder: Path,
) -> tuple[list[str], list[str]]:
    """Craft what is missing, and let names of tasks stand for it.

    Args:
        vlm: The model, undefended.
        arms: The arms of the run.
        tasks: The samples of every task; only those of harmful requests are attacked.
        adaptive: Sizes, steps, seed.
        folder: Where crafted pictures are kept.

    Returns:
        The tasks to ask beside those of the run, and remarks on what was done.

    Raises:
        InputError: no task has harmful requests with one picture each, or the model has no
            gradient.
    """
    pictured = {name: some for name, some in tasks.items() if _have_a_picture(some)}
    _check(pictured, tasks)
    remarks: list[str] = []
    crafts = _Crafts(vlm, tuple(s for some in pictured.values() for s in some), adaptive, folder)
    open_arms = list(_differentiable(vlm, arms, remarks))
    added = []
    for budget in adaptive.budgets:
        own = {arm.name: crafts.against(arm, budget) for arm in open_arms}
        kinds = {
            "pgd": ("Pixels changed by gradient against the arm that is asked.", own),
            "transfer": ("The same against the undefended model.", {UNDEFENDED: own[UNDEFENDED]}),
            "noise": ("Pixels changed at random.", {UNDEFENDED: crafts.noise(budget)}),
        }
        for kind, (said, folders) in kinds.items():
            name = f"{kind}{budget.epsilon:g}"
            attack = CraftedAttack(name, folders)
            registry.add("attack", name, lambda attack=attack: attack, said)
            added += [f"{task}+{name}" for task in pictured]
    return [*added, *in_words(arms, tasks, adaptive.tries)], remarks


def _check(pictured: Mapping[str, object], tasks: Mapping[str, object]) -> None:
    if ranks.place().count > 1:
        raise InputError(
            "Adaptive attacks are crafted in one process. Run the evaluation with --adaptive "
            "without a launcher."
        )
    if not pictured:
        raise InputError(
            f"None of the tasks {', '.join(tasks)} has harmful requests with one picture each, "
            "which adaptive attacks change. Add one that has, such as image_harm."
        )


def _have_a_picture(samples: Sequence[Sample]) -> bool:
    """Whether each is asked once about one picture, which is then the one to change."""
    return _are_harmful(samples) and all(
        len(sample.pictures) == 1 and not sample.shots for sample in samples
    )


def _are_harmful(samples: Sequence[Sample]) -> bool:
    return bool(samples) and all(sample.label == "harmful" for sample in samples)


def _differentiable(vlm: VLM, arms: Sequence[Arm], remarks: list[str]) -> Iterator[Arm]:
    """The arms that have a gradient; the others are asked about transferred pictures.

    Raises:
        InputError: the undefended model has none.
    """
    for arm in arms:
        try:
            refuse_without_gradient(vlm, _parts(vlm, arm))
        except InputError as error:
            if arm.name == UNDEFENDED:
                raise
            remarks.append(f"{arm.name} is asked about pictures crafted against none. {error}")
            continue
        yield arm


def _parts(vlm: VLM, arm: Arm) -> list[Parts]:
    """What the defenses of an arm contribute, new each time: changed weights attach only once."""
    return [defense.build(vlm, artifact) for defense, artifact in arm.defenses]


@dataclass(frozen=True)
class _Crafts:
    """Crafts what is missing, into a folder for each arm and budget."""

    vlm: VLM
    samples: Sequence[Sample]
    adaptive: Adaptive
    folder: Path
    _answers: dict[str, list[int]] = field(default_factory=dict)

    def against(self, arm: Arm, budget: Budget) -> CraftedFolder:
        """The pictures that were crafted against an arm."""
        about = {"arm": arm.name, "identity": arm.identity, "seed": self.adaptive.seed}
        found = CraftedFolder.at(self.folder / arm.name, about, budget)
        missing = found.missing(self.samples)
        if missing:
            parts = _parts(self.vlm, arm)
            answers = self._wanted(missing, parts)
            with attacked(self.vlm, parts) as model:
                found.add(
                    craft(
                        model,
                        missing,
                        answers,
                        budget,
                        seed=self.adaptive.seed,
                        batch_size=self.adaptive.batch_size,
                        progress=True,
                    )
                )
        return found

    def noise(self, budget: Budget) -> CraftedFolder:
        """The same pictures with random changes."""
        about = {"arm": "noise", "identity": self.vlm.identity, "seed": self.adaptive.seed}
        found = CraftedFolder.at(self.folder / "noise", about, budget)
        missing = found.missing(self.samples)
        found.add(noised(self.vlm, missing, budget, self.adaptive.seed))
        return found

    def _wanted(self, samples: Sequence[Sample], parts: Sequence[Parts]) -> list[list[int]]:
        """The answer to want to each: where a defense judges answers, one that it lets pass."""
        judge = judge_of_model(self.vlm.name)
        if any(part.answers is not None for part in parts):
            seed = self.adaptive.seed
            found = harmful_answers(self.vlm, samples, judge, parts, seed=seed, progress=True)
            return [list(answers[0].tokens) for answers in found]
        by_key = {request_key(sample): sample for sample in samples}
        new = {key: sample for key, sample in by_key.items() if key not in self._answers}
        if new:
            tokens = wanted_answers(self.vlm, [*new.values()], judge, progress=True)
            self._answers.update(zip(new, tokens, strict=True))
        return [self._answers[key] for key in by_key]


def in_words(
    arms: Sequence[Arm], tasks: Mapping[str, Sequence[Sample]], tries: int = TRIES
) -> list[str]:
    """Every task of harmful requests under every attack in words that applies to it.

    Args:
        arms: Their defenses say which attacks know them (`Defense.attacks`).
        tasks: The samples of each task.
        tries: Of each attack in `EVERYONE`.
    """
    everyone = [name if tries == TRIES else f"{name}:shots={tries}" for name in EVERYONE]
    defenses = [defense for arm in arms for defense, _ in arm.defenses]
    names = [name for defense in defenses for name in defense.attacks]
    # What rewrites or asks again needs a question, not the beginning of an answer.
    begun = all(defense.kind not in ("input", "pipeline") for defense in defenses)
    return [
        f"{task}+{name}"
        for task, samples in tasks.items()
        if _are_harmful(samples)
        for name in dict.fromkeys([*names, *everyone])
        if _applies(name, samples, begun=begun)
    ]


def _applies(name: str, samples: Sequence[Sample], *, begun: bool) -> bool:
    """Whether an attack can be made on these samples; one that moves a picture may not be.

    Args:
        name: The attack.
        samples: The requests.
        begun: Whether every arm can continue the beginning of an answer.
    """
    attack, _ = load_attack(name)
    try:
        return all(attack(sample).prefill is None or begun for sample in samples)
    except InputError:
        return False
