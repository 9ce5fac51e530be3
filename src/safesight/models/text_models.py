"""Models of texts that judges use: one that embeds sentences, and one that writes a few words.

A model is loaded once per process and name. "org/name@revision" names a revision of the hub.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from safesight.errors import ModelError
from safesight.models.control_tokens import special_tokens, taken_apart
from safesight.models.loading import Loaded, load_text_model
from safesight.models.template_turns import TEMPLATE_ERRORS, template_turns

__all__ = ["Encoder", "Writer", "Written", "encoder", "writer"]

BATCH = 16
MAX_EMBEDDED = 256
"""Tokens of a text that are embedded."""


@cache
def encoder(name: str) -> Encoder:
    """The sentence encoder with this name.

    Raises:
        ModelError: it cannot be used.
    """
    return Encoder(load_text_model(*_name_and_revision(name), writes=False))


@cache
def writer(name: str) -> Writer:
    """The model with this name, to be asked for a few words.

    Raises:
        ModelError: it cannot be used.
    """
    return Writer(load_text_model(*_name_and_revision(name), writes=True))


def _name_and_revision(name: str) -> tuple[str, str | None]:
    if os.path.isdir(os.path.expanduser(name)):
        return name, None
    place, _, revision = name.partition("@")
    return place, revision or None


class Encoder:
    """Embeds texts: the mean of the last hidden states over the tokens, of length one."""

    def __init__(self, loaded: Loaded) -> None:
        self._model, self._tokenizer = loaded.model, loaded.processor

    @torch.inference_mode()
    def embed(self, texts: Sequence[str]) -> Tensor:
        """The embeddings as the rows of a matrix."""
        rows = []
        for batch in _batches(list(texts)):
            read = self._tokenizer(
                batch, padding=True, truncation=True, max_length=MAX_EMBEDDED, return_tensors="pt"
            ).to(self._model.device)
            states = self._model(**read).last_hidden_state.float()
            mask = read["attention_mask"].unsqueeze(-1)
            mean = (states * mask).sum(1) / mask.sum(1).clamp(min=1)
            rows.append(torch.nn.functional.normalize(mean, dim=-1).cpu())
        return torch.cat(rows)


@dataclass(frozen=True)
class Written:
    """What a model wrote, and how likely each word in question was as the first."""

    text: str
    chances: Mapping[str, float]


class Writer:
    """Writes a few words after a prompt, greedily, in batches."""

    def __init__(self, loaded: Loaded) -> None:
        self._model, self._tokenizer, self.name = loaded.model, loaded.processor, loaded.name
        self._tokenizer.padding_side = "left"
        if self._tokenizer.pad_token_id is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        config = self._model.config.get_text_config()
        self._context: int | None = getattr(config, "max_position_embeddings", None)

    def plain(self, text: str, marks: Sequence[str] = ()) -> str:
        """The text with special tokens and other marks of a prompt taken apart."""
        return taken_apart(text, special_tokens(self._tokenizer, marks))

    def chat_prompt(self, question: str, answer: str, **more: Any) -> str:
        """A question and its answer in the model's own chat template.

        Raises:
            ModelError: it has none, or it does not take such a conversation.
        """
        template = str(self._tokenizer.chat_template or "")
        if not template:
            raise ModelError(
                f"{self.name!r} has no chat template. Choose another checkpoint of it."
            )
        turns = [
            {"role": role, "content": [{"type": "text", "text": text}]}
            for role, text in (("user", question), ("assistant", answer))
        ]
        try:
            prompt: str = self._tokenizer.apply_chat_template(
                template_turns(self._tokenizer, turns, **more),
                tokenize=False,
                add_generation_prompt=True,
                **more,
            )
        except TEMPLATE_ERRORS as error:
            raise ModelError(
                f"The chat template of {self.name!r} does not take a question and its answer "
                f"({error}). Choose another checkpoint of it."
            ) from error
        return prompt

    def fits(self, prompt: str, new_tokens: int) -> bool:
        """Whether the model can read the whole prompt and write after it."""
        length = len(self._tokenizer(prompt)["input_ids"])
        return self._context is None or length + new_tokens <= self._context

    @torch.inference_mode()
    def write(
        self, prompts: Sequence[str], new_tokens: int, words: Sequence[str] = (), *, begun: bool
    ) -> list[Written]:
        """What the model writes after each prompt.

        Args:
            prompts: Texts, as the model reads them.
            new_tokens: Maximum number of new tokens.
            words: Words whose chance to come first is of interest, each one token.
            begun: Whether prompts begin with the token that begins a text.

        Raises:
            ModelError: a word is not a token of the model.
        """
        ids = [self._token(word) for word in words]
        written = []
        for batch in _batches(list(prompts)):
            read = self._tokenizer(
                batch, padding=True, add_special_tokens=not begun, return_tensors="pt"
            ).to(self._model.device)
            read.pop("token_type_ids", None)
            made = self._model.generate(
                **read,
                max_new_tokens=new_tokens,
                do_sample=False,
                temperature=None,
                top_p=None,
                top_k=None,
                pad_token_id=self._tokenizer.pad_token_id,
                return_dict_in_generate=True,
                output_logits=True,
            )
            new = made.sequences[:, read["input_ids"].shape[1] :]
            texts = self._tokenizer.batch_decode(new, skip_special_tokens=True)
            chances = made.logits[0].float().softmax(-1)[:, ids].tolist()
            written += [
                Written(text, dict(zip(words, row, strict=True)))
                for text, row in zip(texts, chances, strict=True)
            ]
        return written

    def _token(self, word: str) -> int:
        found = self._tokenizer.get_vocab().get(word)
        if found is None:
            raise ModelError(
                f"{self.name!r} has no token for {word!r}, which it should answer with. Choose a "
                "checkpoint of this family."
            )
        return int(found)


def _batches(texts: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(texts), BATCH):
        yield texts[start : start + BATCH]
