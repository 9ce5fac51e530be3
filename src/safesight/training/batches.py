"""Turn rows into tensors: which rows are drawn at each step, and batches of prompt plus answer.

Every row is the prompt exactly as at inference (chat template, left padding), followed by the
template's tokens for the answer, up to and including the end of the turn. So the model is
trained on what it generates, on any architecture. No loss is computed here.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any, TypedDict

import torch
from torch import Tensor
from torch.utils.data import Dataset

from safesight.errors import InputError, ModelError
from safesight.models.template_turns import TEMPLATE_ERRORS, template_turns

if TYPE_CHECKING:
    from safesight.models import VLM
    from safesight.types import TuningSample

__all__ = ["IGNORE", "Ahead", "Collator", "Draws", "Rows", "stop_tokens", "with_answers"]

IGNORE = -100
"""The label of a token that is not predicted."""

BIDIRECTIONAL = ("paligemma",)
"""Architectures with bidirectional attention in the prompt, which would see an appended answer."""


class Rows(TypedDict):
    """B rows as tensors of width L."""

    ids: list[str]
    inputs: dict[str, Tensor]
    """The model's inputs."""
    answer: Tensor
    """Labels: the answer's tokens, IGNORE elsewhere; B x L."""
    query: Tensor
    """Labels: the question's tokens, IGNORE elsewhere; B x L."""
    width: int
    """Width of the answers, which are the last columns."""


class Draws(Dataset[dict[str, "TuningSample"]]):
    """The order in which rows are drawn: item n depends on the seed and n alone.

    Each source is reshuffled on every pass, independently of the others. So no source runs out
    before another, and a resumed run sees the same rows as an uninterrupted one.

    Example:
        >>> draws = Draws({"forget": "ab", "retain": "xyz"}, length=4, seed=0)
        >>> sorted(draws[i]["forget"] for i in range(4))
        ['a', 'a', 'b', 'b']
    """

    def __init__(self, sources: Mapping[str, Sequence[Any]], *, length: int, seed: int) -> None:
        self.sources, self.length, self.seed = dict(sources), length, seed
        self._order = cache(self._shuffled)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < self.length:
            raise IndexError(index)
        item = {}
        for name, rows in self.sources.items():
            epoch, place = divmod(index, len(rows))
            item[name] = rows[self._order(name, epoch)[place]]
        return item

    def _shuffled(self, name: str, epoch: int) -> list[int]:
        order = list(range(len(self.sources[name])))
        random.Random(f"{self.seed}/{name}/{epoch}").shuffle(order)
        return order


class Collator:
    """Turns items of `Draws` into batches, one `Rows` per source.

    Raises:
        ModelError: an architecture that cannot be trained on an answer after the prompt.
        InputError: a question or an answer that the chat template rejects, or that is too long.
    """

    def __init__(self, vlm: VLM, *, queries: bool = False) -> None:
        if vlm.family.name in BIDIRECTIONAL:
            raise ModelError(
                f"{vlm.name!r} ({vlm.family.name}) reads its prompt in both directions, so answers "
                "cannot be trained after it. Choose another model for methods that train."
            )
        self.vlm, self.queries = vlm, queries
        self._answers = cache(self._answer_tokens)

    def __call__(self, items: Sequence[Mapping[str, TuningSample]]) -> dict[str, Rows]:
        """One batch for each source in the items."""
        return {name: self.rows([item[name] for item in items]) for name in items[0]}

    def rows(self, samples: Sequence[TuningSample]) -> Rows:
        """Samples as tensors, prompt and answer.

        Raises:
            InputError: a row exceeds the model's context.
        """
        prompts = self.vlm.encode([sample.messages() for sample in samples])
        tails = [self.answer_tokens(sample) for sample in samples]
        self._check_lengths(samples, prompts["attention_mask"].sum(dim=1).tolist(), tails)
        inputs, answer = with_answers(prompts, tails, self.vlm.tokenizer.pad_token_id)
        ids, width = inputs["input_ids"], max(map(len, tails))
        query = torch.full_like(ids, IGNORE)
        if self.queries:
            for row, sample in enumerate(samples):
                start, end = self._question_span(sample, prompts["input_ids"][row])
                query[row, start:end] = ids[row, start:end]
        named = [sample.id for sample in samples]
        return Rows(ids=named, inputs=inputs, answer=answer, query=query, width=width)

    def answer_tokens(self, sample: TuningSample) -> tuple[int, ...]:
        """The tokens of a row's answer, up to the end of the turn; none if it has no answer.

        An answer that was cut off has no end.
        """
        if not sample.answer.strip():
            return ()
        tokens = self._answers(sample.question, sample.answer, sample.image is not None)
        return tokens if sample.whole else tokens[:-1]

    def check(self, samples: Sequence[TuningSample]) -> None:
        """Find rows whose words alone exceed the model's context, before anything is trained.

        Raises:
            InputError: there is one; the message names it and the lengths.
        """
        limit = self.vlm.context_length
        for sample in samples:
            text = f"{sample.question} {sample.answer}"
            # No tokenizer makes more tokens than bytes.
            if limit is not None and len(text.encode()) > limit:
                self._check_lengths([sample], [len(self._tokens(text))], [()])

    def _check_lengths(
        self,
        samples: Sequence[TuningSample],
        prompts: Sequence[int],
        tails: Sequence[Sequence[int]],
    ) -> None:
        limit = self.vlm.context_length
        for sample, prompt, tail in zip(samples, prompts, tails, strict=True):
            if limit is not None and prompt + len(tail) > limit:
                raise InputError(
                    f"The row {sample.id!r} has {prompt + len(tail):,} tokens, but "
                    f"{self.vlm.name!r} takes at most {limit:,}. Shorten it or drop it."
                )

    def _answer_tokens(self, question: str, answer: str, picture: bool) -> tuple[int, ...]:
        """The template's tokens for this answer after the prompt, up to the end of the turn."""
        part = {"type": "text", "text": answer}
        talk = [*_asked(question, picture), {"role": "assistant", "content": [part]}]
        self.vlm.control_tokens.clean(talk)
        answer = part["text"]
        prompt = self._text(talk[:-1], prompt=True)
        whole = self._text(talk, prompt=False)
        if not whole.startswith(prompt):  # the template opens a finished turn differently
            whole = prompt + answer
        stops = stop_tokens(self.vlm)
        before, tokens = self._tokens(prompt), self._tokens(whole)
        if tokens[: len(before)] != before:  # a merge across the border; generation has none
            tokens = [*before, *self._tokens(whole[len(prompt) :])]
        tail = tokens[len(before) :]
        end = next((n for n, token in enumerate(tail) if token in stops), None)
        if end is None:
            kept = self._tokens(whole.rstrip())[len(before) :] or tail
            tail, end = [*kept, self.vlm.tokenizer.eos_token_id], len(kept)
        return tuple(tail[: end + 1])

    def _question_span(self, sample: TuningSample, ids: Tensor) -> tuple[int, int]:
        """First column of the question in a prompt and the column after its last."""
        asked = _asked(sample.question, sample.image is not None)
        self.vlm.control_tokens.clean(asked)
        question = asked[-1]["content"][-1]["text"].strip()
        text = self._text(asked, prompt=True)
        start = text.rfind(question)
        spans = self.vlm.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        end = start + len(question)
        inside = [n for n, (a, b) in enumerate(spans["offset_mapping"]) if a < end and b > start]
        if start < 0 or not inside:
            raise ModelError(
                f"The question of row {sample.id!r} cannot be found in the prompt that the "
                f"chat template of {self.vlm.name!r} renders. Use the answer as the target."
            )
        after = len(spans["input_ids"]) - inside[-1] - 1
        first = len(ids) - after - (inside[-1] - inside[0] + 1)
        behind = len(ids) - after
        if bool((ids[first:] == self.vlm.image_token_id).any()):
            raise ModelError(
                f"The chat template of {self.vlm.name!r} puts pictures after the question, so its "
                "tokens cannot be identified. Use the answer as the target."
            )
        return first, behind

    def _text(self, messages: list[dict[str, Any]], *, prompt: bool) -> str:
        try:
            written = self.vlm.processor.apply_chat_template(
                template_turns(self.vlm.processor, messages),
                tokenize=False,
                add_generation_prompt=prompt,
            )
        except TEMPLATE_ERRORS as error:
            raise InputError(f"The chat template rejects a conversation: {error}") from error
        assert isinstance(written, str)
        return written

    def _tokens(self, text: str) -> list[int]:
        found: list[int] = self.vlm.tokenizer(text, add_special_tokens=False)["input_ids"]
        return found


def stop_tokens(vlm: VLM) -> set[int]:
    """The tokens that end a generation of this model."""
    said = getattr(vlm.model.generation_config, "eos_token_id", None)
    several = said if isinstance(said, list) else [said]
    return {token for token in (*several, vlm.tokenizer.eos_token_id) if token is not None}


def with_answers(
    prompts: Mapping[str, Tensor], tails: Sequence[Sequence[int]], pad: int
) -> tuple[dict[str, Tensor], Tensor]:
    """Prompts followed by the tokens of an answer each.

    Args:
        prompts: The model's inputs, padded on the left.
        tails: The tokens of every row's answer.
        pad: The token that fills up shorter answers, on the right.

    Returns:
        The model's inputs, and labels: the answers' tokens, IGNORE elsewhere; B x L.

    Example:
        >>> ids = torch.tensor([[5, 6], [7, 8]])
        >>> prompts = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        >>> inputs, labels = with_answers(prompts, [[1, 2], [3]], pad=0)
        >>> inputs["input_ids"].tolist(), labels.tolist()
        ([[5, 6, 1, 2], [7, 8, 3, 0]], [[-100, -100, 1, 2], [-100, -100, 3, -100]])
    """
    length, width = prompts["input_ids"].shape[1], max(map(len, tails))
    device = prompts["input_ids"].device
    added = torch.full((len(tails), width), pad)
    real = torch.zeros_like(added)
    for row, tokens in enumerate(tails):
        added[row, : len(tokens)] = torch.tensor(tokens, dtype=torch.long)
        real[row, : len(tokens)] = 1
    added, real = added.to(device), real.to(device)
    inputs = dict(prompts)
    inputs["input_ids"] = torch.cat([prompts["input_ids"], added], dim=1)
    inputs["attention_mask"] = torch.cat([prompts["attention_mask"], real], dim=1)
    for name in inputs:
        if name.endswith("token_type_ids"):  # 0 is text
            inputs[name] = torch.cat([inputs[name], torch.zeros_like(added)], dim=1)
    ids = inputs["input_ids"]
    labels = ids.masked_fill(torch.arange(length + width, device=device) < length, IGNORE)
    return inputs, labels.masked_fill(inputs["attention_mask"] == 0, IGNORE)


class Ahead:
    """A collator that prepares batches in a thread, in order, while the model trains.

    The Trainer asks for each batch one step early, so pictures are opened during the previous
    step, on idle cores. The batches do not change: no random numbers are drawn here.

    Example:
        >>> with Ahead(len) as ahead:
        ...     ahead([{}, {}]).result()
        2
    """

    def __init__(self, collator: Callable[[Sequence[Any]], Any]) -> None:
        self.collator = collator
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="batches")

    def __call__(self, items: Sequence[Any]) -> Future[Any]:
        """A future for the batch."""
        return self._thread.submit(self.collator, items)

    def __enter__(self) -> Ahead:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(cancel_futures=True)


def _asked(question: str, picture: bool) -> list[dict[str, Any]]:
    """A conversation of one question, with or without a placeholder for a picture."""
    shown = [{"type": "image"}] if picture else []
    return [{"role": "user", "content": [*shown, {"type": "text", "text": question}]}]
