"""How the bundled VLM is trained: the trainer, the optimizer, the guided heads. No lessons here."""

from __future__ import annotations

import random
import shutil

import pytest
import torch
from torch import nn

from safesight.testbed import train as recipe
from safesight.testbed.architecture import build_model, build_processor
from safesight.testbed.batches import IGNORE, PATCH_CLASSES, Collator
from safesight.testbed.curriculum import picture_dialogue, text_dialogue
from safesight.testbed.guidance import GUIDES, guided, missed
from safesight.testbed.optimizer import MuonAndAdamW
from safesight.testbed.picture_lessons import seeing


@pytest.fixture(scope="module")
def processor():
    return build_processor()


def _stage(**changes):
    settings = {"name": "tiny", "dialogue": picture_dialogue, "steps": 4, "batch_size": 2}
    return recipe.Stage(**{**settings, "learning_rate": 1e-3, "guide": 0.1, **changes})


def _trained(stage, processor, folder):
    model = build_model(processor, seed=0)
    entry = recipe.run_stage(stage, model, processor, folder, seed=0, scale=1.0)
    return entry, {name: value.clone() for name, value in model.state_dict().items()}


def test_a_killed_run_ends_where_an_uninterrupted_one_does(processor, tmp_path, monkeypatch):
    monkeypatch.setattr(recipe, "SAVE_EVERY", 2)
    entry, whole = _trained(_stage(), processor, tmp_path)
    assert not entry["resumed"]
    shutil.rmtree(tmp_path / "checkpoint-4")
    entry, resumed = _trained(_stage(), processor, tmp_path)
    assert entry["resumed"]
    assert whole.keys() == resumed.keys()
    for name, value in whole.items():
        torch.testing.assert_close(resumed[name], value, atol=0, rtol=0, msg=name)


def test_a_stage_moves_only_what_it_trains(processor, tmp_path):
    before = build_model(processor, seed=0).state_dict()
    stage = _stage(dialogue=seeing, trained=recipe.EYE, answers=False, guide=0.0)
    _, after = _trained(stage, processor, tmp_path)
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved
    assert all(name.startswith(recipe.EYE) for name in moved)


def test_matrices_of_the_decoder_go_to_muon_and_the_rest_to_adamw():
    inner, norm, words = (nn.Parameter(torch.ones(4, 4)) for _ in range(3))
    named = [
        ("model.language_model.layers.0.mlp.up_proj.weight", inner),
        ("model.language_model.layers.0.input_layernorm.weight", nn.Parameter(norm[0].detach())),
        ("model.language_model.embed_tokens.weight", words),
    ]
    optimizer = MuonAndAdamW(named, lr=0.1)
    muon, adamw = optimizer.parts
    assert isinstance(muon, torch.optim.Muon)
    assert muon.param_groups[0]["params"][0] is inner
    assert len(adamw.param_groups[0]["params"]) == 2


def test_a_schedule_reaches_both_parts_also_after_loading():
    layers = [nn.Linear(3, 3, bias=False) for _ in range(2)]
    named = [("model.language_model.layers.0.w", layers[0].weight), ("head", layers[1].weight)]
    optimizer = MuonAndAdamW(named, lr=0.1)
    optimizer.load_state_dict(optimizer.state_dict())
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5)
    layers[1](layers[0](torch.ones(3))).sum().backward()
    optimizer.step()
    schedule.step()
    assert [part.param_groups[0]["lr"] for part in optimizer.parts] == [0.05, 0.05]


def test_looking_at_the_same_word_costs_nothing():
    said = torch.tensor([[7, 5, 6, 5]])
    right = torch.full((1, 4, 4), -50.0)
    right[0, 3, 1] = right[0, 1, 0] = right[0, 2, 0] = right[0, 0, 0] = 50.0
    words = torch.tensor([5, 6])
    assert missed(right, said, said, words, -1) < 1e-4
    # A word that was not said is looked for at the first place, and nowhere else.
    wrong = right.clone()
    wrong[0, 2] = torch.tensor([-50.0, 50.0, -50.0, -50.0])
    assert missed(wrong, said, said, words, -1) > 10


def test_words_that_do_not_count_cost_nothing():
    said = torch.tensor([[7, 8, 7]])
    assert missed(torch.randn(1, 3, 3), said, said, torch.tensor([5]), -1) == 0


@pytest.mark.parametrize("make", [text_dialogue, seeing])
def test_every_guide_moves_its_own_head_only(processor, make):
    model = build_model(processor, seed=0)
    rng = random.Random(0)
    batch = Collator(processor)([make(rng) for _ in range(4)])
    classes = batch.pop("patch_classes", None)
    words = torch.tensor(
        processor.tokenizer.convert_tokens_to_ids([f"Ġ{word}" for word in PATCH_CLASSES])
    )
    said = batch["input_ids"].clone()
    if classes is not None:
        shown = classes.flatten()
        seen = words[shown.clamp(min=0)].where(shown != IGNORE, -1)
        said[said == model.config.image_token_id] = seen
    layers = model.model.language_model.layers
    with guided(layers, said, batch["labels"], words) as terms:
        model(**batch)
    assert len(terms) == len(GUIDES)
    guide = GUIDES[-1]
    terms[-1].backward()
    attention = layers[guide.layer].self_attn
    heads = attention.q_proj.weight.grad.view(-1, attention.head_dim, attention.q_proj.in_features)
    moved = heads.abs().sum((1, 2)) > 0
    assert moved.nonzero().flatten().tolist() == [guide.head]
    assert not any(layer.self_attn._forward_pre_hooks for layer in layers)
