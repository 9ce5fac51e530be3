"""`safesight eval`: each defense on each task, for one model, into a folder of logs."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from safesight.cli.options import (
    Artifacts,
    BatchSize,
    Columns,
    JsonFile,
    Judge,
    Limit,
    Loading,
    MaxTokens,
    Model,
    Only,
    Seed,
    arms_of_option,
    check_names,
    check_needs_data,
    check_output,
    facts_of,
    loads_model,
    names_of,
    pairs_of,
)
from safesight.cli.show import examples, print_scorecard, write_json
from safesight.console import stderr
from safesight.grammar import judge_parts, task_parts

if TYPE_CHECKING:
    from safesight.compare import Scorecard
    from safesight.workflows.adaptive import Adaptive
    from safesight.workflows.own_data import OwnData

__all__ = ["EXAMPLES", "evaluate"]

EXAMPLES = examples(
    "safesight eval --defense sasa",
    "safesight eval --model ./my-model --defense sasa,adashield --tasks image_harm,vqa --limit 100",
    "safesight eval --defense sasa --artifact artifacts/sasa --log-dir runs/mine --json card.json",
    "safesight eval --defense hidden_detect --tasks image_harm --only category=weapon",
    "safesight eval --model ./my-model --data mine.csv --column question=ask --defense adashield",
    "safesight eval --model ./my-model --data mine.csv --defense sasa --fit-on data",
    "safesight eval --defense sasa --tasks image_harm --limit 50 --adaptive --epsilon 8",
    'safesight eval --engine vllm --defense sasa --vllm-options "--max-model-len 4096"',
)

_TASKS = "text_harm,image_harm,typographic_harm,over_refusal,sensitive_benign,vqa"

_Tasks = Annotated[
    str | None,
    typer.Option(
        help="Comma-separated names; see `safesight list tasks`. + adds an attack, : sets its "
        "numbers: text_harm+best_of_n:shots=64. Default: the file of --data, or "
        f"{_TASKS.replace(',', ', ')}.",
    ),
]
_Data = Annotated[
    list[str] | None,
    typer.Option(
        metavar="SOURCE",
        help="A file of prompts of your own, a folder of pictures, or "
        "hf:NAME[@REVISION][:SPLIT]; repeatable. See `safesight data columns`.",
    ),
]
_Rows = Annotated[
    Literal["unseen", "all"],
    typer.Option(help="Rows of --data to ask: those that no fit has seen, or all."),
]

_Defense = Annotated[
    str, typer.Option(help="Comma-separated names; + combines, ~ adds a stress test.")
]
_Overhead = Annotated[int, typer.Option(min=0, help="Inputs to time overhead on; 0 skips it.")]
_LogDir = Annotated[
    Path, typer.Option(help="Folder for logs; repeating the command resumes there.")
]
_FitOn = Annotated[
    Literal["bundled", "data"] | None,
    typer.Option(
        help="Fit what has no artifact for this model: on a part of --data, or on the bundled "
        "pictograms."
    ),
]
_Engine = Annotated[
    Literal["transformers", "vllm"], typer.Option(help="What computes the answers.")
]
_BaseUrl = Annotated[
    str | None,
    typer.Option(
        metavar="URL", help="With vLLM: ask a running server. Its key: SAFESIGHT_API_KEY."
    ),
]
_Temperature = Annotated[
    float,
    typer.Option(
        min=0,
        help="0 is greedy; above it, answers are drawn, and the same --seed draws the same ones.",
    ),
]
_VllmOptions = Annotated[
    str | None,
    typer.Option(metavar="OPTIONS", help="With vLLM: options of `vllm serve`, in one argument."),
]
_AdaptiveFlag = Annotated[
    bool,
    typer.Option(
        "--adaptive",
        help="Also attack each arm as someone who knows it: pixels by gradient, words, many tries.",
    ),
]
_Epsilon = Annotated[
    str | None,
    typer.Option(
        metavar="LIST",
        help="With --adaptive: how far a pixel may move, in 255ths. Default: 4,8,16.",
    ),
]
_Steps = Annotated[
    int | None,
    typer.Option(min=1, help="With --adaptive: gradient steps of a search. Default: 50."),
]
_Tries = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="With --adaptive: tries of best_of_n. What else asks several times, such as "
        "paraphrase, does so as always, and repeat as often as any. Default: 16.",
    ),
]


@loads_model
def evaluate(
    loading: Loading,
    defense: _Defense = "sasa",
    tasks: _Tasks = None,
    data: _Data = None,
    column: Columns = None,
    rows: _Rows = "unseen",
    model: Model = "testbed",
    limit: Limit = None,
    only: Only = None,
    log_dir: _LogDir = Path("runs/eval"),
    artifact: Artifacts = None,
    fit_on: _FitOn = None,
    judge: Judge = None,
    seed: Seed = 0,
    temperature: _Temperature = 0.0,
    max_tokens: MaxTokens = None,
    batch_size: BatchSize = None,
    overhead: _Overhead = 24,
    json: JsonFile = None,
    engine: _Engine = "transformers",
    base_url: _BaseUrl = None,
    vllm_options: _VllmOptions = None,
    adaptive: _AdaptiveFlag = False,
    epsilon: _Epsilon = None,
    steps: _Steps = None,
    tries: _Tries = None,
) -> None:
    """Evaluate a model on each task, undefended and with each defense, and compare.

    The undefended model is always included (alone: --defense none), and so are control arms. Fit
    defenses of your own model on data like yours (safesight fit DEFENSE --data), or let --fit-on
    data use a part of the file. Under torchrun or accelerate launch, devices share the samples.
    """
    named, asked = _names(defense, tasks, data, judge)
    check_output(json, *(data or []))
    from safesight.workflows.evaluation import Engine, Evaluation, arms_of, run

    wanted = Evaluation(
        model=model,
        arms=arms_of(named),
        asked=named,
        tasks=asked,
        log_dir=log_dir,
        limit=limit,
        only=facts_of(only, "--only"),
        judge=judge,
        seed=seed,
        temperature=temperature,
        max_tokens=max_tokens,
        batch_size=batch_size,
        artifacts=artifact or [],
        fit_on=fit_on,
        overhead_inputs=overhead,
        model_args=loading,
        engine=Engine(engine, base_url, _words(vllm_options or "")),
        own=_own(data, column, rows),
        adaptive=_adaptive(adaptive, epsilon, steps, tries, seed),
    )
    _show(run(wanted), json, log_dir)


def _names(
    defense: str, tasks: str | None, data: list[str] | None, judge: str | None
) -> tuple[list[str], list[str]]:
    """The arms and the tasks, refused before torch loads where a name in them does not exist.

    A file may add a task, so with one the tasks are checked later.
    """
    named = arms_of_option(defense)
    asked = names_of(tasks) if tasks else [] if data else names_of(_TASKS)
    benchmarks = [task_parts(task)[0] for task in asked if not data]
    check_names("benchmark", [name for name in benchmarks if name])
    check_names("judge", [judge_parts(judge)[0]] if judge else [])
    return named, asked


def _words(options: str) -> tuple[str, ...]:
    from safesight.errors import InputError, reason_of

    try:
        return tuple(shlex.split(options))
    except ValueError as error:
        raise InputError(
            f"--vllm-options {options!r} cannot be read ({reason_of(error)}). Write it as in a "
            "shell, with each quote closed."
        ) from error


def _own(
    data: list[str] | None, column: list[str] | None, rows: Literal["unseen", "all"]
) -> OwnData:
    from safesight.workflows.own_data import OwnData

    check_needs_data(data, {"--column": column, "--rows": rows if rows != "unseen" else None})
    return OwnData(data or (), pairs_of(column or [], "--column"), rows)


def _adaptive(
    wanted: bool, epsilon: str | None, steps: int | None, tries: int | None, seed: int
) -> Adaptive | None:
    from safesight.errors import InputError

    if not wanted:
        given = {"--epsilon": epsilon, "--steps": steps, "--tries": tries}
        for option in (name for name, value in given.items() if value is not None):
            raise InputError(f"{option} is for adaptive attacks. Add --adaptive, or leave it out.")
        return None
    from safesight.workflows.adaptive import TRIES, Adaptive

    try:
        sizes = [float(size) for size in ("4,8,16" if epsilon is None else epsilon).split(",")]
    except ValueError:
        raise InputError(
            f"--epsilon {epsilon!r} is not a list of numbers. Write it like 4,8,16."
        ) from None
    return Adaptive(sizes, steps or 50, seed, tries or TRIES)


def _show(card: Scorecard | None, json: str | None, log_dir: Path) -> None:
    if card is None:  # the first of several processes shows it
        return
    if json is not None:
        write_json(card, json)
    if json != "-":
        print_scorecard(card)
    _say_where(log_dir)


def _say_where(log_dir: Path) -> None:
    stderr().print(f"Logs: {log_dir}", soft_wrap=True)
    stderr().print(f"Page: safesight report {log_dir} -o report.html", soft_wrap=True)
