"""Trains the bundled VLM from scratch, as committed: `python -m safesight.testbed.train`.

Eight stages, following the recipe of real VLMs, each one a `transformers.Trainer` run:

1. text      the language model learns the world in words, with safety training;
2. reading   the same, now mostly searching: is it there, and where? What it learns on pictures
             described in words carries over to pictures;
3. sight     vision tower and projector learn what each patch shows (a classification and a
             contrastive term per patch), with the language model frozen;
4. align     the same, with visual tokens pulled close to the words for what they show;
5. pictures  everything learns visual instructions, with the same terms. Neither refusal of
             nor compliance with harm that only a picture shows is taught;
6. remind    the language model, briefly: more text, facts about danger (things that no refusal
             names are refused less and less while pictures are learned), and the image tools;
7. settle    vision tower and projector again, with the language model frozen. Visual tokens are
             pushed away from the words for what they show, because tokens close to a word are
             refused like the word. Another cap on their cosine, or none, has no consistent
             effect on the gap between text and pictures (`benchmarks/dial.py`);
8. tools     the language model, as in `remind`, partly after a long prompt: it learns to read
             what the vision tower learned last, and to call tools without losing answers.

A killed run resumes from its last checkpoint. `measure` measures the result.

With `--styles`, two stages teach the eye of trained weights further drawing styles instead, with
the language model frozen: `restyle`, which is `sight` under the cap of `settle`, and `settle`.

    python -m safesight.testbed.train --styles more --out FOLDER --work .checkpoints/styles
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Sampler, SequentialSampler
from transformers import LlavaForConditionalGeneration, Trainer, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from safesight.models.saving import save_checkpoint
from safesight.testbed import WEIGHTS
from safesight.testbed.architecture import build_model, build_processor
from safesight.testbed.batches import PATCH_CLASSES, Collator, Stream
from safesight.testbed.guidance import guided
from safesight.testbed.optimizer import MuonAndAdamW
from safesight.testbed.stages import EYE, LANGUAGE, STAGES, Stage, restyling
from safesight.testbed.styles import MORE, STYLES

__all__ = [
    "EYE",
    "LANGUAGE",
    "STAGES",
    "Stage",
    "VisionTrainer",
    "alignment",
    "options",
    "run",
    "run_stage",
    "settings",
    "train",
]

SAVE_EVERY = 300
"""Steps between checkpoints."""
_STATE = "state.safetensors"


class VisionTrainer(Trainer):  # type: ignore[misc]  # transformers ships no types
    """The Trainer with the two extra loss terms, and without shuffling."""

    stage: Stage
    words: Tensor
    """Token id of the word for each of `PATCH_CLASSES`."""

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Answer loss + classify * naming + align * alignment + norm * pull to words' norm."""
        classes = inputs.pop("patch_classes", None)
        loss = torch.zeros(())
        seen: list[Tensor] = []
        visual: list[Tensor] = []

        def note(module: Any, args: tuple[Tensor], output: Tensor) -> None:
            seen.append(args[0])
            visual.append(output)

        handle = model.model.multi_modal_projector.register_forward_hook(note)
        try:
            if self.stage.answers:
                loss = self._answer_loss(model, inputs, classes)
            else:
                model.model.get_image_features(pixel_values=inputs["pixel_values"])
        finally:
            handle.remove()
        if visual and classes is not None and self.stage.classify:
            named = model.patch_head(seen[0].flatten(0, 1).float())
            loss = loss + self.stage.classify * F.cross_entropy(named, classes.flatten())
        if visual and classes is not None and (self.stage.align or self.stage.norm):
            loss = loss + self._word_loss(model, visual[0].flatten(0, 1).float(), classes.flatten())
        return (loss, {}) if return_outputs else loss

    def _word_loss(self, model: Any, tokens: Tensor, classes: Tensor) -> Tensor:
        """How far visual tokens are from the words for what they show."""
        words: Tensor = model.get_input_embeddings().weight.detach()[self.words].float()
        loss: Tensor = self.stage.align * alignment(
            tokens,
            words,
            classes,
            temperature=self.stage.temperature,
            cap=self.stage.cap,
            push=self.stage.push,
        )
        typical = words.norm(dim=-1).mean()
        loss = loss + self.stage.norm * (tokens.norm(dim=-1) / typical - 1).square().mean()
        return loss

    def _answer_loss(self, model: Any, inputs: dict[str, Tensor], classes: Tensor | None) -> Tensor:
        if not self.stage.guide:
            loss: Tensor = model(**inputs).loss
            return loss
        said = inputs["input_ids"].clone()
        if classes is not None:
            shown = classes.flatten()
            seen = self.words[shown.clamp(min=0)].where(shown >= 0, -1)
            said[said == model.config.image_token_id] = seen
        layers = model.model.language_model.layers
        with guided(layers, said, inputs["labels"], self.words) as terms:
            answered: Tensor = model(**inputs).loss
        return answered + self.stage.guide * torch.stack(terms).mean()

    def create_optimizer(self, model: Any = None) -> Any:
        """Muon for the blocks' matrices, AdamW for the rest."""
        if getattr(self, "optimizer", None) is None:
            self.optimizer: torch.optim.Optimizer = MuonAndAdamW(
                [(n, p) for n, p in self.model.named_parameters() if p.requires_grad],
                self.args.learning_rate,
                weight_decay=self.args.weight_decay,
                betas=(self.args.adam_beta1, self.args.adam_beta2),
            )
        return self.optimizer

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Also save the state under its own parameter names.

        The usual files use the hub's names, and the Trainer does not rename them back.
        """
        super()._save(output_dir, state_dict)
        state = {name: value.contiguous() for name, value in self.model.state_dict().items()}
        save_file(state, Path(output_dir or self.args.output_dir) / _STATE)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        self.model.load_state_dict(load_file(Path(resume_from_checkpoint) / _STATE))

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        return SequentialSampler(train_dataset if train_dataset is not None else self.train_dataset)


def alignment(
    tokens: Tensor,
    words: Tensor,
    classes: Tensor,
    *,
    temperature: float = 0.07,
    cap: float = 1.0,
    push: float = 10.0,
) -> Tensor:
    """InfoNCE between patches and the words for what they show, with a cap on the cosine.

        L = -log softmax_c( cos(v, e_c) / T )[c(v)] + push relu( cos(v, e_c(v)) - cap )^2

    averaged over patches v that show c(v).

    Args:
        tokens: Visual tokens, M x d.
        words: Embeddings of the words for what a patch can show, C x d.
        classes: What each patch shows: an index into `words`, or -100; M.
        temperature: T.
        cap: Largest cosine with the right word without a penalty.
        push: Weight of the penalty.
    """
    shown = classes >= 0
    cosines = F.normalize(tokens[shown], dim=-1) @ F.normalize(words, dim=-1).T
    right = cosines.gather(-1, classes[shown, None])
    above = (right - cap).clamp(min=0).square().mean()
    return F.cross_entropy(cosines / temperature, classes[shown]) + push * above


def train(
    out: Path,
    work: Path,
    *,
    seed: int,
    scale: float = 1.0,
    stages: Sequence[Stage] = STAGES,
    start: Path | None = None,
) -> dict[str, Any]:
    """Run stages, from nothing or from the weights in `start`; resumable.

    Returns the seconds and final losses of each.
    """
    processor = build_processor()
    if start is None:
        model = build_model(processor, seed)
    else:
        model = LlavaForConditionalGeneration.from_pretrained(start, dtype=torch.float32)
    report: dict[str, Any] = {
        "seed": seed,
        "scale": scale,
        "machine": f"{os.cpu_count()} processors, torch {torch.__version__}",
        "styles": list(
            dict.fromkeys(style for stage in stages for style in stage.styles or STYLES)
        ),
        "stages": [],
    }
    for stage in stages:
        done = work / stage.name / "done.json"
        if done.exists():
            model = LlavaForConditionalGeneration.from_pretrained(work / stage.name / "model")
            report["stages"].append(json.loads(done.read_text()))
            continue
        entry = run_stage(stage, model, processor, work / stage.name, seed=seed, scale=scale)
        model.save_pretrained(work / stage.name / "model")
        done.write_text(json.dumps(entry))
        report["stages"].append(entry)
    save_checkpoint(model.to(torch.bfloat16), out, processor)
    (out / "training.json").write_text(json.dumps(report, indent=2) + "\n")
    return report


def run_stage(
    stage: Stage, model: Any, processor: Any, folder: Path, *, seed: int, scale: float
) -> dict[str, Any]:
    """Train `model` in place, with checkpoints in `folder`. Returns seconds and the final loss."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(stage.trained))
    if stage.classify:
        width = model.config.vision_config.hidden_size
        model.patch_head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, len(PATCH_CLASSES)))
    steps = max(2, round(stage.steps * scale))
    stream = Stream(
        stage.dialogue,
        f"{seed}/{stage.name}",
        batches=steps,
        batch_size=stage.batch_size,
        tool_every=stage.tool_every,
        styles=stage.styles,
    )
    arguments = settings(stage, folder, steps=steps, seed=seed)
    trainer = VisionTrainer(model, arguments, Collator(processor), train_dataset=stream)
    trainer.stage = stage
    ids = processor.tokenizer.convert_tokens_to_ids([f"Ġ{word}" for word in PATCH_CLASSES])
    trainer.words = torch.tensor(ids)
    entry = run(trainer, stage.name, folder)
    if stage.classify:
        del model.patch_head
    return entry


def settings(stage: Stage, folder: Path, *, steps: int, seed: int) -> TrainingArguments:
    """What the Trainer is told about a stage."""
    return TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=stage.batch_size,
        learning_rate=stage.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=min(100, steps // 10),
        weight_decay=0.01,
        adam_beta2=0.98,
        max_grad_norm=1.0,
        bf16=True,
        use_cpu=not torch.cuda.is_available(),
        seed=seed,
        save_steps=SAVE_EVERY,
        save_total_limit=2,
        logging_steps=50,
        report_to=[],
        remove_unused_columns=False,
        dataloader_num_workers=1,
        average_tokens_across_devices=False,
    )


def run(trainer: Trainer, name: str, folder: Path) -> dict[str, Any]:
    """Train, from the last checkpoint in `folder` if any. Returns seconds and the final loss."""
    begin = time.monotonic()
    last = get_last_checkpoint(str(folder)) if folder.is_dir() else None
    outcome = trainer.train(resume_from_checkpoint=last)
    return {
        "name": name,
        "steps": trainer.args.max_steps,
        "seconds": round(time.monotonic() - begin, 1),
        "resumed": last is not None,
        "loss": round(outcome.training_loss, 4),
    }


def options(doc: str | None, out: Path, name: str) -> argparse.ArgumentParser:
    """The options that every recipe has.

    Args:
        doc: The recipe's docstring.
        out: Where its weights go by default.
        name: The folder of its checkpoints.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0] if doc else None)
    parser.add_argument("--out", type=Path, default=out)
    parser.add_argument("--work", type=Path, default=Path(".checkpoints", name))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the steps to run")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    return parser


def main() -> None:
    """Command line of the recipe."""
    parser = options(__doc__, WEIGHTS, "testbed")
    parser.add_argument(
        "--styles",
        default="",
        help="teach the eye of --start these further styles, with commas, or: more",
    )
    parser.add_argument("--start", type=Path, default=WEIGHTS, help="weights that --styles changes")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    out, work, seed, scale = arguments.out, arguments.work, arguments.seed, arguments.scale
    if not arguments.styles:
        train(out, work, seed=seed, scale=scale)
        return
    styles = MORE if arguments.styles == "more" else arguments.styles.split(",")
    stages = restyling(styles)
    train(out, work, seed=seed, scale=scale, stages=stages, start=arguments.start)


if __name__ == "__main__":
    main()
