"""The logit lens: what counts as readable, ranks, and the last layer against the model itself."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from safesight.analysis.lens import _first_tokens, lens, readable, target_ranks, token_text
from safesight.analysis.states import states_before_answer
from safesight.types import Sample
from tests import tiny

FAMILIES = ("llava", "qwen2_5_vl", "gemma3")


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        *[(word, True) for word in ("▁bomb", "Ġthe", "7", "don't", "a<b", "▁<x")],
        *[(word, False) for word in ("<eos>", "▁<image>", "<|assistant|>", "Ġ", "▁", "!?", "é")],
    ],
)
def test_readable(token: str, expected: bool) -> None:
    assert readable(token) is expected


def test_ranks_are_of_the_better_candidate_and_start_at_one() -> None:
    logits = torch.tensor([[3.0, 1.0, 2.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
    assert target_ranks(logits, [[1, 2], [0]]).tolist() == [2, 2]
    assert target_ranks(logits, [[0], [3]]).tolist() == [1, 1]
    assert target_ranks(logits, [[3], [2]]).tolist() == [4, 2]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_last_layer_says_what_the_model_says(family: str) -> None:
    vlm = tiny.vlm(family)
    samples = [
        Sample(str(i), f"question {i}?", "benign", "x", image=partial(tiny.picture, i))
        for i in range(3)
    ]
    with torch.no_grad():
        logits = vlm.model(**vlm.encode([samples[0].messages()])).logits[0, -1].float()
    states = states_before_answer(vlm, samples)[:1]
    said = int(logits.argmax())
    letters = [i for i in range(len(logits)) if _letter(vlm.tokenizer.convert_ids_to_tokens(i))]
    target = vlm.tokenizer.convert_ids_to_tokens(letters[0])
    found = lens(vlm, states, [target], form="object")
    assert found.words[-1][0] in vlm.tokenizer.decode([said])
    assert found.n == 1
    space = vlm.tokenizer(" ", add_special_tokens=False)["input_ids"][0]
    best = max(float(logits[letters[0]]), float(logits[space]))
    assert found.rank[-1] == 1 + int((logits > best).sum())
    top = [vlm.tokenizer.convert_ids_to_tokens(i) for i in logits.topk(5).indices.tolist()]
    assert found.readable[-1].value == pytest.approx(sum(map(readable, top)) / 5)
    assert len(found.readable) == len(found.words) == len(found.rank) == vlm.num_layers


def _byte_level() -> PreTrainedTokenizerFast:
    inner = Tokenizer(models.BPE())
    inner.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=inner)


def _metaspace() -> PreTrainedTokenizerFast:
    inner = Tokenizer(models.BPE())
    inner.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    return PreTrainedTokenizerFast(tokenizer_object=inner)


@pytest.mark.parametrize(
    ("tokenizer", "token", "text"),
    [
        (_byte_level, "Ġsure", "sure"),
        (_byte_level, "Ġ", " "),
        (_byte_level, "ĊĊ", "\n\n"),
        (_byte_level, "cafÃ©", "café"),
        (_byte_level, "<|end▁of▁text|>", "<|end▁of▁text|>"),
        (_metaspace, "▁sure", "sure"),
        (_metaspace, "▁", " "),
        (_metaspace, "<0x0A>", "\n"),
        (_metaspace, "Ġ", "Ġ"),
        (_metaspace, "<none>", "<none>"),
    ],
)
def test_tokens_are_stored_as_text(
    tokenizer: Callable[[], PreTrainedTokenizerFast], token: str, text: str
) -> None:
    assert token_text(tokenizer(), token) == text


def _letter(token: str | None) -> bool:
    return token is not None and len(token) == 1 and token.isascii() and token.isalpha()


def test_rows_are_pooled_layer_by_layer() -> None:
    """Two samples' states of one layer each, swapped: the pooled result is the same."""
    vlm = tiny.vlm("llava")
    states = torch.randn(2, 2, vlm.hidden_size, generator=torch.Generator().manual_seed(0))
    one = lens(vlm, states, ["x", "x"], form="text")
    two = lens(vlm, states.flip(0), ["x", "x"], form="text")
    assert one.rank == two.rank
    assert [band.value for band in one.readable] == [band.value for band in two.readable]
    assert one.rank_low[0] <= one.rank[0] <= one.rank_high[0]


def test_a_token_for_the_space_before_a_word_is_not_its_first() -> None:
    """As of tokenizers that write a mark of its own before each word."""
    inner = Tokenizer(models.WordLevel({"▁": 0, "▁bomb": 1, "bomb": 2}))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex("▁(?=▁)|.+"), "isolated")
    inner.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    inner.decoder = decoders.Metaspace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner)
    assert tokenizer(" bomb")["input_ids"] == [0, 1]
    assert _first_tokens(tokenizer, "bomb") == [1]
