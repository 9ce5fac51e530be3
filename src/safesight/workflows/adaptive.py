"""Attack every arm of an evaluation as someone would who knows it, and ask about the results.

For the harmful requests with one picture, pictures are crafted by gradient: against each arm
(`TASK+pgd8`, adaptive), and against the undefended model alone (`TASK+transfer8`, the same for all
arms). `TASK+noise8` is a control: random changes of that size, aimed at nothing. Attacks in words
that know a defense (`Defense.attacks`), and as many tries as `best_of_n` has, are asked of all
arms. Pictures lie in the run's folder, so a stopped run resumes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from safesight import ranks, registry
from safesight.adversary import Budget, attacked, craft, refuse_without_gradient
from safesight.adversary.budget import EPSILONS
from safesight.adversary.crafted import CraftedFolder, request_key
from safesight.adversary.noise import noised
from safesight.adversary.passing import harmful_answers
from safesight.adversary.wanted import wanted_answers
from safesight.attacks.moves import check_budget
from safesight.compare.tries import REPEAT
from safesight.errors import InputError
from safesight.evals.active import active_arm
from safesight.grammar import UNDEFENDED, attack_name, load_attack, load_judge, task_parts
from safesight.judges.scope import judge_for
from safesight.types import Judge, Sample
from safesight.workflows.attacked_rows import ATTACKED, AttackedRows, attacked_rows, can_be_attacked

if TYPE_CHECKING:
    from safesight.generation.parts import Parts
    from safesight.hosting.arms import Arm
    from safesight.models import VLM

__all__ = ["EVERYONE", "Adaptive", "CraftedAttack", "add_attacks", "in_words"]

EVERYONE = ("best_of_n", REPEAT)
"""Attacks that every arm is asked under: many tries, and the plain request as often as any."""
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
        check_budget(self.tries, "best_of_n")
        sizes = {f"{epsilon:g}": epsilon for epsilon in self.epsilons}  # as tasks are named
        budgets = [Budget(epsilon, self.steps) for epsilon in sizes.values()]
        object.__setattr__(self, "budgets", budgets)

    def check(self, vlm: VLM) -> None:
        """Refuse what can be refused before anything is fitted.

        Raises:
            InputError: several processes share the run, or the model has no gradient.
        """
        if ranks.place().count > 1:
            raise InputError(
                "Adaptive attacks are crafted in one process. Run the evaluation with --adaptive "
                "without a launcher."
            )
        refuse_without_gradient(vlm, [])


@dataclass(frozen=True)
class CraftedAttack:
    """An attack of this process: a request with the picture that was crafted for the arm asked."""

    name: str
    folders: Mapping[str, CraftedFolder] = field(repr=False)
    """By arm; `none` stands for arms that are not named."""
    searched: bool = False
    """Whether each arm has a search of its own. One that has none spends none."""

    def __call__(self, sample: Sample) -> Sample:
        """The attacked sample.

        Raises:
            InputError: no picture was crafted for it.
        """
        arm = active_arm() or UNDEFENDED
        found = self.folders.get(arm, self.folders[UNDEFENDED]).attacked(sample, self.name)
        if arm in self.folders or not self.searched:
            return found
        spent = {name: found.facts["budget"][name] for name in ("queries", "epsilon")}
        return replace(found, facts={**found.facts, "budget": spent})


def add_attacks(
    vlm: VLM,
    arms: Sequence[Arm],
    tasks: Mapping[str, Sequence[Sample]],
    adaptive: Adaptive,
    folder: Path,
    *,
    judge: str | None = None,
) -> tuple[list[str], list[str]]:
    """Craft what is missing, and let names of tasks stand for it.

    Args:
        vlm: The model, undefended.
        arms: The arms of the run.
        tasks: The samples of every task; only those of harmful requests are attacked. Of a task
            that holds others as well, they become a task of their own.
        adaptive: Sizes, steps, seed.
        folder: Where crafted pictures are kept.
        judge: The judge that the run was told to use; None for each task's own.

    Returns:
        The tasks to ask beside those of the run, and remarks on what was done.

    Raises:
        InputError: no task has harmful requests with one picture each, the model has no gradient,
            or two tasks would have one name.
    """
    remarks: list[str] = []
    apart = dict(_apart(tasks, remarks))
    tasks = {**tasks, **apart}
    pictured = {name: some for name, some in tasks.items() if can_be_attacked(some)}
    _check(pictured, tasks)
    worded = in_words(arms, tasks, adaptive.tries, remarks)
    remarks += _retrained(arms)
    crafts = _Crafts(vlm, pictured, adaptive, folder, judge)
    open_arms = list(_differentiable(vlm, arms, remarks))
    added = [*apart]
    for budget in adaptive.budgets:
        own = {arm.name: crafts.against(arm, budget) for arm in open_arms}
        kinds = {
            "pgd": ("Pixels changed by gradient against the arm that is asked.", own),
            "transfer": ("The same against the undefended model.", {UNDEFENDED: own[UNDEFENDED]}),
            "noise": ("Pixels changed at random.", {UNDEFENDED: crafts.noise(budget)}),
        }
        for kind, (said, folders) in kinds.items():
            name = f"{kind}{budget.epsilon:g}"
            attack = CraftedAttack(name, folders, searched=kind == "pgd")
            registry.add("attack", name, lambda attack=attack: attack, said)
            added += [f"{task}+{name}" for task in pictured]
    return [*added, *worded], remarks


def _apart(
    tasks: Mapping[str, Sequence[Sample]], remarks: list[str]
) -> Iterator[tuple[str, list[Sample]]]:
    """The rows to attack, of each task that has others as well, as a task of this process."""
    for task, samples in tasks.items():
        benchmark, attacks = task_parts(task)
        rows = attacked_rows(samples)
        if attacks or not rows or len(rows) == len(samples):
            continue
        name = f"{benchmark}{ATTACKED}"
        if name in tasks:
            raise InputError(
                f"The rows of {benchmark} to attack would be the task {name}, which is there "
                "already. Rename one of the two files."
            )
        about = f"The rows of {benchmark} that are harmful requests with one picture."
        registry.add("benchmark", name, AttackedRows(benchmark), about, part_of=benchmark)
        remarks.append(
            f"{len(rows)} of {len(samples)} rows of {benchmark} are harmful requests with one "
            f"picture, which is what is attacked: the task {name}."
        )
        yield name, rows


def _check(pictured: Mapping[str, object], tasks: Mapping[str, object]) -> None:
    if not pictured:
        raise InputError(
            f"None of the tasks {', '.join(tasks)} has harmful requests with one picture each, "
            "which adaptive attacks change. Add one that has, such as image_harm."
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


def _retrained(arms: Sequence[Arm]) -> Iterator[str]:
    """What none of these attacks does: train the weights again."""
    for arm in arms:
        if any(defense.kind == "weights" for defense, _ in arm.defenses) and "~" not in arm.name:
            yield (
                f"Anyone who holds the weights of {arm.name} can also train them again, which no "
                f"changed request shows. Add the arm {arm.name}~relearn_harmful to see what that "
                "brings back."
            )


@dataclass(frozen=True)
class _Crafts:
    """Crafts what is missing, into a folder for each arm and budget."""

    vlm: VLM
    tasks: Mapping[str, Sequence[Sample]]
    adaptive: Adaptive
    folder: Path
    judge: str | None = None
    _answers: dict[str, dict[str, list[int]]] = field(default_factory=lambda: defaultdict(dict))

    @property
    def samples(self) -> list[Sample]:
        """All of them."""
        return [sample for samples in self.tasks.values() for sample in samples]

    def against(self, arm: Arm, budget: Budget) -> CraftedFolder:
        """The pictures that were crafted against an arm."""
        about = {"arm": arm.name, "identity": arm.identity, "seed": self.adaptive.seed}
        if self.judge is not None:  # it says which answers are wanted
            about["judge"] = self.judge
        found = CraftedFolder.at(self.folder / arm.name, about, budget)
        missing = found.missing(self.samples)
        if missing:
            parts = _parts(self.vlm, arm)
            answers = self._wanted(missing, parts, arm.name)
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

    def _wanted(
        self, samples: Sequence[Sample], parts: Sequence[Parts], arm: str
    ) -> list[list[int]]:
        """The answer to want to each: where a defense judges answers, one that it lets pass.

        That one is drawn, and a draw depends on what else is in its batch. So all requests are
        asked then, whichever are missing: a resumed run wants what a run in one go does.
        """
        judging = any(part.answers is not None for part in parts)
        known = self._answers[arm if judging else UNDEFENDED]
        for name, some in self._by_judge(self.samples if judging else samples).items():
            new = {key: sample for key, sample in some.items() if key not in known}
            if new:
                tokens = self._asked([*new.values()], load_judge(name), parts if judging else ())
                known.update(zip(new, tokens, strict=True))
        return [known[request_key(sample)] for sample in samples]

    def _asked(
        self, samples: Sequence[Sample], judge: Judge, parts: Sequence[Parts]
    ) -> list[list[int]]:
        if not parts:
            return wanted_answers(self.vlm, samples, judge, progress=True)
        seed = self.adaptive.seed
        found = harmful_answers(self.vlm, samples, judge, parts, seed=seed, progress=True)
        return [list(answers[0].tokens) for answers in found]

    def _by_judge(self, samples: Sequence[Sample]) -> dict[str, dict[str, Sample]]:
        """The requests by the judge who says whether an answer is the harm that is wanted."""
        wanted = {request_key(sample): sample for sample in samples}
        found: dict[str, dict[str, Sample]] = defaultdict(dict)
        for task, some in self.tasks.items():
            judge = judge_for(self.vlm.name, task, self.judge)
            keys = map(request_key, some)
            found[judge].update((key, wanted[key]) for key in keys if key in wanted)
        return found


def in_words(
    arms: Sequence[Arm],
    tasks: Mapping[str, Sequence[Sample]],
    tries: int = TRIES,
    remarks: list[str] | None = None,
) -> list[str]:
    """Every task of harmful requests under every attack in words that applies to it.

    Args:
        arms: Their defenses say which attacks know them (`Defense.attacks`).
        tasks: The samples of each task.
        tries: Of `best_of_n`.
        remarks: Gets a sentence on every attack that is left out.
    """
    said = [] if remarks is None else remarks
    defenses = [defense for arm in arms for defense, _ in arm.defenses]
    names = [name for defense in defenses for name in defense.attacks]
    most = max([tries, *(getattr(load_attack(name)[0], "shots", None) or 1 for name in names)])
    counts = {name: most if name == REPEAT else tries for name in EVERYONE}
    everyone = [name if n == TRIES else f"{name}:shots={n}" for name, n in counts.items()]
    # What rewrites or asks again needs a question, not the beginning of an answer.
    begun = all(defense.kind not in ("input", "pipeline") for defense in defenses)
    found = []
    for task, samples in tasks.items():
        if not _are_harmful(samples):
            continue
        under = [attack_name(each) for each in task_parts(task)[1]]
        for name in dict.fromkeys([*names, *everyone]):
            if attack_name(name) in under:
                continue  # it is asked so already
            fault = _fault(name, samples, begun=begun)
            if fault is None:
                found.append(f"{task}+{name}")
            else:
                said.append(f"{task} is not asked under {name}: {fault}")
    return found


def _fault(name: str, samples: Sequence[Sample], *, begun: bool) -> str | None:
    """Why an attack cannot be made on these samples: one that moves a picture may need another.

    Args:
        name: The attack.
        samples: The requests.
        begun: Whether every arm can continue the beginning of an answer.
    """
    attack, _ = load_attack(name)
    try:
        if any(attack(sample).prefill is not None for sample in samples) and not begun:
            return "an arm asks for a whole answer, and cannot continue one."
    except InputError as error:
        return str(error)
    return None
