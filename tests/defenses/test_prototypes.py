"""Words as vectors: which tokens, which rows, whose state, and the middle of them all."""

from __future__ import annotations

import pytest
import torch

from safesight import registry
from safesight.activations import capture, resid_post, resid_pre
from safesight.defenses.rai.prototypes import (
    GENERIC_WORDS,
    PLAIN_WORDS,
    RISK_WORDS,
    mean_word,
    word_tokens,
    word_vectors,
    words_for,
)
from safesight.errors import InputError
from tests import tiny


class Words:
    """A tokenizer of whole words, which knows some with a space before them and some without."""

    unk_token_id = 0

    def __init__(self) -> None:
        self.known = {" bomb": [7], "bomb": [1, 2], "gun": [8], " gun": [3, 4], " long": [5, 6]}

    def __call__(self, text: str, add_special_tokens: bool) -> dict[str, list[int]]:
        assert not add_special_tokens
        return {"input_ids": self.known.get(text, [0, 9, 9])}


@pytest.mark.parametrize(("word", "tokens"), [("bomb", [7]), ("gun", [8]), ("long", [5, 6])])
def test_the_shorter_form_is_taken(word: str, tokens: list[int]) -> None:
    assert word_tokens(Words(), word) == tokens


def test_the_form_with_a_space_wins_ties() -> None:
    words = Words()
    words.known = {" a": [1], "a": [2]}
    assert word_tokens(words, "a") == [1]


def test_unknown_words_are_refused() -> None:
    with pytest.raises(InputError, match="'nothing'"):
        word_tokens(Words(), "nothing")
    empty = Words()
    empty.known = {" ": [], "": []}
    with pytest.raises(InputError, match="tokens"):
        word_tokens(empty, "")


def test_embeddings_are_means_of_their_rows() -> None:
    vlm = tiny.vlm("llava")
    table = vlm.embed_tokens.weight.detach()
    found = word_vectors(vlm, ["ab", "b"], "words", resid_pre(0))
    a, b = (vlm.tokenizer(x, add_special_tokens=False)["input_ids"][0] for x in "ab")
    assert torch.allclose(found, torch.stack([(table[a] + table[b]) / 2, table[b]]))
    assert found.dtype == torch.float32


def test_scaled_embeddings_are_looked_up_as_the_model_does() -> None:
    vlm = tiny.vlm("gemma3")
    token = vlm.tokenizer("b", add_special_tokens=False)["input_ids"][0]
    found = word_vectors(vlm, ["b"], "words", resid_pre(0))[0]
    assert torch.allclose(found, vlm.embed_tokens.weight[token].detach() * vlm.hidden_size**0.5)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_states_in_context(family: str) -> None:
    vlm, site = tiny.vlm(family), resid_post(1)
    found = word_vectors(vlm, ["ab", "xyz"], "contextual", site)
    ids = vlm.tokenizer("<bos>thexyz", add_special_tokens=False, return_tensors="pt")["input_ids"]
    with torch.no_grad(), capture(vlm.layers, [site], tokens="last") as states:
        vlm.model(input_ids=ids, attention_mask=torch.ones_like(ids))
    assert torch.allclose(found[1], states[site][0], atol=1e-5)
    assert not torch.allclose(found[0], found[1], atol=1e-2)


def test_the_middle() -> None:
    vlm = tiny.vlm("llava")
    table = vlm.embed_tokens.weight.detach()
    assert torch.allclose(mean_word(vlm, "words", resid_pre(0)), table.mean(dim=0), atol=1e-6)
    plain = word_vectors(vlm, PLAIN_WORDS, "contextual", resid_post(0))
    assert torch.allclose(mean_word(vlm, "contextual", resid_post(0)), plain.mean(dim=0))


def test_word_lists() -> None:
    assert len({category for category, _ in RISK_WORDS[:6]}) == 6, "K = 6 names each category"
    assert len(GENERIC_WORDS) == 9
    assert len(RISK_WORDS) == 12
    assert len(set(PLAIN_WORDS)) == 32
    harmful = {s.target for s in registry.load("benchmark", "text_harm")(200)}
    assert harmful <= set(words_for("testbed"))
    assert not set(PLAIN_WORDS) & {*words_for("testbed"), *(w for _, w in RISK_WORDS)}
    assert words_for("anything/else") == GENERIC_WORDS
    assert words_for("testbed-smol") == words_for("testbed")
