"""Turn dialogues into tensors: the seeded stream of a training stage and its collator.

Example n of a stage is a pure function of (seed, stage, n), so a resumed run sees exactly the
same examples as an uninterrupted one. No loss is computed here.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from safesight.testbed.architecture import messages
from safesight.testbed.concepts import CONCEPTS
from safesight.testbed.curriculum import tool_dialogue
from safesight.testbed.dialogues import Dialogue, redrawn
from safesight.testbed.layout import GRID, layout
from safesight.testbed.scenes import COLORS, Scene
from safesight.testbed.tools import TOOLS

__all__ = ["PATCH_CLASSES", "Collator", "Stream", "pixels"]

IGNORE = -100
PATCH_CLASSES = (*(c.name for c in CONCEPTS), *COLORS)
"""The word for what a patch can show: a concept, by its index, or the background colour."""
_CLASS = {word: index for index, word in enumerate(PATCH_CLASSES)}


class Stream(Dataset[Dialogue]):
    """Dialogues of one stage. Every `tool_every`-th batch offers the image tools.

    Dialogues with tools are four times as long as the others; mixed into every batch, they would
    quadruple the length of all rows. With `styles`, things are redrawn in those, and varied. The
    dialogues of `window` batches are sorted by length together, to keep padding small.
    """

    def __init__(
        self,
        make: Callable[[random.Random], Dialogue],
        key: str,
        *,
        batches: int,
        batch_size: int,
        tool_every: int | None = None,
        styles: Sequence[str] = (),
        window: int = 8,
    ) -> None:
        self.make, self.key, self.styles, self.window = make, key, styles, window
        self.length, self.batch_size, self.tool_every = batches * batch_size, batch_size, tool_every
        self._filled = -1
        self._batches: list[list[Dialogue]] = []

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Dialogue:
        dialogue = self._drawn(index)
        if not self.styles:
            return dialogue
        return redrawn(dialogue, self.styles, random.Random(f"{self.key}/styles/{index}"))

    def _drawn(self, index: int) -> Dialogue:
        batch, place = divmod(index, self.batch_size)
        if self.tool_every and batch % self.tool_every == 1:
            return tool_dialogue(random.Random(f"{self.key}/tools/{index}"))
        window, slot = divmod(batch, self.window)
        if self._filled != window:
            self._batches, self._filled = self._fill(window), window
        return self._batches[slot][place]

    def _fill(self, window: int) -> list[list[Dialogue]]:
        rng = random.Random(f"{self.key}/{window}")
        size = self.batch_size
        drawn = [self.make(rng) for _ in range(self.window * size)]
        drawn.sort(key=lambda d: (len(d.scenes), sum(len(text) for _, text in d.turns)))
        batches = [drawn[i : i + size] for i in range(0, len(drawn), size)]
        rng.shuffle(batches)
        return batches


class Collator:
    """Turns a batch of dialogues into model inputs, with the loss on assistant turns only."""

    TOOL_ROWS = 12
    """Rows kept from a batch with tools, so that it costs about as much as the others."""

    def __init__(self, processor: Any) -> None:
        self.processor = processor
        tokenizer = processor.tokenizer
        self.start, self.end, self.image = (
            tokenizer.convert_tokens_to_ids(t) for t in ("<|assistant|>", "<|end|>", "<image>")
        )
        self.pad: int = tokenizer.pad_token_id

    def __call__(self, dialogues: Sequence[Dialogue]) -> dict[str, Tensor]:
        """Right-padded ids, labels, pixel values and the content of each patch."""
        if any(d.offered for d in dialogues):
            dialogues = dialogues[: self.TOOL_ROWS]
        rows = [self._ids(d) for d in dialogues]
        width = max(map(len, rows))
        ids = torch.full((len(rows), width), self.pad)
        labels = torch.full((len(rows), width), IGNORE)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row)
            labels[i, : len(row)] = torch.tensor(self._labels(row))
            mask[i, : len(row)] = 1
        batch = {"input_ids": ids, "labels": labels, "attention_mask": mask}
        scenes = [s for d in dialogues for s in d.scenes]
        if scenes:
            batch["pixel_values"] = torch.stack([pixels(s) for s in scenes])
            batch["patch_classes"] = torch.stack([patch_classes(s) for s in scenes])
        return batch

    def _ids(self, dialogue: Dialogue) -> list[int]:
        text = self.processor.apply_chat_template(
            messages(dialogue), tools=TOOLS if dialogue.offered else None
        )
        ids: list[int] = []
        for token in self.processor.tokenizer(text, add_special_tokens=False)["input_ids"]:
            ids.extend([token] * (GRID * GRID if token == self.image else 1))
        return ids

    def _labels(self, row: Sequence[int]) -> list[int]:
        """The tokens after each `<|assistant|>`, up to and including `<|end|>`."""
        labels, inside = [], False
        for token in row:
            labels.append(token if inside else IGNORE)
            inside = token == self.start or (inside and token != self.end)
        return labels


def pixels(scene: Scene) -> Tensor:
    """A scene as the image processor renders it: 3 x SIZE x SIZE in [-1, 1]."""
    array = np.asarray(scene.render(), dtype=np.float32)
    return torch.from_numpy(array).permute(2, 0, 1) / 127.5 - 1


def patch_classes(scene: Scene) -> Tensor:
    """What each patch shows, row by row: GRID * GRID indices into `PATCH_CLASSES`, or IGNORE."""
    return torch.tensor([IGNORE if word is None else _CLASS[word] for word in layout(scene)])
