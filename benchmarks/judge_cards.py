"""How often the judges without a model are right, on answers whose truth is known.

    python benchmarks/judge_cards.py                      # a few minutes on two CPU cores
    python benchmarks/judge_cards.py --pyrit refusal.csv  # also on PyRIT's labelled refusals

Three truths, each with its own idea of a refusal:

xstest    the answers of GPT-4 and Llama-2 to XSTest (Röttger et al., NAACL 2024), labelled by two
          people. Full refusals and full compliances count. `rules` was made on the Llama-2 file
          alone; nobody looked at its mistakes on the other.
pyrit     `scorer_evals/refusal_scorer/refusal.csv` of the package PyRIT (Microsoft). There, an
          answer that is about something else counts as a refusal. Of 105 answers 14 are neither
          refused in words nor what was asked: ten answer another question, two are messages of an
          error, two talk about how one would go about it. A second line leaves these out.
bundled   answers of the bundled model, undefended and with three defenses, whose truth the exact
          judge knows

The files are not part of the project: `--xstest` is by default the folder `xstest` in
SAFESIGHT_DATA, or in `../shared/data`, and the file of `--pyrit` comes with `pip download pyrit`.
A truth whose files are missing is left out.

Nothing is fitted. Attack success on every other unsafe prompt of XSTest is also shown raw, as
people see it, and corrected: with the judge's card on the remaining prompts, answered by the same
model, and with its card on the answers of the other model. Only numbers are written, to
`runs/benchmarks/judge_cards.json`.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from results_file import ROOT, add_output, finished, opened, saved

from safesight import VLM, registry
from safesight.analysis.outcomes import outcomes
from safesight.defenses import load_defense
from safesight.errors import InputError
from safesight.judges.card import JudgeCard, measured
from safesight.judges.exact import ExactJudge
from safesight.judges.labelled import LabelledAnswer, read_labelled
from safesight.stats import JudgeErrors, corrected_rate, wilson
from safesight.types import Judge

JUDGES = (
    "rules",
    "keywords",
    "keywords_safety_mirage",
    "keywords_gcg",
    "keywords_advbench",
    "keywords_adashield",
)
XSTEST = {"xstest_gpt4": "gpt4", "xstest_llama2": "llama2new"}
XSTEST_COLUMNS = {
    "question": "prompt",
    "answer": "completion",
    "verdict": "final_label",
    "type": "type",
}
PYRIT_COLUMNS = {
    "question": "objective",
    "answer": "assistant_response",
    "verdict": "human_score",
}
PYRIT_VALUES = {"1": "refused", "0": "answered"}
PYRIT_ANSWERS = 105
PYRIT_OFF_TOPIC = {*range(58, 70), 71, 80}
"""Answers, counted from 0, that people called refusals although they refuse nothing in words."""
ARMS = ("none", "sasa", "sft", "npo")
TASKS = ("text_harm", "image_harm", "typographic_harm", "over_refusal", "sensitive_benign")


def main() -> None:
    """Measure on every truth that is missing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    data = Path(os.environ.get("SAFESIGHT_DATA", ROOT.parent / "shared" / "data"))
    parser.add_argument("--xstest", type=Path, default=data / "xstest", help="folder")
    parser.add_argument("--pyrit", type=Path, help="refusal.csv of PyRIT")
    parser.add_argument("--n", type=int, default=100, help="bundled samples per task")
    add_output(parser, "judge_cards")
    arguments = parser.parse_args()
    results = opened(arguments, {"n": arguments.n, "versions": versions()}, cells=[], confusion=[])
    begin = time.monotonic()
    for truth, answers in truths(arguments):
        if any(cell["task"] == truth for cell in results["cells"]):
            continue
        for name in JUDGES:
            card = measured(registry.load("judge", name)(), answers, truth)
            results["cells"] += cells(name, truth, card)
            results["confusion"] += confusion(name, truth, card)
        results["seconds"] += round(time.monotonic() - begin)
        begin = time.monotonic()
        saved(arguments.out, results)
        print(f"{truth}: {len(answers)} answers", flush=True)
    if not any(cell["task"] == "unsafe" for cell in results["cells"]):
        results["cells"] += attacks(arguments.xstest)
        saved(arguments.out, results)
    finished(arguments, results)


def versions() -> list[str]:
    """What is measured."""
    return [f"{name} {registry.load('judge', name)().version}" for name in JUDGES]


def truths(arguments: argparse.Namespace) -> Iterator[tuple[str, Sequence[LabelledAnswer]]]:
    """Every truth whose files are there, by name."""
    for truth, file in XSTEST.items():
        if (path := labelled_file(arguments.xstest, file)).is_file():
            yield truth, read_labelled(path, XSTEST_COLUMNS)
        else:
            print(f"{path} is missing: {truth} is left out")
    if arguments.pyrit is None:
        print("no --pyrit: its labelled refusals are left out")
    else:
        answers = read_labelled(arguments.pyrit, PYRIT_COLUMNS, PYRIT_VALUES)
        yield "pyrit", answers
        if len(answers) == PYRIT_ANSWERS:
            kept = [a for i, a in enumerate(answers) if i not in PYRIT_OFF_TOPIC]
            yield "pyrit_in_words", kept
    yield "bundled", bundled(arguments.n)


def labelled_file(folder: Path, model: str) -> Path:
    """Where XSTest keeps the answers of a model."""
    return folder / f"completions_{model}_labelled.csv"


def bundled(n: int) -> list[LabelledAnswer]:
    """Answers of the bundled model with the verdicts of the judge that knows."""
    vlm = VLM.load("testbed")
    exact = ExactJudge()
    samples = [s for task in TASKS for s in registry.load("benchmark", task)(n)]
    found = []
    for arm in ARMS:
        with nullcontext() if arm == "none" else load_defense(arm).apply(vlm):
            answers = [each.answer for each in outcomes(vlm, samples)]
        found += [
            LabelledAnswer(
                answer=answer,
                truth=exact(answer, sample),
                question=sample.question,
                label=sample.label,
                target=sample.target,
                kind=arm,
                facts=sample.facts,
            )
            for answer, sample in zip(answers, samples, strict=True)
        ]
    return found


def cells(judge: str, truth: str, card: JudgeCard) -> list[dict[str, Any]]:
    """Sensitivity, specificity and agreement about refusals and, where it is known, harm."""
    return [
        {
            "judge": f"`{judge}`",
            "task": truth,
            "metric": f"{row.of} {metric}",
            **getattr(row, metric).model_dump(),
        }
        for row in card.accuracy
        for metric in ("sensitivity", "specificity", "agreement")
    ]


def confusion(judge: str, truth: str, card: JudgeCard) -> list[dict[str, Any]]:
    """What the judge makes of each type and truth, without the answers."""
    return [
        {"judge": judge, "task": truth, **row.model_dump(exclude={"model"})}
        for row in card.confusion
    ]


def attacks(folder: Path) -> list[dict[str, Any]]:
    """Attack success on every other unsafe prompt: raw, corrected in two ways, and true."""
    files = {name: labelled_file(folder, file) for name, file in XSTEST.items()}
    if not all(path.is_file() for path in files.values()):
        return []
    read = {name: read_labelled(path, XSTEST_COLUMNS) for name, path in files.items()}
    found = []
    for name in JUDGES:
        judge = registry.load("judge", name)()
        for model, other in zip(XSTEST, reversed(XSTEST), strict=True):
            unsafe = [
                answer
                for answer in read[model][::2]
                if answer.kind.startswith("contrast_") and answer.truth in ("refused", "answered")
            ]
            hits = [judge(a.answer, a.sample()) == "harmful" for a in unsafe]
            rates: dict[str, Any] = {
                "raw": wilson(sum(hits), len(hits)),
                "true": wilson(sum(a.truth == "answered" for a in unsafe), len(unsafe)),
            }
            for metric, labelled in (("own", read[model][1::2]), ("other", read[other])):
                with suppress(InputError):  # no better than chance on those answers
                    rates[metric] = corrected_rate(hits, errors_on(labelled, judge))
            found += [
                {
                    "judge": f"`{name}`",
                    "task": "unsafe",
                    "metric": f"{model} {metric}",
                    **{key: getattr(rate, key) for key in ("value", "low", "high", "n")},
                }
                for metric, rate in rates.items()
            ]
    return found


def errors_on(answers: Sequence[LabelledAnswer], judge: Judge) -> JudgeErrors:
    """How often a judge is right where an attack succeeds if it is not refused."""
    card = measured(judge, answers, "labelled answers").of("refusal")
    assert card is not None
    return JudgeErrors(
        found=card.specificity.hits,
        hits=card.specificity.n,
        passed=card.sensitivity.hits,
        others=card.sensitivity.n,
    )


if __name__ == "__main__":
    main()
