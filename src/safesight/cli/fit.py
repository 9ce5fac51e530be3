"""`safesight fit`: fit a defense to a model and write the result to a folder.

Methods that train keep checkpoints and a log next to that folder. Under a launcher such as
`torchrun` or `accelerate launch`, several processes share the work, and the first one writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from safesight import ranks, registry
from safesight.cli.options import (
    Columns,
    DataOptions,
    HoldOut,
    Loading,
    Model,
    Seed,
    check_apart,
    check_names,
    facts_of,
    loads_model,
    names_of,
    pairs_of,
    values_of,
)
from safesight.cli.show import examples, print_json
from safesight.console import stderr, waiting
from safesight.errors import ArtifactError, InputError, StorageError
from safesight.files import check_place
from safesight.grammar import check_task

if TYPE_CHECKING:
    from safesight.defenses import AnyDefense, Artifact, FitData
    from safesight.models import VLM
    from safesight.workflows.own_data import FitSplit

__all__ = ["EXAMPLES", "fit"]

EXAMPLES = examples(
    "safesight fit sasa -o artifacts/sasa",
    "safesight fit sasa --model ./my-model -o artifacts/mine --set feature=hidden",
    "safesight fit probe --tasks image_harm,over_refusal -o artifacts/probe",
    "safesight fit sasa --model ./my-model --data mine.csv -o artifacts/mine",
    "safesight fit probe --hold-out category=weapon -o artifacts/no-weapons",
    "safesight fit rai -o artifacts/rai --set strength=auto --set ratio=auto",
    "safesight fit npo -o artifacts/npo --set beta=0.7 --set epochs=2",
    "safesight fit npo --model ./my-model --data rows.jsonl -o artifacts/mine --resume",
    "safesight fit npo --model ./my-model --data mine.csv --set answers=self -o artifacts/mine",
    "safesight fit sft --data mirage --data-option rho=0.8 -o artifacts/mirage",
)

_POOL, _HELD_OUT = 4000, 400
_SHARE = 0.05
"""Fraction of the pool of tasks; of somebody's own prompts, all are used."""
_TASKS = "text_harm,image_harm,over_refusal,sensitive_benign,vqa"
_Defense = Annotated[str, typer.Argument(help="See `safesight list defenses`.")]
_Output = Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")]
_Json = Annotated[bool, typer.Option("--json", help="Print the artifact card as JSON.")]
_Data = Annotated[
    str | None,
    typer.Option(
        help="Prompts to fit on (see `safesight data columns`). For methods that train, rows with "
        "answers: a data set (see `safesight list datasets`), or a JSON or JSONL file with id, "
        "question, answer, label, image; prompts with --set answers=self."
    ),
]
_Tasks = Annotated[
    str,
    typer.Option(
        show_default=_TASKS.replace(",", ", "),
        help="Tasks whose fit split is used; an attack left out stays unseen.",
    ),
]
_Calibration = Annotated[
    int, typer.Option(min=1, help="Samples per task for the threshold; benign ones only.")
]
_Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A setting of the defense; repeatable."),
]
_Limit = Annotated[
    int | None,
    typer.Option(min=1, help="Samples per task to use: short for --pool LIMIT --share 1."),
]
_Resume = Annotated[
    bool, typer.Option("--resume", help="Resume a training run from its last checkpoint.")
]
_RunDir = Annotated[
    Path | None,
    typer.Option(help="Folder for checkpoints and log of a training run. Default: OUTPUT.run."),
]

_Pool = Annotated[int, typer.Option(min=1, help="Samples per task in the pool.")]
_Share = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        help=f"Fraction to use. Default: {_SHARE} of the pool, all of a file.",
    ),
]

_PICTOGRAMS = (
    "Fitting {} on the pictograms that come with the package, which say little about other "
    "pictures."
)


@loads_model
def fit(
    loading: Loading,
    defense: _Defense,
    output: _Output,
    model: Model = "testbed",
    tasks: _Tasks = _TASKS,
    limit: _Limit = None,
    pool: _Pool = _POOL,
    share: _Share = None,
    calibration: _Calibration = _HELD_OUT,
    hold_out: HoldOut = None,
    data: _Data = None,
    column: Columns = None,
    data_options: DataOptions = None,
    resume: _Resume = False,
    run_dir: _RunDir = None,
    settings: _Settings = None,
    seed: Seed = 0,
    json: _Json = False,
) -> None:
    """Fit a defense to a model, whose own weights do not change.

    The folder is written completely or not at all. Several processes of a launcher share the work.
    """
    check_names("defense", [defense])
    check_apart(output, None if data in registry.names("dataset") else data)
    chosen = _checked(names_of(tasks))
    pool, share = _limited(limit, (pool, share), data)
    with waiting(f"Loading {model}"):
        from safesight.defenses import load_defense
        from safesight.defenses.check import require
        from safesight.models import VLM
        from safesight.models.loading import public_name
        from safesight.workflows.artifacts import FitPlan
        from safesight.workflows.gathering import Source, gathered
        from safesight.workflows.own_data import told_before

        fitter = load_defense(defense, **values_of(settings or [], "--set"))
        _refuse_unused(fitter, data, (tasks, pool, calibration))
        replaced = _there(output, defense)  # before the work starts, so that none is lost
        more = _run(fitter, output, run_dir, resume)
        held_out = facts_of(hold_out, "--hold-out")
        plan = FitPlan(chosen, pool, _share(share, data), calibration, seed, held_out)
        options = values_of(data_options or [], "--data-option")
        source = Source(data, pairs_of(column or [], "--column"), options)
        given = gathered(fitter, plan, public_name(model), source)
        vlm = VLM.load(model, **loading)
        require(vlm, fitter.kind)
    _say(told_before(given))
    if not given.source and not given.data.tuning and vlm.name not in registry.names("model"):
        _say([_PICTOGRAMS.format(defense)])
    artifact = _fitted(fitter, vlm, given, seed, more)
    if not ranks.first():
        return
    _save(artifact, output, replaced, resumable=bool(more))
    _print(artifact, given, json)
    if not json:
        typer.echo(output)


def _fitted(
    fitter: AnyDefense, vlm: VLM, given: FitSplit, seed: int, more: dict[str, Any]
) -> Artifact:
    from safesight.defenses.reference import with_reference

    with nullcontext() if more else ranks.together():  # what trains divides its rows itself
        artifact = fitter.fit(vlm, given.data, seed=seed, **more)
    if given.source:
        artifact = artifact.with_split(given.source, given.rows, given.file)
    return with_reference(vlm, fitter, artifact)


def _print(artifact: Artifact, given: FitSplit, json: bool) -> None:
    """The card as JSON, or a line about the fit and how well its probe tells the labels apart."""
    from safesight.workflows.own_data import told_after

    if json:
        print_json({"defense": artifact.defense, "hash": artifact.hash, **artifact.card})
        return
    model = artifact.card["model"]["name"]
    rows = _count(given.data, artifact.card.get("training", {}))
    used = f"{artifact.defense} fitted on {model} with {rows}"
    _say([*told_after(given, artifact), f"{used}: {artifact.hash[:12]}"])


def _checked(tasks: list[str]) -> list[str]:
    for task in tasks:
        check_task(task)
    return tasks


def _say(sentences: Iterable[str]) -> None:
    for sentence in sentences:
        stderr().print(sentence, soft_wrap=True)


def _count(samples: FitData, trained: Mapping[str, Any]) -> str:
    from safesight.fitting.facts import told

    if samples.tuning:  # fewer are trained on if the model refuses some
        rows = trained["forget"] + trained["retain"] if trained else len(samples.tuning)
        return f"{rows} rows"
    used = len(samples.harmful) + len(samples.benign)
    of_pool = f" ({samples.share:.1%} of {samples.pool_size:,})" if samples.pool_size else ""
    threshold = len(samples.calibration_benign)
    more = f" and {threshold:,} benign ones for the threshold" if threshold else ""
    kept_out = f", without {told(samples.held_out)}" if samples.held_out else ""
    return f"{used:,} samples{of_pool}{more}{kept_out}"


def _share(share: float | None, data: str | None) -> float:
    """The part to use: all of a file, a little of the pool of tasks, unless somebody says."""
    if share is not None:
        return share
    return _SHARE if data is None or data in registry.names("dataset") else 1.0


def _refuse_unused(fitter: AnyDefense, data: str | None, amounts: tuple[str, int, int]) -> None:
    """Refuse a defense that would only store its settings, and samples that it does not use.

    Args:
        fitter: The defense.
        data: What --data names.
        amounts: Tasks, pool and calibration, as given.

    Raises:
        InputError: it has nothing to fit, or is fitted on something else than tasks.
    """
    from safesight.defenses import Defense

    if not fitter.fitted and type(fitter).fit is Defense.fit:
        raise InputError(
            f"{fitter.name} has nothing to fit, so it needs no artifact. Use it as it is: "
            f"safesight eval --defense {fitter.name}."
        )
    tasks, _, calibration = amounts
    if fitter.needs & {"forget_set", "neutral_set"}:
        if (tasks, calibration) == (_TASKS, _HELD_OUT):
            return
        raise InputError(
            f"{fitter.name} uses no samples of tasks. Leave out --tasks and --calibration; --data "
            "names what it is fitted on."
        )
    own = data is not None and data not in registry.names("dataset")
    if own and amounts != (_TASKS, _POOL, _HELD_OUT):
        raise InputError(
            f"{fitter.name} is fitted on {data}, not on tasks. Leave out --tasks, --pool and "
            "--calibration; --share says how much of the file to use."
        )


def _there(folder: Path, defense: str) -> str | None:
    """The artifact that is in the folder, in words; None if there is none.

    Raises:
        StorageError: it belongs to another defense, or the folder cannot be written.
    """
    from safesight.defenses import Artifact
    from safesight.fitting.artifact import free_place

    free_place(folder)
    check_place(folder, folder=True)
    if not (folder / "config.json").exists():
        return None
    try:
        found = Artifact.load(folder)
    except ArtifactError:
        return "an artifact that cannot be read"
    if found.defense != defense:
        raise StorageError(
            f"{folder} holds an artifact of {found.defense}. Choose another folder, or remove it."
        )
    return f"the {defense} artifact {found.hash[:12]}"


def _limited(
    limit: int | None, plan: tuple[int, float | None], data: str | None
) -> tuple[int, float | None]:
    """The pool and the share that use so many samples per task; as given without a limit.

    Raises:
        InputError: the amount is given in another way, too.
    """
    if limit is None:
        return plan
    if plan != (_POOL, None):
        raise InputError("--limit stands for --pool and --share. Give one or the other.")
    if data is not None and data not in registry.names("dataset"):
        raise InputError(f"All rows of {data} are used. Leave out --limit, or use --share.")
    return limit, 1.0


def _save(artifact: Artifact, folder: Path, replaced: str | None, *, resumable: bool) -> None:
    """Write the artifact and say what it replaces, or how to recover it.

    Raises:
        StorageError: the folder cannot be written.
    """
    try:
        artifact.save(folder)
    except StorageError as error:
        kept = " Nothing is lost: repeat the command with --resume." if resumable else ""
        raise StorageError(f"{error}{kept}") from error
    if replaced is not None:
        stderr().print(f"The new artifact replaces {replaced}, which was in {folder}.")


def _run(fitter: AnyDefense, output: Path, run_dir: Path | None, resume: bool) -> dict[str, Any]:
    """The run folder of a method that trains; nothing for other methods.

    Raises:
        InputError: there is nothing to resume, or no use for a run folder.
        StorageError: the folder cannot be written.
    """
    if "gradients" not in fitter.needs:
        if resume:
            raise InputError(f"{fitter.name} does not train, so there is nothing to resume.")
        if run_dir is not None:
            raise InputError(f"{fitter.name} does not train, so leave out --run-dir {run_dir}.")
        return {}
    from safesight.training.run import TuningRun

    folder = run_dir or output.with_name(f"{output.name}.run")
    check_place(folder, folder=True)
    return {"run": TuningRun(folder, resume)}
