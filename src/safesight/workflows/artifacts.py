"""Matches artifacts to defenses, and fits those that are missing.

The samples for a fit come from the benchmarks' own fit and calibration splits, which share no
rendered picture with the test split.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_type_hints

from pydantic import TypeAdapter, ValidationError

from safesight import ranks, registry
from safesight.benchmarks import load_benchmark
from safesight.defenses import AnyDefense, Artifact, FitData, load_defense
from safesight.defenses.check import require
from safesight.errors import ArtifactError, InputError
from safesight.fitting.bundled import bundled
from safesight.fitting.facts import Facts, select, without
from safesight.grammar import BUNDLED, arm_parts, task_parts
from safesight.training.rows import load_dataset, read_rows
from safesight.workflows.own_data import fit_split, joined, told_after, told_before

if TYPE_CHECKING:
    from collections.abc import Callable

    from safesight.data import Data
    from safesight.models import VLM
    from safesight.types import Sample, TuningSample

__all__ = [
    "FIT_TASKS",
    "FitOn",
    "FitPlan",
    "artifacts_of",
    "data_for",
    "fit_data",
    "fit_missing",
    "split_of",
    "takes_own_answers",
    "unfitted",
]

FitOn = Literal["bundled", "data"]
"""What a missing artifact may be fitted on: the bundled pictograms, or the files of the run."""

FIT_TASKS = ("text_harm", "image_harm", "over_refusal", "sensitive_benign", "vqa")
"""All built-in tasks except one attack, which shows how a fit handles what it has not seen."""


@dataclass(frozen=True)
class FitPlan:
    """What a defense is fitted on."""

    tasks: Sequence[str] = FIT_TASKS
    pool: int = 4000
    """Samples per task in the pool."""
    share: float = 0.05
    """Fraction of the pool to use."""
    calibration: int = 400
    """Held-out samples per task; only the benign ones are used."""
    seed: int = 0
    held_out: Facts = field(default_factory=dict)
    """Facts whose samples neither the fit nor its threshold may see."""


def fit_data(plan: FitPlan) -> FitData:
    """The samples of a plan.

    Raises:
        InputError: a task has no split for fitting, the share leaves a label without samples, or
            no sample has the facts to hold out.
    """
    pool = [sample for task in plan.tasks for sample in split_of(task, plan.pool, plan.seed, "fit")]
    held_out = [
        sample
        for task in plan.tasks
        for sample in split_of(task, plan.calibration, plan.seed, "calibration")
        if sample.label == "benign"
    ]
    if plan.held_out:
        select(pool, plan.held_out, ", ".join(plan.tasks))  # a misspelt fact would hold out nothing
        pool, held_out = without(pool, plan.held_out), without(held_out, plan.held_out)
    found = FitData.from_pool(
        pool, held_out, share=plan.share, seed=plan.seed, held_out=plan.held_out
    )
    return replace(found, tasks=tuple(plan.tasks))


def data_for(
    defense: AnyDefense,
    plan: FitPlan,
    model: str,
    rows: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> FitData:
    """What a defense is fitted on: samples of tasks or, if it trains, questions with answers.

    Args:
        defense: The defense to fit.
        plan: How much data to use; three times as many rows as samples per task.
        model: Its name; models that come with the package have rows of the bundled world.
        rows: A file of rows, or the name of a data set; None uses the model's own rows.
        options: Options of the data set, other than the number of rows and the seed.

    Raises:
        InputError: there are no such rows, or they cannot be used.
    """
    if not defense.needs & {"forget_set", "neutral_set"}:
        if rows is not None:
            raise InputError(f"{defense.name} does not train on rows. Leave out --data {rows}.")
        if options:
            raise InputError(
                f"{defense.name} does not train on rows. Leave out --data-option {min(options)}."
            )
        return fit_data(plan)
    if plan.held_out:
        raise InputError(
            f"{defense.name} trains on rows, which have no facts to choose by. Leave the rows out "
            "of its --data instead."
        )
    world = BUNDLED if model in registry.names("model", builtin=True) else model
    own = f"{world}_neutral" if "neutral_set" in defense.needs else world
    name = own if rows is None else rows
    if name in registry.names("dataset"):
        count = 3 * max(1, round(plan.pool * plan.share))
        drawn, source = _drawn(name, count, plan.seed, options or {}), {"dataset": name}
        return FitData((), (), tuning=drawn, tuning_source={**source, **(options or {})})
    if options:
        raise InputError(f"{rows or 'The model'} is not a data set with options. Leave them out.")
    if rows is None:
        raise InputError(
            f"{defense.name} trains on questions with answers, and there are none for {model!r}. "
            "Pass a JSON or JSONL file with --data."
        )
    return FitData((), (), tuning=read_rows(rows))


def _drawn(name: str, n: int, seed: int, options: Mapping[str, Any]) -> list[TuningSample]:
    check_options(name, options)
    return load_dataset(name)(n, seed=seed, **options)


def check_options(dataset: str, options: Mapping[str, Any]) -> None:
    """Refuse options that a data set does not take, and the split, which is not for users to set.

    Raises:
        InputError: there is no such option, or its value has another type.
    """
    loader = registry.load("dataset", dataset)
    known = inspect.signature(loader).parameters.keys() - {"n", "seed", "split"}
    if unknown := sorted(options.keys() - known):
        use = f"Use {', '.join(sorted(known))}." if known else "It has none."
        raise InputError(f"The data set {dataset!r} has no option {unknown[0]!r}. {use}")
    types = _types(loader)
    for name, value in options.items():
        try:
            TypeAdapter(types.get(name, Any)).validate_python(value)
        except ValidationError as error:
            raise InputError(
                f"The data set {dataset!r} does not take {name}={value!r}: "
                f"{error.errors()[0]['msg']}."
            ) from error


def _types(function: Callable[..., Any]) -> dict[str, Any]:
    """The types of a function's arguments; none if they are named for type checkers alone."""
    try:
        return get_type_hints(function)
    except NameError:
        return {}


def split_of(task: str, n: int, seed: int, split: str) -> list[Sample]:
    """The samples of one split of a task.

    Raises:
        InputError: the task has no splits.
    """
    benchmark: Callable[..., list[Sample]] = load_benchmark(task)
    plain = load_benchmark(task_parts(task)[0])  # what attacks it takes any arguments
    if "split" not in inspect.signature(plain).parameters:
        raise InputError(
            f"The task {task!r} has no separate samples to fit on. Choose other tasks with --tasks."
        )
    return benchmark(n, seed=seed, split=split)


def artifacts_of(folders: Sequence[Path], arms: Sequence[str]) -> dict[str, Path]:
    """Map each defense to the folder of its artifact; an artifact names its defense.

    Args:
        folders: Folders that the user gave.
        arms: Names of defenses, several at once joined by "+".

    Raises:
        ArtifactError: a folder holds no artifact, its defense is not part of the run, or an arm
            has two artifacts.
    """
    taking_part = _defenses(arms)
    found: dict[str, Path] = {}
    for folder in folders:
        defense = Artifact.load(folder).defense
        if defense not in taking_part:
            raise ArtifactError(
                f"{folder} holds an artifact of {defense!r}, which is not part of this run. "
                f"Add it with --defense {','.join([*arms, defense])}"
            )
        if defense in found:
            raise ArtifactError(f"{defense!r} was given two artifacts. Give it one.")
        found[defense] = folder
    return found


def fit_missing(
    vlm: VLM,
    arms: Sequence[str],
    given: Mapping[str, Path],
    folder: Path,
    *,
    plan: FitPlan,
    fit_on: FitOn | None = None,
    own: Mapping[str, Data] | None = None,
    say: Callable[[str], None],
) -> dict[str, Path]:
    """Fit each defense that has no given or bundled artifact; reuse fits already in `folder`.

    Args:
        vlm: The model under test.
        arms: Names of defenses, several at once joined by "+".
        given: Defenses that already have an artifact, with its folder.
        folder: Where fits are kept, one folder per defense.
        plan: The data to fit on.
        fit_on: "bundled" lets fits on the bundled pictograms be made for any model, "data" fits
            on `own`; None fits the bundled model alone, on its pictograms.
        own: The files of the run, by task.
        say: Called with a message before each fit.

    Returns:
        The folder of each defense whose artifact is not bundled.

    Raises:
        ArtifactError: a given artifact is of another model.
        InputError: the plan has too few samples, or a fit is needed for a model that does not
            come with the package and `fit_on` is None.
    """
    places = dict(given)
    for path in given.values():
        Artifact.load(path).check_model(vlm)
    data = joined(own) if fit_on == "data" and own else None
    for defense in map(load_defense, _defenses(arms)):
        if not defense.fitted or defense.name in places:
            continue
        if fit_on != "data" and _is_bundled(defense, vlm):
            continue
        place = folder / defense.name
        if not ranks.agreed(_fits(place, vlm, data, plan.seed)):
            if not _may_fit(vlm, fit_on):
                raise InputError(_how_to_go_on(defense, vlm))
            require(vlm, defense.kind)
            _refuse_several(defense, vlm)
            with ranks.together():
                fit = _fitted(defense, vlm, plan, data, say)
            if ranks.first():
                fit.save(place)
            ranks.meet()
        places[defense.name] = place
    return places


def _fitted(
    defense: AnyDefense,
    vlm: VLM,
    plan: FitPlan,
    data: Data | None,
    say: Callable[[str], None],
) -> Artifact:
    """Fitted on somebody's data, or on the bundled pictograms if there are none.

    Raises:
        InputError: the defense trains on questions with answers, which the data do not have.
    """
    if data is None:
        say(f"Fitting {defense.name} on the bundled pictograms: it has no artifact for this model.")
        return defense.fit(vlm, data_for(defense, plan, vlm.name), seed=plan.seed)
    refuse_rows(defense)
    split = fit_split(data, seed=plan.seed)
    say(f"Fitting {defense.name} on {data.source}.")
    for sentence in told_before(split):
        say(sentence)
    fit = defense.fit(vlm, split.data, seed=plan.seed)
    for sentence in told_after(split, fit):
        say(sentence)
    return fit.with_split(split.source, split.rows, split.file)


def unfitted(
    vlm: VLM, arm: str, given: Mapping[str, Path], folder: Path, fit_on: FitOn | None, seed: int
) -> list[str]:
    """The defenses of an arm that have no artifact and may not be fitted on the bundled world.

    The arguments are those of `fit_missing`, with the seed of its plan.
    """
    if _may_fit(vlm, fit_on):
        return []
    return [
        defense.name
        for defense in map(load_defense, _defenses([arm]))
        if defense.fitted
        and defense.name not in given
        and not _is_bundled(defense, vlm)
        and not _fits(folder / defense.name, vlm, None, seed)
    ]


def _refuse_several(defense: AnyDefense, vlm: VLM) -> None:
    """Refuse a fit that would depend on the number of processes.

    Raises:
        InputError: the defense trains, and there are several.
    """
    if "gradients" in defense.needs and ranks.place().count > 1:
        raise InputError(
            f"{defense.name} has no artifact for {vlm.name}, and what several processes train "
            f"depends on their number. Fit it beforehand, with safesight fit {defense.name}, and "
            "pass it with --artifact."
        )


def _may_fit(vlm: VLM, fit_on: FitOn | None) -> bool:
    """A stranger's model is fitted on the bundled world only if that was asked for."""
    return fit_on is not None or vlm.name in registry.names("model", builtin=True)


def _how_to_go_on(defense: AnyDefense, vlm: VLM) -> str:
    command = f"safesight fit {defense.name} --model {vlm.name} -o artifacts/{defense.name}"
    if defense.needs & {"forget_set", "neutral_set"}:
        own = " or --data mine.csv --set answers=self" if takes_own_answers(defense) else ""
        how = f"Fit it on rows like yours ({command} --data rows.jsonl{own}) and pass --artifact"
    else:
        how = (
            f"Fit it on prompts like yours ({command} --data mine.csv) and pass it with "
            "--artifact, or add --fit-on data to fit it on a part of --data"
        )
    return (
        f"{defense.name} has no artifact for {vlm.name}. {how}. With --fit-on bundled it is fitted "
        "on the pictograms that come with the package, which say little about other pictures."
    )


def takes_own_answers(defense: AnyDefense) -> bool:
    """Whether the model's own answers can stand in for those that a method trains on."""
    return "answers" in defense.Config.model_fields


def refuse_rows(defense: AnyDefense) -> None:
    """Refuse a defense that trains on questions with answers, which prompts do not have.

    Raises:
        InputError: it does.
    """
    if defense.needs & {"forget_set", "neutral_set"}:
        raise InputError(
            f"{defense.name} is fitted on questions with answers. Fit it beforehand: safesight fit "
            f"{defense.name} --data rows.jsonl -o artifacts/{defense.name}."
            + (" Or on prompts: --set answers=self." if takes_own_answers(defense) else "")
        )


def _defenses(arms: Sequence[str]) -> list[str]:
    """Every defense that takes part, once."""
    return list(dict.fromkeys(defense for arm in arms for defense, _ in arm_parts(arm)))


def _is_bundled(defense: AnyDefense, vlm: VLM) -> bool:
    try:
        bundled(defense.name, vlm)
    except ArtifactError:
        return False
    return True


def _fits(place: Path, vlm: VLM, data: Data | None, seed: int) -> bool:
    """Whether there is an artifact of this exact model, fitted on this data."""
    if not place.is_dir():
        return False
    try:
        artifact = Artifact.load(place)
        artifact.check_model(vlm)
    except ArtifactError:
        return False
    about = artifact.card.get("data", {})
    wanted = None if data is None else data.hash, seed
    return wanted == (about.get("file"), artifact.card.get("seed"))
