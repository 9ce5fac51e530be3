"""A whole evaluation: answers of every arm to every task, overhead, and the scorecard.

The commands `eval` and `demo` parse and print; this does the work in between. A stopped run
resumes where it stopped. Of several processes each answers its part; the first one goes on alone.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from safesight import ranks, registry
from safesight.benchmarks import draw_samples, published_as
from safesight.console import stderr, waiting
from safesight.data.counts import counted
from safesight.errors import InputError
from safesight.extras import need
from safesight.files import check_place
from safesight.fitting.facts import Facts, told
from safesight.grammar import ANY_MODEL, check_arm, check_task, task_parts
from safesight.hosting.settings import check_temperature
from safesight.judges.scope import common_judge, judge_for
from safesight.workflows.engines import Engine, identity_with
from safesight.workflows.overhead import measured_overhead
from safesight.workflows.own_data import OwnData, add_tasks, leave_out_seen, sources_of, tasks_with
from safesight.workflows.remarks import drawn, remarks_on

if TYPE_CHECKING:
    from safesight.compare import Scorecard
    from safesight.defenses import AnyDefense
    from safesight.hosting.arms import Arm
    from safesight.models import VLM
    from safesight.types import Sample
    from safesight.workflows.adaptive import Adaptive
    from safesight.workflows.artifacts import FitOn

__all__ = [
    "ALL_TASKS",
    "Engine",
    "Evaluation",
    "arms_of",
    "bundled_defenses",
    "demo_defenses",
    "evaluate",
    "run",
]

ALL_TASKS = (
    "text_harm",
    "image_harm",
    "typographic_harm",
    "over_refusal",
    "sensitive_benign",
    "vqa",
)

_RISK_MAPS = 3
"""Pictures per task to draw a risk map of."""


@dataclass(frozen=True)
class Evaluation:
    """The settings of an evaluation; see `safesight eval --help`."""

    model: str
    arms: Sequence[str]
    """What to compare; see `arms_of`."""
    tasks: Sequence[str]
    """Registered benchmarks, beside the files in `own`."""
    log_dir: Path
    limit: int | None = None
    only: Facts = field(default_factory=dict)
    """Facts of the samples to keep of those drawn; all are kept without one."""
    judge: str | None = None
    """A registered judge; None for the one that knows most about each task."""
    seed: int = 0
    temperature: float = 0.0
    """0 for greedy answers."""
    max_tokens: int | None = None
    """The longest answer; None for the benchmark's, else the checkpoint's, else 256."""
    batch_size: int | None = None
    artifacts: Sequence[Path] = ()
    fit_on: FitOn | None = None
    """See `fit_missing`."""
    asked: Sequence[str] | None = None
    """The arms that must run; others are left out if they cannot. None for all."""
    overhead_inputs: int = 24
    """Benign inputs, and as many harmful ones, to time overhead on; 0 skips it."""
    model_args: dict[str, Any] = field(default_factory=dict)
    own: OwnData = field(default_factory=OwnData)
    engine: Engine = field(default_factory=Engine)
    adaptive: Adaptive | None = None
    """How hard to attack every arm; None for no attacks but those of the tasks."""


def arms_of(defenses: Sequence[str]) -> list[str]:
    """The arms of a run: the undefended model first, a control arm before what it controls.

    Example:
        >>> arms_of(["sasa", "adashield"])
        ['none', 'probe', 'sasa', 'adashield']
        >>> arms_of(["safety_prompt+sasa"])
        ['none', 'safety_prompt+probe', 'safety_prompt+sasa']
    """
    from safesight.compare import control_of
    from safesight.grammar import UNDEFENDED

    arms: list[str] = [UNDEFENDED]
    for defense in defenses:
        if (control := control_of(defense)) is not None:
            arms.append(control)
        arms.append(defense)
    return list(dict.fromkeys(arms))


def demo_defenses() -> list[type[AnyDefense]]:
    """The built-in defenses that the demo shows (`Defense.in_demo`), in the registry's order."""
    built_in = registry.names("defense", builtin=True)
    classes: list[type[AnyDefense]] = [registry.load("defense", name) for name in built_in]
    return [defense for defense in classes if defense.in_demo]


def bundled_defenses() -> list[str]:
    """Those whose artifact for the bundled model comes with the package: all that the demo needs.

    Example:
        >>> bundled_defenses()[:3]
        ['probe', 'sasa', 'rai']
    """
    arms = arms_of([defense.name for defense in demo_defenses()])
    return [arm for arm in arms if registry.load("defense", arm).fitted]


def run(wanted: Evaluation) -> Scorecard | None:
    """Evaluate, then read the scorecard from the logs; None in all processes but the first.

    Raises:
        SafesightError: anything the user can fix. Finished answers stay in the folder.
    """
    evaluate(wanted)
    if not ranks.first():
        return None
    from safesight.compare.folder import scorecard_of

    return scorecard_of(wanted.log_dir)


def evaluate(wanted: Evaluation) -> None:
    """Run every arm on every task, measure overhead, and write the notes next to the logs.

    Raises:
        SafesightError: anything the user can fix. Finished answers stay in the folder.
    """
    start = time.monotonic()
    own = add_tasks(wanted.own)
    wanted = replace(wanted, tasks=tasks_with(wanted.tasks, own))
    _check(wanted)
    wanted = replace(wanted, model_args=wanted.engine.loading(wanted.model_args))
    _say(f"{task}: {counted(data.samples)}" for task, data in own.items())
    need("inspect_ai", "eval", "An evaluation")
    with waiting(f"Loading {wanted.model}"):
        from safesight.defenses.check import require
        from safesight.evals import run_eval
        from safesight.generation.outside import noted
        from safesight.hosting.hosts import host
        from safesight.workflows.artifacts import artifacts_of

        given = artifacts_of(wanted.artifacts, wanted.arms)
        vlm = host(wanted.model, **wanted.model_args).vlm
        require(vlm, "input")
        if wanted.adaptive is not None:
            wanted.adaptive.check(vlm)
    wanted = replace(wanted, arms=_arms_that_can_run(wanted, vlm, given))
    artifacts, arms = _fitted(wanted, vlm, given, own)
    fits = {each.name: fit for arm in arms for each, fit in arm.defenses if fit is not None}
    unseen = [*leave_out_seen(own, fits, wanted.own.rows)]
    added, about_attacks = _attacked(wanted, vlm, arms)
    server = wanted.engine.endpoints(
        vlm, arms, wanted.log_dir, wanted.model_args, wanted.max_tokens
    )
    with noted() as outside, server as endpoints:
        remarks = [*_remarks(wanted, arms), *unseen, *about_attacks]
        remarks += wanted.engine.remarks(endpoints)
        _say(remarks)
        run_eval(
            wanted.model,
            wanted.arms,
            [*dict.fromkeys([*wanted.tasks, *added])],
            log_dir=wanted.log_dir,
            limit=wanted.limit,
            only=[told({fact: values}) for fact, values in wanted.only.items()],
            artifacts=artifacts,
            judge=wanted.judge,
            batch_size=wanted.batch_size,
            seed=wanted.seed,
            model_args=wanted.model_args,
            endpoints=endpoints,
            temperature=wanted.temperature,
            max_tokens=wanted.max_tokens,
        )
    if ranks.first():  # the others leave, so nothing competes with what is timed
        _draw_risk(wanted, vlm, arms)
        identity = identity_with(vlm.identity, endpoints)
        _note(wanted, vlm, arms, start, _About(identity, remarks, outside, added))


def _fitted(
    wanted: Evaluation, vlm: VLM, given: Mapping[str, Path], own: Mapping[str, Any]
) -> tuple[dict[str, Path], list[Arm]]:
    """The artifacts of all arms, those that were missing fitted first, and the arms."""
    from safesight.hosting.arms import artifacts_for, build_arm
    from safesight.workflows.artifacts import FitPlan, fit_missing

    artifacts = fit_missing(
        vlm,
        wanted.arms,
        given,
        wanted.log_dir / "artifacts",
        plan=FitPlan(seed=wanted.seed),
        fit_on=wanted.fit_on,
        own=own,
        say=stderr().print,
    )
    return artifacts, [build_arm(vlm, name, artifacts_for(name, artifacts)) for name in wanted.arms]


def _say(sentences: Iterable[str]) -> None:
    for sentence in sentences:
        stderr().print(sentence, soft_wrap=True)


def _arms_that_can_run(wanted: Evaluation, vlm: VLM, given: Mapping[str, Path]) -> list[str]:
    """All arms but the controls that nobody asked for and that cannot run."""
    from safesight.grammar import UNDEFENDED
    from safesight.workflows.artifacts import unfitted

    asked = {UNDEFENDED, *(wanted.arms if wanted.asked is None else wanted.asked)}
    found = []
    for arm in wanted.arms:
        lacking: list[str] = []
        if arm not in asked:
            lacking = unfitted(
                vlm, arm, given, wanted.log_dir / "artifacts", wanted.fit_on, wanted.seed
            )
        if arm not in asked and wanted.engine.base_url is not None:
            _say([f"The control arm {arm} is left out: a running server has one configuration."])
        elif lacking:
            stderr().print(
                f"The control arm {arm} is left out: {', '.join(lacking)} has no artifact for "
                f"{vlm.name}. To compare with it, fit it on the same data and pass it with "
                "--artifact.",
                soft_wrap=True,
            )
        else:
            found.append(arm)
    return found


def _check(wanted: Evaluation) -> None:
    """Refuse whatever can be refused before a model is loaded."""
    check_temperature(wanted.temperature)
    for arm in wanted.arms:
        check_arm(arm)
    for task in wanted.tasks:
        _refuse_crafted(task)
        check_task(task)
        # A published benchmark may be incomplete, and an attack may not take a sample.
        if wanted.only or task_parts(task)[1] or published_as(task) is not None:
            draw_samples(task, wanted.limit, seed=wanted.seed, only=wanted.only)
        judge_for(wanted.model, task, wanted.judge)
    if wanted.fit_on == "data" and not wanted.own.sources:
        raise InputError("--fit-on data needs files to fit on. Name them with --data.")
    if wanted.adaptive is not None and wanted.engine.name != "transformers":
        raise InputError(
            f"{wanted.engine.name} computes no gradients, which adaptive attacks need. Leave out "
            "--engine."
        )
    check_place(wanted.log_dir, folder=True)
    wanted.engine.check()


def _refuse_crafted(task: str) -> None:
    """Refuse the name that a scorecard has for pictures which a run with --adaptive crafts."""
    benchmark, attacks = task_parts(task)
    for attack in attacks:
        found = _CRAFTED_NAME.fullmatch(attack)
        if found and attack not in registry.names("attack"):
            size = f" --epsilon {found[1]}" if found[1] else ""
            raise InputError(
                f"The pictures of {task} are crafted for each run. Name {benchmark} instead, with "
                f"--adaptive{size}."
            )


_CRAFTED_NAME = re.compile(r"(?:pgd|transfer|noise)(\d*(?:\.\d+)?)")


def _attacked(wanted: Evaluation, vlm: VLM, arms: Sequence[Arm]) -> tuple[list[str], list[str]]:
    """The tasks of adaptive attacks, with their pictures crafted, and remarks on them."""
    if wanted.adaptive is None:
        return [], []
    from safesight.compare.searches import CRAFTED
    from safesight.workflows.adaptive import add_attacks

    samples = {task: _samples(task, wanted) for task in wanted.tasks}
    folder = wanted.log_dir / CRAFTED
    return add_attacks(vlm, arms, samples, wanted.adaptive, folder, judge=wanted.judge)


def _remarks(wanted: Evaluation, arms: Sequence[Arm]) -> list[str]:
    return [*remarks_on(arms, wanted.only), *drawn(wanted.temperature, wanted.seed)]


def _draw_risk(wanted: Evaluation, vlm: VLM, arms: list[Arm]) -> None:
    """If RAI takes part, draw the risk it sees in the first pictures of each task."""
    fits = [fit for arm in arms for each, fit in arm.defenses if each.name == "rai" and fit]
    if not fits:
        return
    from safesight.report.risk import draw_risk, write_risk

    chosen = [
        (task, sample)
        for task in wanted.tasks
        for sample in _with_pictures(task, wanted)[:_RISK_MAPS]
    ]
    with waiting("Drawing where RAI sees risk"):
        write_risk(wanted.log_dir, draw_risk(vlm, fits[0], chosen))


def _with_pictures(task: str, wanted: Evaluation) -> list[Sample]:
    return [sample for sample in _samples(task, wanted) if sample.image is not None]


def _samples(task: str, wanted: Evaluation) -> list[Sample]:
    return draw_samples(task, wanted.limit, seed=wanted.seed, only=wanted.only)


class _About(NamedTuple):
    """What is known of a run once its answers are there."""

    identity: str
    remarks: Sequence[str] = ()
    outside: Mapping[str, Sequence[str]] = {}
    """By defense, on which prompts it was used outside of what it was calibrated on."""
    adaptive: Sequence[str] = ()
    """Tasks of attacks that know a defense, and their controls."""


def _note(wanted: Evaluation, vlm: VLM, arms: list[Arm], start: float, about: _About) -> None:
    """Measure overhead that is not known yet, and write down what the logs do not contain."""
    from safesight.compare.folder import NOTES, RunNotes, read_notes
    from safesight.files import write_text

    notes = RunNotes(
        model=wanted.model,
        identity=about.identity,
        device=str(vlm.device) if wanted.engine.name == "transformers" else wanted.engine.name,
        seed=wanted.seed,
        temperature=wanted.temperature,
        max_tokens=wanted.max_tokens,
        limit=wanted.limit,
        only={fact: list(values) for fact, values in wanted.only.items()},
        judge=_judge(wanted),
        data=sources_of(wanted.own),
        adaptive=[*about.adaptive],
        remarks=[*about.remarks],
    )
    before = read_notes(wanted.log_dir)
    if before is not None:
        notes = notes.model_copy(update=notes.with_those_of(before))
        if before.same_run(notes):
            kept = ("data", "remarks", "adaptive")
            notes = before.model_copy(update={name: getattr(notes, name) for name in kept})
    known: dict[str, dict[str, Any]] = dict(notes.artifacts)
    overhead = {cost.defense: cost for cost in notes.overhead}
    for arm in arms:
        for defense, artifact in arm.defenses:
            if artifact is not None and known.get(defense.name) != dict(artifact.card):
                known[defense.name] = dict(artifact.card)
                overhead.pop(arm.name, None)  # measured with another artifact
    here = wanted.engine.name == "transformers"  # where overhead is measured
    if here and wanted.overhead_inputs and {arm.name for arm in arms} - {"none"} - overhead.keys():
        shown = [sample for task in wanted.tasks for sample in _with_pictures(task, wanted)]
        timed = measured_overhead(vlm, arms, shown, wanted.overhead_inputs, wanted.max_tokens)
        overhead |= {cost.defense: cost for cost in timed}
    done = notes.after(list(overhead.values()), known, about.outside, time.monotonic() - start)
    write_text(wanted.log_dir / NOTES, done.model_dump_json(indent=2))


def _judge(wanted: Evaluation) -> str:
    """The judge of the run: that of all tasks, or one that can read any answer."""
    return common_judge(wanted.model, wanted.tasks, wanted.judge) or ANY_MODEL
