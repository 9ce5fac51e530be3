"""The Trainer of stages with an adapter: it teaches some answers, and holds on to others.

What is kept must stay what it was, and that is decided where the answer begins:

    loss = 1/B [ w sum_taught sum_t CE_t + sum_kept (KL_1 + w sum_t KL_t) ]

CE_t is that of token t of an answer to teach. KL_t is the divergence between the next tokens of the
model before the stage and of the one in training, before token t of the former's own answer. With
KL_1 alone, nothing holds what follows the first token: some answers begin and then refuse. Plain
texts (`plain`) count as further rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from safesight.testbed.batches import IGNORE
from safesight.testbed.dialogues import Dialogue
from safesight.testbed.smol.answering import KEPT
from safesight.testbed.smol.batches import ChatCollator
from safesight.testbed.smol.plain import divergence
from safesight.testbed.smol.trainer import SmolTrainer

__all__ = ["KeepingCollator", "KeepingTrainer"]

_TOKEN = 0.2
"""The weight w of a token."""


class KeepingCollator(ChatCollator):
    """Notes which rows hold an answer to keep: those in text alone. Others teach its beginning."""

    def __call__(self, dialogues: Sequence[Dialogue]) -> dict[str, Tensor]:
        """As for other stages, and `kept`, a flag for each row."""
        kept = torch.tensor([_is_begun(each) and not each.scenes for each in dialogues])
        return {**super().__call__(dialogues), "kept": kept}

    def _ids(self, dialogue: Dialogue) -> list[int]:
        answer = dialogue.turns[-1][1]
        if not _is_begun(dialogue):
            return super()._ids(dialogue)
        opening = super()._ids(replace(dialogue, turns=dialogue.turns[:-1]))
        said = self.processor.tokenizer(answer.removesuffix(KEPT), add_special_tokens=False)
        return opening + list(said["input_ids"])


def _is_begun(dialogue: Dialogue) -> bool:
    return dialogue.turns[-1][1].endswith(KEPT)


class KeepingTrainer(SmolTrainer):
    """Trains answers, and keeps others of the untouched model."""

    teacher: Any
    """The model before the stage."""
    untouched: Any = None
    """The language model before all stages, which plain texts are kept with."""
    plain: Tensor
    """Plain texts, token ids; texts x tokens."""

    def _answer_loss(self, model: Any, inputs: dict[str, Tensor], classes: Tensor | None) -> Tensor:
        labels, kept = inputs.pop("labels")[:, 1:], inputs.pop("kept")
        states = model.model(**inputs, use_cache=False).last_hidden_state[:, :-1]
        said = labels != IGNORE
        taught = said & ~kept[:, None]
        answers = _TOKEN * F.cross_entropy(
            model.lm_head(states[taught]).float(), labels[taught], reduction="sum"
        )
        drift = self._drift(model, states, inputs, said, kept) if kept.any() else torch.zeros(())
        self.parts["answers"].append(float(answers.detach()) / len(labels))
        self.parts["drift"].append(float(drift.detach()) / len(labels))
        rows = len(labels) + self.stage.plain
        loss: Tensor = (answers + drift + self._worn(model)) / rows
        return loss

    def _worn(self, model: Any) -> Tensor:
        """How far plain texts are from those of the untouched model; each step has its own."""
        if not self.stage.plain:
            return torch.zeros(())
        first = self.state.global_step * self.stage.plain
        ids = self.plain[torch.arange(first, first + self.stage.plain) % len(self.plain)]
        with torch.no_grad():
            before = self.untouched.model(input_ids=ids, use_cache=False).last_hidden_state
        states = model.model(input_ids=ids, use_cache=False).last_hidden_state
        worn = _TOKEN * divergence(model.lm_head, before, states).sum()
        self.parts["plain"].append(float(worn.detach()) / self.stage.plain)
        return worn

    def _drift(
        self, model: Any, states: Tensor, inputs: dict[str, Tensor], said: Tensor, kept: Tensor
    ) -> Tensor:
        """How far the tokens of kept answers are from those of the untouched model."""
        with torch.no_grad():
            before = self.teacher.model(
                input_ids=inputs["input_ids"][kept],
                attention_mask=inputs["attention_mask"][kept],
                use_cache=False,
            ).last_hidden_state[:, :-1]
        places = said[kept]
        moved = divergence(model.lm_head, before[places], states[kept][places])
        first = (places.cumsum(1) == 1)[places]
        return moved[first].sum() + _TOKEN * moved.sum()
