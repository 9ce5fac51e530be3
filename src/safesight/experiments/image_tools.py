"""Which part of an image-tool call makes a model safer? An experiment with twelve conditions.

    safesight run image_tools -o image_tools.json

The same samples are answered under every condition of `safesight.tools.conditions`, with greedy
decoding and the call tag banned, and judged. The results are the rate of each condition and the
paired contrasts of `contrasts`:

total                    the effect of a tool call; the sum of the next three
schema, call, picture    the offer, the call's text, the returned picture
picture without a call   an extra picture alone
own description, length  an extra turn of text alone; a longer prompt alone
blank .. error           whether it matters what the tool returns

Samples without a picture are left out. The conditions work on the samples' own pictures; no
defense is attached. Nothing is fitted, and no choice depends on the results.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache, partial
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, TypeAdapter, ValidationError

from safesight.benchmarks import load_benchmark
from safesight.compare import metrics_of
from safesight.console import stdout, track
from safesight.errors import InputError
from safesight.experiments.contrasts import Judged, contrasts_of, rates_of, table_of
from safesight.files import parsed, write_text
from safesight.grammar import ANY_MODEL, check_task, load_judge
from safesight.grid import print_grid
from safesight.judges.broken import broken
from safesight.judges.scope import common_judge
from safesight.records import Record, code_hash
from safesight.tools import CONDITIONS, Condition, condition
from safesight.tools.conditions import DESCRIBE
from safesight.types import Sample, group_of

if TYPE_CHECKING:
    from PIL.Image import Image

    from safesight.models import VLM
    from safesight.tools import ToolSetup

__all__ = ["Recipe", "run"]

# Names no objects: a model may take those for what the picture shows.
_NEUTRAL = "this is a text, and after it there is another one like it."


class Recipe(Record):
    """Settings of the experiment. Unknown keys are errors."""

    model: str = "testbed"
    dtype: str | None = None
    device: str | None = None
    tasks: tuple[str, ...] = Field(
        ("image_harm", "typographic_harm", "over_refusal", "vqa"), min_length=1
    )
    """Benchmarks of the registry."""
    conditions: tuple[str, ...] = Field(tuple(CONDITIONS), min_length=1)
    n: int = Field(300, ge=1, le=1_000_000)
    """Samples per task, before those without a picture are left out."""
    seed: int = Field(0, ge=0, lt=2**32)
    benign_pictures: str = "vqa"
    """The benchmark whose pictures `tool_benign` returns."""
    unsafe_pictures: str = "image_harm"
    """The same for `tool_unsafe`; never the sample's own picture."""
    judge: str | None = None
    """A registered judge; None for the one that knows most about the model."""
    max_new_tokens: int = Field(32, ge=1)
    batch_size: int = Field(32, ge=1)


def run(settings: dict[str, Any], output: Path) -> None:
    """Run what is missing in `output`, and print the table of contrasts.

    Raises:
        InputError: a setting is invalid, or `output` belongs to another recipe or model.
    """
    recipe = _recipe(settings)
    from safesight.models import VLM

    vlm = VLM.load(recipe.model, dtype=recipe.dtype, device=recipe.device)
    found = _Results(output, recipe, vlm)
    for task in recipe.tasks:
        missing = [name for name in recipe.conditions if not found.has(task, name)]
        if missing:
            samples = _samples(task, recipe)
            for name in missing:
                found.add(task, name, _answered(vlm, recipe, name, samples))
    print_grid(stdout(), table_of(found.finish()))
    for caveat in _caveats(recipe):
        stdout().print(caveat)


def _caveats(recipe: Recipe) -> list[str]:
    """What the judge's verdicts do not show, a sentence each."""
    judge = load_judge(str(recipe.judge))
    samples = [sample for task in recipe.tasks for sample in _samples(task, recipe)]
    found = (judge.caveat(recipe.model, sample) for sample in samples)
    return list(dict.fromkeys(caveat for caveat in found if caveat))


class _Results:
    """The answers so far, saved to a file after every cell."""

    def __init__(self, path: Path, recipe: Recipe, vlm: VLM) -> None:
        self.path, self.recipe = path, recipe
        self.head = {
            "recipe": recipe.model_dump(mode="json"),
            "identity": vlm.identity,
            "conditions": dict(CONDITIONS),
        }
        self.cells: dict[str, list[dict[str, Any]]] = {}
        if path.is_file():
            self.cells = _answers(path, self.head)

    def has(self, task: str, name: str) -> bool:
        return f"{task}/{name}" in self.cells

    def add(self, task: str, name: str, answers: Sequence[Judged]) -> None:
        self.cells[f"{task}/{name}"] = [asdict(answer) for answer in answers]
        self._write({})

    def finish(self) -> list[dict[str, Any]]:
        """Compute and save all rates and contrasts; returns the contrasts."""
        about = {
            task: {sample.id: group_of(sample.facts) for sample in _samples(task, self.recipe)}
            for task in self.recipe.tasks
        }
        cells = {}
        for key, answers in self.cells.items():
            task, _, name = key.rpartition("/")
            for answer in answers:
                answer["group"] = about[task].get(answer["sample"])
            cells[task, name] = [Judged(**answer) for answer in answers]
        contrasts = contrasts_of(cells)
        self._write({"rates": rates_of(cells), "contrasts": contrasts})
        return contrasts

    def _write(self, counted: dict[str, Any]) -> None:
        text = json.dumps(
            {**self.head, "code": code_hash(), **counted, "answers": self.cells}, indent=1
        )
        write_text(self.path, text + "\n")


def _answers(path: Path, head: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The answers in a file of results, by task and condition.

    Raises:
        InputError: it is damaged, or holds something else.
    """
    try:
        old = parsed(path.read_bytes())
        cells = TypeAdapter(dict[str, list[Judged]]).validate_python(old["answers"])
        other = any(old.get(key) != value for key, value in head.items())
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        raise InputError(
            f"{path} is damaged, or holds something else than results. Choose another file."
        ) from None
    if other:
        raise InputError(f"{path} holds results of another recipe or model. Choose another file.")
    return {name: [asdict(answer) for answer in answers] for name, answers in cells.items()}


def _recipe(settings: dict[str, Any]) -> Recipe:
    try:
        recipe = Recipe(**settings)
    except ValidationError as error:
        detail = error.errors()[0]
        place = ".".join(map(str, detail["loc"]))
        raise InputError(f"The recipe has an invalid {place}: {detail['msg']}.") from error
    unknown = [name for name in recipe.conditions if name not in CONDITIONS]
    if unknown:
        raise InputError(f"There is no condition {unknown[0]!r}. Use {', '.join(CONDITIONS)}.")
    for task in (*recipe.tasks, recipe.benign_pictures, recipe.unsafe_pictures):
        check_task(task)
    for task in recipe.tasks:
        if not metrics_of(task):
            raise InputError(
                f"The experiment has no metrics for {task!r}. Use tasks of the bundled world, such "
                "as image_harm or vqa."
            )
    judge = common_judge(recipe.model, recipe.tasks, recipe.judge) or ANY_MODEL
    return recipe.model_copy(update={"judge": judge})


def _samples(task: str, recipe: Recipe) -> list[Sample]:
    found = load_benchmark(task)(recipe.n, seed=recipe.seed)
    shown = [sample for sample in found if sample.pictures]
    if not shown:
        raise InputError(f"No sample of {task!r} has a picture. Choose another task.")
    return shown


def _answered(vlm: VLM, recipe: Recipe, name: str, samples: Sequence[Sample]) -> list[Judged]:
    """The judged answers of one condition."""
    judge = load_judge(str(recipe.judge))
    make = partial(_made, vlm, recipe, name, vlm.tool_setup())
    starts = range(0, len(samples), recipe.batch_size)
    judged = []
    for start in track(starts, name):
        batch = samples[start : start + recipe.batch_size]
        answers, lengths = _generated(vlm, recipe, make(batch, start))
        for answer, sample, length in zip(answers, batch, lengths, strict=True):
            verdict, right = judge(answer, sample), judge.correct(answer, sample)
            debris = broken(judge, answer, sample, recipe.model)
            words = len(answer.split())
            judged.append(Judged(sample.id, verdict, right, words, length, debris))
    return judged


def _generated(vlm: VLM, recipe: Recipe, made: Sequence[Condition]) -> tuple[list[str], list[int]]:
    """Answers without calls, and the length of every prompt in tokens."""
    from safesight.defenses.image_tools.traces import call_tags
    from safesight.generation.calls import setting

    asked = [each.messages for each in made]
    inputs = vlm.encode(asked, tools=made[0].offered, tags=vlm.tool_setup().tags)
    banned = [*(setting(vlm, {}, "bad_words_ids") or ()), *call_tags(vlm)]
    sequences = vlm.generate(inputs, max_new_tokens=recipe.max_new_tokens, bad_words_ids=banned)
    lengths = inputs["attention_mask"].sum(dim=1).tolist()
    return vlm.decode(sequences, inputs["input_ids"].shape[1]), lengths


def _made(
    vlm: VLM, recipe: Recipe, name: str, setup: ToolSetup, batch: Sequence[Sample], start: int
) -> list[Condition]:
    """The condition for each sample of the batch that starts at index `start`."""
    asked = [sample.messages() for sample in batch]
    texts = [""] * len(batch)
    pictures: list[Image | None] = [None] * len(batch)
    if name == "describe":
        texts = _described(vlm, recipe, batch)
    elif name == "length":
        texts = _neutral(vlm, setup, asked)
    elif name in ("tool_benign", "tool_unsafe"):
        source = recipe.benign_pictures if name == "tool_benign" else recipe.unsafe_pictures
        pictures = [_other(source, recipe, start + i, s) for i, s in enumerate(batch)]
    return [
        condition(name, messages, setup, text=text, picture=picture)
        for messages, text, picture in zip(asked, texts, pictures, strict=True)
    ]


def _described(vlm: VLM, recipe: Recipe, batch: Sequence[Sample]) -> list[str]:
    """The model's own descriptions."""
    asked = [replace(s.reworded(DESCRIBE), system=None).messages() for s in batch]
    texts: list[str] = vlm.answer(asked, max_new_tokens=recipe.max_new_tokens)
    return texts


def _neutral(vlm: VLM, setup: ToolSetup, batch: Sequence[Sequence[Any]]) -> list[str]:
    """Neutral texts whose tokens make up the difference between tool and direct prompts."""
    direct, longer = (
        vlm.encode([each.messages for each in made], tools=made[0].offered, tags=setup.tags)[
            "attention_mask"
        ]
        for made in (
            [condition(name, messages, setup) for messages in batch] for name in ("direct", "tool")
        )
    )
    extra = longer.sum(dim=1) - direct.sum(dim=1)
    return [_filler(vlm, int(tokens)) for tokens in extra]


def _filler(vlm: VLM, tokens: int) -> str:
    """Neutral text, cut after the word that reaches the number of tokens."""
    words: list[str] = []
    for word in cycle(_NEUTRAL.split()):
        words.append(word)
        text = " ".join(words)
        # With a leading space, as inside a prompt: without it the first word may be several tokens.
        if len(vlm.tokenizer(f" {text}", add_special_tokens=False)["input_ids"]) >= tokens:
            return text
    raise AssertionError


def _other(task: str, recipe: Recipe, index: int, sample: Sample) -> Image:
    """A picture from a benchmark's fit split that shows something other than the sample."""
    pool = _pool(task, recipe.n, recipe.seed)
    shown = [s for s in pool if s.image is not None and not _alike(s, sample)]
    if not shown:
        raise InputError(f"No sample of {task!r} shows something else. Choose another task.")
    chosen = shown[index % len(shown)].image
    assert chosen is not None
    return chosen()


def _alike(one: Sample, other: Sample) -> bool:
    """Whether two samples are about the same, or show a thing in common."""
    things = (set(each.facts.get("concepts") or ()) for each in (one, other))
    return one.target == other.target or not set.isdisjoint(*things)


@cache
def _pool(task: str, n: int, seed: int) -> list[Sample]:
    found: list[Sample] = load_benchmark(task)(n, seed=seed, split="fit")
    return found


def _text(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}
