"""The Trainer of `testbed-smol`: the bundled model's, with words of several tokens.

Visual tokens learn from the language model's own embeddings of the words for what they show. A word
of several tokens stands for the mean of their embeddings, as for the defenses that compare visual
tokens with words: its first token alone is often a letter or two (" v" of "vial"), which mean
nothing. Only what a stage trains is written to its checkpoints.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F
from transformers import Trainer, TrainerCallback

from safesight.testbed.batches import IGNORE, PATCH_CLASSES
from safesight.testbed.smol.stages import SmolStage
from safesight.testbed.train import VisionTrainer, alignment

__all__ = ["LogFile", "SmolTrainer", "trained_tensors", "word_table"]

_STATE = "trained.safetensors"


def word_table(model: Any, tokenizer: Any) -> Tensor:
    """The embedding of the word for each of `PATCH_CLASSES`, the mean over its tokens; C x d."""
    table = model.get_input_embeddings().weight.detach()
    ids = [tokenizer(f" {word}", add_special_tokens=False)["input_ids"] for word in PATCH_CLASSES]
    return torch.stack([table[tokens].float().mean(0) for tokens in ids])


def trained_tensors(model: Any) -> dict[str, Tensor]:
    """Copies of all parameters that have gradients."""
    return {
        name: parameter.detach().clone().contiguous()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


class SmolTrainer(VisionTrainer):
    """Trains parts of a model that is otherwise frozen."""

    stage: SmolStage
    table: Tensor
    """As `word_table` makes it."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.parts: defaultdict[str, list[float]] = defaultdict(list)
        """The terms of the loss since they were last logged."""

    def _word_loss(self, model: Any, tokens: Tensor, classes: Tensor) -> Tensor:
        """The contrast between words, around their mean, and the distance to the right one.

        The words of a large vocabulary share most of their direction (a cosine of 0.42 between two
        of ours). Around the mean, that share neither blurs the contrast nor is learned away.
        """
        middle = self.table.mean(0)
        apart = alignment(
            tokens - middle, self.table - middle, classes, temperature=self.stage.temperature
        )
        shown = classes >= 0
        off = (tokens[shown] - self.table[classes[shown]]).square().sum(-1)
        near = off.mean() / self.table.square().sum(-1).mean()
        self.parts["apart"].append(float(apart.detach()))
        self.parts["near"].append(float(near.detach()))
        return self.stage.align * apart + self.stage.near * near

    def _answer_loss(self, model: Any, inputs: dict[str, Tensor], classes: Tensor | None) -> Tensor:
        """Cross entropy of the answers; the large head runs on their tokens alone."""
        labels = inputs.pop("labels")[:, 1:]
        hidden = model.model(**inputs, use_cache=False).last_hidden_state[:, :-1]
        asked = labels != IGNORE
        loss = F.cross_entropy(model.lm_head(hidden[asked]).float(), labels[asked])
        self.parts["answers"].append(float(loss.detach()))
        return loss

    def log(self, logs: dict[str, float], *more: Any, **named: Any) -> None:
        """Log the terms of the loss beside it."""
        means = {name: sum(values) / len(values) for name, values in self.parts.items()}
        self.parts.clear()
        super().log({**logs, **means}, *more, **named)

    def create_optimizer(self, model: Any = None) -> Any:
        """As for the bundled model, and AdamW alone for an adapter, whose factors are no maps."""
        if self.stage.rank:
            return Trainer.create_optimizer(self)
        return super().create_optimizer(model)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        save_file(trained_tensors(self.model), folder / _STATE)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        self.model.load_state_dict(load_file(Path(resume_from_checkpoint) / _STATE), strict=False)


class LogFile(TrainerCallback):  # type: ignore[misc]  # transformers ships no types
    """Appends what the Trainer logs to a file, one JSON object a line."""

    def __init__(self, path: Path, stage: str) -> None:
        self.path, self.stage = path, stage

    def on_log(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Write one line."""
        line = {"stage": self.stage, "step": state.global_step, **more.get("logs", {})}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
