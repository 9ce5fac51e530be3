"""A whole evaluation: answers of every arm to every task, overhead, and the scorecard.

The commands `eval` and `demo` parse and print; this does the work in between. A stopped run
resumes where it stopped. Of several processes each answers its part; the first one goes on alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safesight import ranks, registry
from safesight.benchmarks import load_benchmark, published_as
from safesight.console import stderr, steps, waiting
from safesight.data.counts import counted
from safesight.errors import InputError
from safesight.extras import need
from safesight.files import check_place
from safesight.fitting.facts import Facts, covers, select, told
from safesight.grammar import ANY_MODEL, check_arm, check_task, load_judge
from safesight.judges.scope import common_judge, judge_for
from safesight.workflows.engines import Engine, identity_with
from safesight.workflows.own_data import OwnData, add_tasks, leave_out_seen, sources_of, tasks_with

if TYPE_CHECKING:
    from safesight.compare import Overhead, Scorecard
    from safesight.defenses import AnyDefense
    from safesight.hosting.arms import Arm
    from safesight.models import VLM
    from safesight.types import Sample
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
    batch_size: int | None = None
    artifacts: Sequence[Path] = ()
    fit_on: FitOn | None = None
    """See `fit_missing`."""
    asked: Sequence[str] | None = None
    """The arms that must run; others are left out if they have no artifact. None for all."""
    overhead_inputs: int = 24
    """Benign inputs, and as many harmful ones, to time overhead on; 0 skips it."""
    model_args: dict[str, Any] = field(default_factory=dict)
    own: OwnData = field(default_factory=OwnData)
    engine: Engine = field(default_factory=Engine)


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
        from safesight.hosting.arms import artifacts_for, build_arm
        from safesight.hosting.hosts import host
        from safesight.workflows.artifacts import FitPlan, artifacts_of, fit_missing

        given = artifacts_of(wanted.artifacts, wanted.arms)
        vlm = host(wanted.model, **wanted.model_args).vlm
        require(vlm, "input")
    wanted = replace(wanted, arms=_arms_that_can_run(wanted, vlm, given))
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
    arms = [build_arm(vlm, name, artifacts_for(name, artifacts)) for name in wanted.arms]
    fits = {each.name: fit for arm in arms for each, fit in arm.defenses if fit is not None}
    unseen = leave_out_seen(own, fits, wanted.own.rows)
    server = wanted.engine.endpoints(vlm, arms, wanted.log_dir, wanted.model_args)
    with noted() as outside, server as endpoints:
        remarks = [*_unlike_controls(arms), *_seen(arms, wanted.only), *unseen]
        remarks += wanted.engine.remarks(endpoints)
        _say(remarks)
        run_eval(
            wanted.model,
            wanted.arms,
            wanted.tasks,
            log_dir=wanted.log_dir,
            limit=wanted.limit,
            only=[told({fact: values}) for fact, values in wanted.only.items()],
            artifacts=artifacts,
            judge=wanted.judge,
            batch_size=wanted.batch_size,
            seed=wanted.seed,
            model_args=wanted.model_args,
            endpoints=endpoints,
        )
    if ranks.first():  # the others leave, so nothing competes with what is timed
        _draw_risk(wanted, vlm, arms)
        _note(wanted, vlm, arms, start, (identity_with(vlm.identity, endpoints), remarks, outside))


def _say(sentences: Iterable[str]) -> None:
    for sentence in sentences:
        stderr().print(sentence, soft_wrap=True)


def _arms_that_can_run(wanted: Evaluation, vlm: VLM, given: Mapping[str, Path]) -> list[str]:
    """All arms but the controls that nobody asked for and that have no artifact."""
    from safesight.grammar import UNDEFENDED
    from safesight.workflows.artifacts import unfitted

    asked = {UNDEFENDED, *(wanted.arms if wanted.asked is None else wanted.asked)}
    found = []
    for arm in wanted.arms:
        lacking: list[str] = []
        if arm not in asked:
            lacking = unfitted(vlm, arm, given, wanted.log_dir / "artifacts", wanted.fit_on)
        if lacking:
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
    for arm in wanted.arms:
        check_arm(arm)
    for task in wanted.tasks:
        check_task(task)
        if wanted.only or published_as(task) is not None:  # which may be incomplete
            select(load_benchmark(task)(wanted.limit, seed=wanted.seed), wanted.only, task)
        judge_for(wanted.model, task, wanted.judge)
    if wanted.fit_on == "data" and not wanted.own.sources:
        raise InputError("--fit-on data needs files to fit on. Name them with --data.")
    check_place(wanted.log_dir, folder=True)
    wanted.engine.check()


def _unlike_controls(arms: Sequence[Arm]) -> Iterator[str]:
    """A sentence for each control that was fitted on different data than its arm."""
    from safesight.compare import control_of

    fitted_on = {
        arm.name: {
            artifact.card.get("data", {}).get("hash") for _, artifact in arm.defenses if artifact
        }
        for arm in arms
    }
    for name, data in fitted_on.items():
        control = control_of(name)
        if control is not None and fitted_on.get(control, data) != data:
            yield (
                f"The control arm {control} was fitted on different data than {name}. To compare "
                "them, fit both on the same data and pass both with --artifact."
            )


def _seen(arms: Sequence[Arm], only: Facts) -> Iterator[str]:
    """A sentence for each fit that saw what it is tested on, or is tested on more than that."""
    fits = {
        defense.name: artifact.card.get("data", {}).get("held_out", {})
        for arm in arms
        for defense, artifact in arm.defenses
        if artifact is not None
    }
    for name, held_out in fits.items():
        if only and not covers(held_out, only):
            yield (
                f"{name} was fitted with samples of {told(only)}, so these rates are not about "
                "things it has not seen. Fit it with --hold-out, and pass it with --artifact."
            )
        elif held_out and not only:
            yield (
                f"{name} was fitted without {told(held_out)}, but is asked about other samples as "
                "well. Add --only with the same facts to see what it does on what it never saw."
            )


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
    drawn = load_benchmark(task)(wanted.limit, seed=wanted.seed)
    samples = select(drawn, wanted.only, task)
    return [sample for sample in samples if sample.image is not None]


def _note(
    wanted: Evaluation,
    vlm: VLM,
    arms: list[Arm],
    start: float,
    about: tuple[str, Sequence[str], Mapping[str, Sequence[str]]],
) -> None:
    """Measure overhead that is not known yet, and write down what the logs do not contain."""
    from safesight.compare.folder import NOTES, RunNotes, read_notes
    from safesight.files import write_text

    identity, remarks, said = about
    notes = RunNotes(
        model=wanted.model,
        identity=identity,
        device=str(vlm.device) if wanted.engine.name == "transformers" else wanted.engine.name,
        seed=wanted.seed,
        limit=wanted.limit,
        only={fact: list(values) for fact, values in wanted.only.items()},
        judge=_judge(wanted),
        data=sources_of(wanted.own),
        remarks=[*remarks],
    )
    before = read_notes(wanted.log_dir)
    if before is not None and before.same_run(notes):
        notes = before.model_copy(update={"data": notes.data, "remarks": notes.remarks})
    known: dict[str, dict[str, Any]] = dict(notes.artifacts)
    overhead = {cost.defense: cost for cost in notes.overhead}
    for arm in arms:
        for defense, artifact in arm.defenses:
            if artifact is not None and known.get(defense.name) != dict(artifact.card):
                known[defense.name] = dict(artifact.card)
                overhead.pop(arm.name, None)  # measured with another artifact
    here = wanted.engine.name == "transformers"  # where overhead is measured
    if here and wanted.overhead_inputs and {arm.name for arm in arms} - {"none"} - overhead.keys():
        measured = _overhead(wanted, vlm, arms)
        overhead |= {cost.defense: cost for cost in measured}
    done = notes.after(list(overhead.values()), known, said, time.monotonic() - start)
    write_text(wanted.log_dir / NOTES, done.model_dump_json(indent=2))


def _judge(wanted: Evaluation) -> str:
    """The judge of the run: that of all tasks, or one that can read any answer."""
    return common_judge(wanted.model, wanted.tasks, wanted.judge) or ANY_MODEL


def _overhead(wanted: Evaluation, vlm: VLM, arms: list[Arm]) -> list[Overhead]:
    from safesight.compare.overhead import measure

    benign, harmful = _inputs(wanted)
    if not benign:
        stderr().print("Overhead is skipped: no task has benign requests about pictures.")
        return []
    judge = load_judge(_judge(wanted))
    with steps("overhead", len(benign) + len(harmful)) as advance:
        return measure(
            vlm,
            arms,
            benign,
            harmful,
            judge,
            memory_inputs=max(1, wanted.overhead_inputs // 8),
            on_input=advance,
        )


def _inputs(wanted: Evaluation) -> tuple[list[Sample], list[Sample]]:
    """Benign and harmful samples with pictures, spread over the tasks.

    Samples in which an attack writes the beginning of the answer are not timed.
    """
    samples = [
        sample
        for task in wanted.tasks
        for sample in _with_pictures(task, wanted)
        if sample.prefill is None
    ]
    found = []
    for label in ("benign", "harmful"):
        some = [sample for sample in samples if sample.label == label]
        # Spread over all tasks of a label: the list is in the order of the tasks.
        step = max(1, len(some) // max(1, wanted.overhead_inputs))
        found.append(some[::step][: wanted.overhead_inputs])
    return found[0], found[1]
