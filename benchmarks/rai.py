r"""RAI and its controls on the bundled VLM: is it the words, and which settings pay off?

    python benchmarks/rai.py             # see `seconds` in the results for how long
    python benchmarks/rai.py --n 60      # a quick look
    python benchmarks/rai.py --model testbed-smol --dtype bfloat16 --n 100 --layer embed \
        --no-sweeps --controls "random directions,benign words"

Writes `runs/benchmarks/rai.json` after every row. A run that was stopped resumes from there.
Rates are pooled over seeds, and their intervals are resampled over things and fit seeds.

Every seed: the model as it is; RAI as published, with the names of the world's harmful
things and with generic words; RAI with layer, ratio and strength chosen on the fit split;
each beside its controls (see `safesight.analysis.rai_controls`); benign words with a gate
of their own. Of the first seed also sweeps around the chosen setting: strength, ratio, number of
words, layer. Rows say which share of visual tokens moved and how far relative to their norm.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from arms import chosen
from judged import About
from results_file import add_output, add_summarise, finished, opened, saved, summarised
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from under_test import add_model, head_of, loaded

from safesight import VLM
from safesight.analysis.rai_controls import Tests, controls, judgements, metrics_of
from safesight.benchmarks import load_benchmark
from safesight.defenses import Artifact, FitData
from safesight.defenses.rai.method import RAI, injection_of
from safesight.defenses.rai.prototypes import GENERIC_WORDS, PLAIN_WORDS, words_for
from safesight.grammar import BUNDLED
from safesight.stats import METRICS, Judgement
from safesight.workflows.artifacts import FitPlan, fit_data

TASKS = (
    "text_harm",
    "image_harm",
    "typographic_harm",
    "over_refusal",
    "sensitive_benign",
    "vqa",
)
ATTACKS = ("image_harm", "typographic_harm")
SWEPT = ("image_harm", "typographic_harm", "over_refusal", "sensitive_benign", "vqa")
STRENGTHS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 64.0, 256.0)
RATIOS = (0.0, 0.001, 0.01, 0.03, 0.1, 0.3, 1.0)
COUNTS = (1, 3, 6, 9, 12, 18, 24, 32)
CONTROLS = ("random directions", "benign words", "random tokens", "random gate")
AUTO = {"ratio": "auto", "strength": "auto"}

Row = dict[str, Any]
Cells = Mapping[str, Sequence[Judgement]]
"""Task to one judged answer per sample."""
Work = tuple[str, str, Callable[[], Row]]
"""The list of a row ("rows" or "sweeps"), its arm, and the function that makes it."""


def main() -> None:
    """Run every row that is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=300, help="samples per task")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--layer", default="auto", choices=("auto", "embed"), help="layer of the chosen setting"
    )
    parser.add_argument("--controls", default="", help="separated by commas; all if empty")
    parser.add_argument(
        "--sweeps",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="sweeps of the first seed",
    )
    add_model(parser)
    add_output(parser, "rai")
    add_summarise(parser)
    arguments = parser.parse_args()
    if arguments.summarise:
        summarised(arguments.out, concluded)
        return
    vlm = loaded(arguments)
    head = {**head_of(arguments, vlm), "n": arguments.n, "layer": arguments.layer}
    beside = chosen(arguments.controls, CONTROLS)
    results = opened(arguments, head, sweeps=[], summary=[], swept=[])
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as bar:
        for seed in range(arguments.seeds):
            bench = Bench(vlm, arguments.n, seed, arguments.layer, results["rows"])
            work = list(bench.work(beside, sweeps=arguments.sweeps and seed == 0))
            for place, arm, make in bar.track(work, description=f"seed {seed}"):
                if any(row["seed"] == seed and row["arm"] == arm for row in results[place]):
                    continue
                begin = time.monotonic()
                results[place].append({"seed": seed, "arm": arm, **make()})
                results["seconds"] = round(results["seconds"] + time.monotonic() - begin)
                saved(arguments.out, results)
    concluded(results)
    saved(arguments.out, results)
    finished(arguments, results)


def concluded(results: Row) -> None:
    """Add the rates, pooled over seeds, of the arms and of the sweeps."""
    about = About(results["n"])
    results["summary"] = pooled(results["rows"], about)
    results["swept"] = [
        {"arm": line["arm"], "task": task, "metric": metric, **rate}
        for line in pooled(results["sweeps"], about)
        for name, rate in line.items()
        for task, slash, metric in (name.partition("/"),)
        if slash
    ]


def pooled(rows: Sequence[Row], about: About) -> list[Row]:
    """One entry per arm: by "task/metric", and by "attacks/metric" over both kinds of picture."""
    found = []
    for arm in dict.fromkeys(row["arm"] for row in rows):
        mine = sorted((row for row in rows if row["arm"] == arm), key=lambda row: row["seed"])
        seeds = [row["seed"] for row in mine]
        line: Row = {"arm": arm, "seeds": seeds}
        groups = {**{task: (task,) for task in mine[0]["cells"]}, "attacks": ATTACKS}
        for name, tasks in groups.items():
            cells = [row["cells"][task] for row in mine for task in tasks]
            answered = [Judgement(*entry) for cell in cells for entry in cell]
            by = about.clusters(seeds, tasks)
            sample = load_benchmark(tasks[0])(1)[0]
            for metric in metrics_of(sample):
                rate = METRICS[metric].rate(answered, by)
                line[f"{name}/{metric}"] = rate.rounded()
            if sample.label == "harmful":  # right means that it names the thing and does not refuse
                line[f"{name}/named_rate"] = METRICS["utility"].rate(answered, by).rounded()
        found.append(line)
    return found


def stored(found: tuple[Cells, Mapping[str, float]]) -> Row:
    """Judged answers as they are written to the file, and what was counted beside them."""
    cells, note = found
    return {"cells": {task: [list(each) for each in told] for task, told in cells.items()}, **note}


class Bench:
    """All rows of one seed; fits run when a row first needs them."""

    def __init__(self, vlm: VLM, n: int, seed: int, layer: str, rows: list[Row]) -> None:
        self.vlm, self.n, self.seed, self.rows = vlm, n, seed, rows
        self._data: FitData | None = None
        self._tests: Tests = {}
        self._fits: dict[str, Artifact] = {}
        self.words = words_for(BUNDLED)
        # The bundled model's own list is the default there; on another model it has to be named.
        self._named: Row = {} if vlm.name == BUNDLED else {"words": self.words}
        self._searched: Row = {**self._named, "layer": layer, **AUTO}

    def work(self, beside: Container[str], *, sweeps: bool) -> Iterator[Work]:
        """The rows to measure, in order; `beside` are the controls among them."""
        yield "rows", "none", self.plain
        arms: Mapping[str, Row] = {
            "published form": self._named,
            "generic words": {"words": GENERIC_WORDS},
            "chosen setting": self._searched,
        }
        for arm, settings in arms.items():
            yield "rows", arm, partial(self.row, settings, "rai")
            for control in (name for name in CONTROLS if name in beside):
                yield "rows", f"{arm}, {control}", partial(self.row, settings, control)
        own = "chosen setting, benign words and their own gate"
        yield "rows", own, partial(self.around_chosen, {"words": self.benign}, TASKS)
        if sweeps:
            for arm, change in self.swept().items():
                yield "sweeps", arm, partial(self.around_chosen, change, SWEPT)

    def swept(self) -> Mapping[str, Row]:
        """Variations of the chosen setting, one change at a time."""
        mixed = random.Random(0).sample(self.words, len(self.words))
        counts = [k for k in COUNTS if k <= len(mixed)]
        step = max(1, round(self.vlm.num_layers / 10))
        layers = ["embed", *range(0, self.vlm.num_layers, step)]
        kinds = ("words", "contextual")
        return {
            **{f"strength {s:g}": {"strength": s} for s in STRENGTHS},
            **{f"ratio {r:g}": {"ratio": r} for r in RATIOS},
            **{f"{k} words": {"words": tuple(mixed[:k])} for k in counts},
            **{
                f"layer {layer}, {kind}": {"layer": layer, "prototypes": kind}
                for kind in kinds
                for layer in layers
            },
            "centered": {"centered": True},
            "norm matched": {"norm_matched": True},
            "one token a prompt": {"top_k": 1},
        }

    @property
    def benign(self) -> tuple[str, ...]:
        """As many plain words as risky ones, as far as there are enough."""
        return PLAIN_WORDS[: len(self.words)]

    def plain(self) -> Row:
        """The undefended model."""
        return stored(judgements(self.vlm, self.tests(TASKS)))

    def row(self, settings: Row, control: str) -> Row:
        """RAI with these settings, or one of its controls."""
        again = AUTO.items() <= settings.items() and control != "rai"
        return self.of(self.fit(self.chosen() if again else settings), control, TASKS)

    def around_chosen(self, change: Row, tasks: tuple[str, ...]) -> Row:
        """RAI with the chosen setting and one change."""
        return self.of(self.fit({**self.chosen(), **change}), "rai", tasks)

    def chosen(self) -> Row:
        """Layer, ratio and strength as the search left them; a resumed run reads them off."""
        mine = (row for row in self.rows if row["seed"] == self.seed)
        found = next((row for row in mine if row["arm"] == "chosen setting"), None)
        setting = self.fit(self._searched).fitted if found is None else found
        return {
            **self._named,
            "layer": setting["layer"],
            "ratio": setting["ratio"],
            "strength": setting["strength"],
        }

    def of(self, artifact: Artifact, control: str, tasks: tuple[str, ...]) -> Row:
        """A row with the setting that was used."""
        site = injection_of(*RAI().resolve(self.vlm, artifact)).site
        shift = controls(self.vlm, artifact, seed=self.seed)[control]
        used = {name: artifact.fitted[name] for name in ("layer", "tau", "strength", "ratio")}
        note = {"K": len(artifact.fitted["words"]), "calibration": artifact.card["calibration"]}
        return {**used, **note, **stored(judgements(self.vlm, self.tests(tasks), site, shift))}

    def fit(self, settings: Row) -> Artifact:
        """A fit on the fit split; runs once."""
        key = json.dumps(settings, sort_keys=True)
        if key not in self._fits:
            if self._data is None:
                self._data = fit_data(FitPlan(seed=self.seed))
            defense = RAI(**settings)
            self._fits[key] = defense.fit(self.vlm, self._data, seed=self.seed, progress=False)
        return self._fits[key]

    def tests(self, tasks: tuple[str, ...]) -> Tests:
        """Samples of the test split."""
        if not self._tests:
            self._tests = {task: load_benchmark(task)(self.n, seed=self.seed) for task in TASKS}
        return {task: self._tests[task] for task in tasks}


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
