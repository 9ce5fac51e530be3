"""Words as vectors: the prototypes of `rai`, and the plain words of its controls.

A prototype is the model's representation of a word: its row of the embedding table, or its
hidden state after "the". The words that name risks come from a list in the registry (kind
`word_list`) or from the caller. Nothing here uses pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from safesight import registry
from safesight.activations import Site
from safesight.errors import InputError
from safesight.generation.calls import run_prefill
from safesight.grammar import BUNDLED

if TYPE_CHECKING:
    from safesight.models import VLM

__all__ = [
    "GENERIC_WORDS",
    "PLAIN_WORDS",
    "Prototypes",
    "mean_word",
    "word_tokens",
    "word_vectors",
    "words_for",
]

Prototypes = Literal["words", "contextual"]
"""The word's row of the embedding table, or its hidden state at the chosen layer."""

RISK_WORDS = (
    ("illegal activity", "illegal"),
    ("malware", "malware"),
    ("pornography", "pornography"),
    ("hate speech", "hatred"),
    ("physical harm", "violence"),
    ("fraud", "fraud"),
    ("illegal activity", "drugs"),
    ("malware", "exploit"),
    ("physical harm", "murder"),
    ("physical harm", "weapon"),
    ("malware", "hack"),
    ("fraud", "scam"),
)
"""Categories and words. The categories are from a secondary source; the words are ours, as the
paper's list could not be found. The first six name each category once."""

GENERIC_WORDS = tuple(word for _, word in RISK_WORDS[:9])
"""K = 9, one of the two sizes that a secondary source quotes; all words give K = 12."""

PLAIN_WORDS = tuple(
    "cat dog horse rabbit apple banana bread cake tree rose car bus train bicycle hat shirt "
    "shoe coat guitar piano chair bed door lamp clock book house bridge sun moon star cloud".split()
)
"""Words without risk, for controls and for the mean of contextual states."""

_BEFORE = "the"


def words_for(model: str) -> tuple[str, ...]:
    """The registry's word list with the model's name, or the generic one.

    Models that come with the package share the list of the bundled world.

    Example:
        >>> words_for("some/model")[:2], "bomb" in words_for("testbed")
        (('illegal', 'malware'), True)
    """
    name = BUNDLED if model in registry.names("model", builtin=True) else model
    known = name in registry.names("word_list")
    return tuple(registry.load("word_list", name if known else "generic"))


def word_tokens(tokenizer: Any, word: str) -> list[int]:
    """The shortest tokenization of a word, with or without a space before it.

    If both have the same length, the form with the space is used.

    Raises:
        InputError: the tokenizer has no tokens for it.
    """
    forms: list[list[int]] = [
        tokenizer(text, add_special_tokens=False)["input_ids"] for text in (f" {word}", word)
    ]
    tokens = min(forms, key=lambda form: len(form))
    if not tokens or tokenizer.unk_token_id in tokens:
        raise InputError(f"The model's tokenizer has no tokens for the word {word!r}. Drop it.")
    return tokens


def word_vectors(vlm: VLM, words: Sequence[str], kind: Prototypes, site: Site) -> Tensor:
    """The prototype u_k of every word; K x d, float32.

    Args:
        vlm: The model that represents the words.
        words: K words.
        kind: "words" uses the embedding, averaged over the tokens of a word; "contextual" uses
            the state of its last token at `site`, after "the".
        site: Where contextual states are read.

    Raises:
        InputError: the tokenizer has no tokens for a word.

    Example:
        >>> from safesight import VLM
        >>> from safesight.activations import resid_pre
        >>> vlm = VLM.load("testbed")
        >>> tuple(word_vectors(vlm, ["bomb", "cat"], "words", resid_pre(0)).shape) == (
        ...     2, vlm.hidden_size)
        True
    """
    tokens = [word_tokens(vlm.tokenizer, word) for word in words]
    if kind == "words":
        return torch.stack([_embedded(vlm, torch.tensor(ids)).mean(dim=0) for ids in tokens])
    return torch.cat([_in_context(vlm, ids, site) for ids in tokens])


def mean_word(vlm: VLM, kind: Prototypes, site: Site) -> Tensor:
    """The mean of the space of prototypes; d, float32.

    For embeddings the mean over the vocabulary, for contextual states that over plain words.
    """
    if kind == "contextual":
        return word_vectors(vlm, PLAIN_WORDS, kind, site).mean(dim=0)
    table = torch.arange(len(vlm.embed_tokens.weight))
    # In parts, because a float32 copy of a large table would take gigabytes.
    parts = [_embedded(vlm, part).sum(dim=0) for part in torch.split(table, 4096)]
    return torch.stack(parts).sum(dim=0) / len(table)


@torch.no_grad()
def _embedded(vlm: VLM, tokens: Tensor) -> Tensor:
    """Use the module, not its weight, as some model families scale their embeddings."""
    rows: Tensor = vlm.embed_tokens(tokens.to(vlm.device))
    return rows.float()


def _in_context(vlm: VLM, tokens: list[int], site: Site) -> Tensor:
    tokenizer = vlm.tokenizer
    start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    before = tokenizer(_BEFORE, add_special_tokens=False)["input_ids"]
    ids = torch.tensor([[*start, *before, *tokens]], device=vlm.device)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    _, prefill = run_prefill(vlm, inputs, [site], None)
    return prefill.at_last(prefill.states[site]).float()
