"""Turn dialogues into tensors in the chat format of SmolLM2; the loss is on what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from safesight.testbed.architecture import messages
from safesight.testbed.batches import IGNORE, Collator
from safesight.testbed.dialogues import Dialogue
from safesight.testbed.layout import GRID
from safesight.testbed.smol.architecture import IMAGE

__all__ = ["ChatCollator"]


class ChatCollator(Collator):
    """As for the bundled model, with an assistant turn that begins with three tokens."""

    def __init__(self, processor: Any, *, longest: int = 256) -> None:
        words = processor.tokenizer
        self.processor, self.longest = processor, longest
        self.opening: list[int] = words("<|im_start|>assistant\n", add_special_tokens=False)[
            "input_ids"
        ]
        self.end, self.image = (words.convert_tokens_to_ids(t) for t in ("<|im_end|>", IMAGE))
        self.pad = words.pad_token_id

    def _ids(self, dialogue: Dialogue) -> list[int]:
        text = self.processor.apply_chat_template(
            messages(dialogue), add_generation_prompt=dialogue.turns[-1][0] == "user"
        )
        ids: list[int] = []
        for token in self.processor.tokenizer(text, add_special_tokens=False)["input_ids"]:
            ids.extend([token] * (GRID * GRID if token == self.image else 1))
        return ids[: self.longest]

    def _labels(self, row: Sequence[int]) -> list[int]:
        """The tokens after each opening of an answer, up to and including the end of the turn."""
        labels, inside, size = [], False, len(self.opening)
        for index, token in enumerate(row):
            opened = list(row[max(0, index - size) : index]) == self.opening
            inside = opened or inside
            labels.append(token if inside else IGNORE)
            inside = inside and token != self.end
        return labels
