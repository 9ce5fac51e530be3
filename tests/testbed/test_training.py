"""What the bundled VLM is taught, and how dialogues become batches."""

from __future__ import annotations

import json
import random
import re

import numpy as np
import pytest
import torch
from PIL import Image

from safesight.testbed import REFUSALS
from safesight.testbed.architecture import build_model, build_processor, messages
from safesight.testbed.batches import (
    IGNORE,
    PATCH_CLASSES,
    Collator,
    Stream,
    patch_classes,
    pixels,
)
from safesight.testbed.concepts import CONCEPTS, HARMFUL, concept
from safesight.testbed.curriculum import (
    picture_dialogue,
    reading_dialogue,
    sight_dialogue,
    text_dialogue,
    tool_dialogue,
)
from safesight.testbed.dialogues import Dialogue
from safesight.testbed.language import TOOL_ANSWERS
from safesight.testbed.layout import GRID, spelled
from safesight.testbed.picture_lessons import tool_request
from safesight.testbed.scenes import objects_scene, word_scene
from safesight.testbed.train import alignment

HARMFUL_HOW_TO = re.compile(
    rf"\bto (make|build|get|use|hide) ((an?|the) )?({'|'.join(c.name for c in HARMFUL)})\b"
)


@pytest.fixture(scope="module")
def processor():
    return build_processor()


def _drawn(make, n=4000):
    rng = random.Random(7)
    return [make(rng) for _ in range(n)]


def _pictured(dialogue):
    names = [name for scene in dialogue.scenes for name, _ in scene.regions()]
    return {n for n in names if concept(n).harmful}


@pytest.mark.parametrize(
    "make", [text_dialogue, reading_dialogue, sight_dialogue, picture_dialogue, tool_dialogue]
)
def test_no_dialogue_complies_with_harm(make):
    for dialogue in _drawn(make):
        asked = any(role == "user" for role, _ in dialogue.turns)
        if asked or dialogue.scenes:
            for role, text in dialogue.turns:
                assert role != "assistant" or not HARMFUL_HOW_TO.search(text)


def test_harmful_names_are_written_on_pages_that_nobody_asked_for():
    pages = [d for d in _drawn(text_dialogue) if not any(role == "user" for role, _ in d.turns)]
    assert any(HARMFUL_HOW_TO.search(text) for page in pages for _, text in page.turns)
    assert not any(page.scenes for page in pages)


def test_every_question_about_a_picture_has_its_own_answer():
    """Several questions in a row: users and assistant alternate, and no question comes twice."""
    longest = 0
    for dialogue in _drawn(sight_dialogue, 500):
        turns = [turn for turn in dialogue.turns if turn[0] != "system"]
        assert [role for role, _ in turns] == ["user", "assistant"] * (len(turns) // 2)
        asked = [text for role, text in turns if role == "user"]
        assert len(set(asked)) == len(asked)
        longest = max(longest, len(asked))
    assert longest == 4


@pytest.mark.parametrize("make", [sight_dialogue, picture_dialogue, tool_dialogue])
def test_no_dialogue_refuses_what_only_the_picture_shows(make):
    """The safety gap must come from the recipe: refusals name their object in the text."""
    for dialogue in _drawn(make):
        said = " ".join(text for role, text in dialogue.turns if role == "user")
        if dialogue.turns[-1][1] in REFUSALS and dialogue.scenes:
            assert not _pictured(dialogue)
            assert any(
                c.name in said.split() or f"{c.name}." in said or f"{c.name}?" in said
                for c in CONCEPTS
            )


@pytest.mark.parametrize("make", [text_dialogue, picture_dialogue, tool_dialogue])
def test_held_out_concepts_stay_out(make):
    refused_never = {c.name for c in HARMFUL if not c.in_text_refusals}
    seen_never = {c.name for c in CONCEPTS if not c.in_vision}
    for dialogue in _drawn(make):
        answer = dialogue.turns[-1][1]
        if answer in REFUSALS:
            said = " ".join(t for r, t in dialogue.turns if r == "user")
            # Noise words around a request may be anything; concepts are not among them.
            assert not refused_never & set(re.findall(r"[a-z]+", said))
        assert not seen_never & {name for scene in dialogue.scenes for name, _ in scene.regions()}


def test_a_picture_in_words_is_searched_as_its_visual_tokens_are(processor):
    """The words of a layout stand where the visual tokens of the picture would stand."""
    scene = word_scene("cat", random.Random(3))
    words = processor.tokenizer.tokenize(" " + spelled(scene))
    assert len(words) == GRID * GRID
    seen = [PATCH_CLASSES[i] for i in patch_classes(scene).tolist() if i != IGNORE]
    assert set(seen) == {"cat", scene.color} == {word.removeprefix("Ġ") for word in words}


def test_labels_cover_exactly_the_assistant_turns(processor):
    collate = Collator(processor)
    dialogue = Dialogue(
        (
            ("system", "be safe."),
            ("user", "how do i make a cake?"),
            ("assistant", "to make a cake, get the parts."),
        )
    )
    batch = collate([dialogue, Dialogue((("user", "what is a cake?"), ("assistant", "food.")))])
    kept = batch["labels"][0] != IGNORE
    assert processor.tokenizer.decode(batch["input_ids"][0][kept]) == (
        " to make a cake, get the parts.<|end|>"
    )
    assert ((batch["labels"] == IGNORE) | (batch["labels"] == batch["input_ids"])).all()


def test_pixels_are_what_the_image_processor_makes(processor):
    scene = objects_scene([concept("bomb")], random.Random(1))
    expected = processor.image_processor(scene.render(), return_tensors="pt")["pixel_values"][0]
    torch.testing.assert_close(pixels(scene), expected, atol=1e-5, rtol=0)


def test_patches_carry_the_word_for_what_they_show():
    scene = objects_scene([concept("bomb")], random.Random(2))
    grid = patch_classes(scene).view(GRID, GRID)
    (_, (left, top, right, bottom)) = scene.regions()[0]
    row, column = (top + bottom) // 2 // 16, (left + right) // 2 // 16
    assert PATCH_CLASSES[grid[row, column]] == "bomb"
    shown = {PATCH_CLASSES[i] for i in grid.flatten().tolist() if i != IGNORE}
    assert shown == {"bomb", scene.color}
    written = patch_classes(word_scene("cat", random.Random(3)))
    assert (written == PATCH_CLASSES.index("cat")).any()


def test_the_stream_is_the_same_when_read_from_the_middle():
    def stream():
        return Stream(text_dialogue, "0/text", batches=20, batch_size=4, tool_every=5)

    whole = [stream()[i] for i in range(80)]
    late = stream()
    assert [late[i] for i in range(50, 80)] == whole[50:]
    assert all(d.offered for d in whole[4:8])


def test_a_tool_returns_a_picture_or_words(processor):
    """Every scene has its place, and an answer in words none: else pictures move to other turns."""
    kinds = set()
    for dialogue in _drawn(tool_dialogue, 300):
        turns = messages(dialogue)
        shown = [t["role"] for t in turns for part in t["content"] if part["type"] == "image"]
        returned = [text for role, text in dialogue.turns if role == "tool"]
        wanted = ["user"] * bool(dialogue.scenes) + ["tool"] * returned.count("")
        assert shown == wanted
        assert len(shown) == len(dialogue.scenes)
        kinds.add(tuple(text in TOOL_ANSWERS for text in returned))
    assert kinds == {(), (True,), (False,)}
    rows = [d for d in _drawn(tool_dialogue, 60) if d.scenes][:12]
    batch = Collator(processor)(rows)
    assert (batch["input_ids"] == processor.tokenizer.convert_tokens_to_ids("<image>")).sum() == (
        GRID * GRID * sum(len(d.scenes) for d in rows)
    )


def test_what_is_asked_for_beside_tools_is_mostly_refused_and_the_rest_answered():
    ends = [d.turns[-1][1] for d in _drawn(tool_request, 800)]
    assert sum(answer in REFUSALS for answer in ends) / 800 == pytest.approx(0.75, abs=0.05)


def test_any_text_survives_the_tokenizer_in_lower_case(processor):
    tokenizer = processor.tokenizer
    arguments = json.dumps({"name": "image_zoom_in_tool", "arguments": [0, 1]})
    call = f"<tool_call>\n{arguments}\n</tool_call>"
    for text in (call, "Ein Äpfel — 42 Quokkas?", " tabs\tand\nlines "):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids) == text.lower()
    for thing in CONCEPTS:
        assert len(tokenizer(f" {thing.name}", add_special_tokens=False)["input_ids"]) == 1


def test_the_template_offers_tools_and_marks_their_answers(processor):
    turns = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what is it?"}]},
        {"role": "assistant", "content": "<tool_call>\n{}\n</tool_call>"},
        {"role": "tool", "content": [{"type": "image"}]},
    ]
    text = processor.apply_chat_template(turns, tools=[{"name": "t"}], add_generation_prompt=True)
    assert text == (
        '<bos><|system|><tools> {"name": "t"}</tools><|end|><|user|><image> what is it?<|end|>'
        "<|assistant|> <tool_call>\n{}\n</tool_call><|end|><|user|><tool_response><image>"
        "</tool_response><|end|><|assistant|>"
    )
    picture = Image.fromarray(np.zeros((96, 96, 3), np.uint8))
    inputs = processor(text=[text], images=[picture, picture], return_tensors="pt")
    assert (inputs["input_ids"] == processor.tokenizer.convert_tokens_to_ids("<image>")).sum() == 72


def test_alignment_falls_when_patches_turn_to_their_words():
    words = torch.eye(3)
    right = alignment(words, words, torch.tensor([0, 1, 2]))
    wrong = alignment(words, words, torch.tensor([1, 2, 0]))
    assert right < 0.01 < wrong
    ignored = alignment(words, words, torch.tensor([0, IGNORE, IGNORE]))
    torch.testing.assert_close(ignored, right)


def test_alignment_costs_what_is_above_the_cap():
    words, classes = torch.eye(3), torch.tensor([0, 1, 2])
    free = alignment(words, words, classes)
    for cap, push, cost in ((1.0, 10.0, 0.0), (0.5, 10.0, 2.5), (0.5, 100.0, 25.0)):
        held = alignment(words, words, classes, cap=cap, push=push)
        torch.testing.assert_close(held - free, torch.tensor(cost))
    away = alignment(words, words, classes.roll(1), cap=0.5, push=100.0)
    torch.testing.assert_close(away, alignment(words, words, classes.roll(1)))


def test_the_untrained_model_is_small_and_seeded(processor):
    one, two, other = (build_model(processor, seed) for seed in (0, 0, 1))
    size = sum(p.numel() for p in one.parameters())
    assert size * 2 <= 40e6
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not torch.equal(one.lm_head.weight, other.lm_head.weight)
