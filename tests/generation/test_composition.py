"""A protected generate: decoding modes, order of composition, ways to fail."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
import transformers as hf

from safesight.defenses import Decision, load_defense, protect, protection
from safesight.defenses.none import NoDefense
from safesight.errors import InputError, ModelError, UnknownNameError
from safesight.generation.detectors import NotJudgedError, check_judged
from safesight.models import VLM
from tests import tiny
from tests.contracts.defense_helpers import answers, fingerprint, hooks_on, prompts, steps
from tests.defenses.fakes import REFUSAL, FakeDetector, FakeEdit, FakeWeights


@pytest.fixture
def vlm() -> VLM:
    return tiny.vlm("llava")


def refusal(vlm: VLM) -> list[int]:
    return vlm.tokenizer(REFUSAL, add_special_tokens=False)["input_ids"]


def test_refusals_are_whole_and_end(vlm: VLM) -> None:
    inputs = vlm.encode(prompts())
    length = inputs["input_ids"].shape[1]
    with FakeDetector(0, 2).apply(vlm):
        sequences = vlm.model.generate(**inputs, max_new_tokens=1)
    expected = [*refusal(vlm), vlm.tokenizer.eos_token_id]
    assert sequences[0, length:].tolist() == expected
    assert sequences[2, length:].tolist() == expected
    assert sequences[1, length + 1 :].tolist() == [vlm.tokenizer.pad_token_id] * 3


@pytest.mark.parametrize("seed", range(5))
def test_sampling_leaves_safe_rows_alone(vlm: VLM, seed: int) -> None:
    settings = {"do_sample": True, "temperature": 1.5, "top_p": 0.9}
    torch.manual_seed(seed)
    plain = steps(vlm, prompts(), **settings).sequences
    torch.manual_seed(seed)
    with FakeDetector(0, 3).apply(vlm):
        defended = steps(vlm, prompts(), **settings).sequences
    width = min(plain.shape[1], defended.shape[1])
    assert torch.equal(defended[1:3, :width], plain[1:3, :width])


def test_several_answers_to_a_prompt(vlm: VLM) -> None:
    torch.manual_seed(0)
    with FakeDetector(2, 3).apply(vlm):
        found = vlm.generate(
            vlm.encode(prompts()[:2]), do_sample=True, num_return_sequences=2, max_new_tokens=4
        )
        assert protection(vlm.model).last.refused.tolist() == [False, False, True, True]
    assert vlm.decode(found, vlm.encode(prompts()[:2])["input_ids"].shape[1])[2:] == [REFUSAL] * 2


def test_returned_dicts(vlm: VLM) -> None:
    with FakeDetector(1).apply(vlm):
        output = steps(vlm, prompts())
    assert vlm.decode(output.sequences, vlm.encode(prompts())["input_ids"].shape[1])[1] == REFUSAL
    assert output["sequences"] is output.sequences


def test_positional_prompt_and_generation_config(vlm: VLM) -> None:
    inputs = vlm.encode([tiny.ask("hello")])
    config = hf.GenerationConfig(max_new_tokens=3, do_sample=False)
    plain = vlm.model.generate(inputs["input_ids"], config)
    with FakeDetector().apply(vlm):
        assert torch.equal(vlm.model.generate(inputs["input_ids"], config), plain)
        assert protection(vlm.model).last.refused.tolist() == [False]


def test_positional_prompts_are_rewritten(vlm: VLM) -> None:
    tokens = vlm.encode([tiny.ask("hello")])["input_ids"]
    with load_defense("safety_prompt").apply(vlm):
        expected = vlm.model.generate(input_ids=tokens, max_new_tokens=3)
        assert torch.equal(vlm.model.generate(tokens, max_new_tokens=3), expected)


def test_embeddings_as_prompt(vlm: VLM) -> None:
    embeds = vlm.embed_tokens(vlm.encode([tiny.ask("hello")])["input_ids"])
    with FakeDetector(0).apply(vlm):
        sequences = vlm.model.generate(inputs_embeds=embeds, max_new_tokens=3)
    assert vlm.decode(sequences, 0) == [REFUSAL]
    with load_defense("safety_prompt").apply(vlm), pytest.raises(InputError, match="input_ids"):
        vlm.model.generate(inputs_embeds=embeds, max_new_tokens=3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_beams": 2}, "num_beams=2"),
        ({"prompt_lookup_num_tokens": 2}, "prompt lookup"),
        ({"custom_generate": "somebody/else"}, "custom"),
        ({"prefill_chunk_size": 8}, "chunked prefill"),
        ({"cache_implementation": "paged"}, "continuous"),
        ({"generation_config": hf.GenerationConfig(num_beams=3)}, "num_beams=3"),
    ],
)
def test_decoding_modes_that_cannot_be_judged(vlm: VLM, settings: Any, message: str) -> None:
    with FakeDetector().apply(vlm), pytest.raises(InputError, match=message):
        vlm.model.generate(**vlm.encode(prompts()), **settings)


def test_beams_without_a_detector(vlm: VLM) -> None:
    settings = {"num_beams": 2, "max_new_tokens": 3}
    inputs = vlm.encode(prompts())
    with load_defense("safety_prompt").apply(vlm):
        sequences = vlm.generate(inputs, **settings)
    length = inputs["input_ids"].shape[1]
    assert torch.equal(sequences[:, :length], inputs["input_ids"])


@pytest.mark.parametrize("setting", ["num_beams", "num_return_sequences", "length_penalty"])
def test_a_setting_of_none_is_the_plain_one(setting: str) -> None:
    """Which transformers compares with a number."""
    vlm = VLM.wrap(*tiny.fresh("llava"))
    inputs = vlm.encode(prompts())
    plain = vlm.model.generate(**inputs, max_new_tokens=3)
    given = {**inputs, "max_new_tokens": 3, "num_beams": 1, setting: None}
    with FakeDetector().apply(vlm):
        vlm.model.generation_config.num_beams = 2
        assert torch.equal(vlm.model.generate(**given), plain)
    assert torch.equal(vlm.generate(inputs, max_new_tokens=3, **{setting: None}), plain)


@pytest.mark.parametrize("name", ["safety_prompt", "adashield", "look_carefully", "image_tools"])
def test_a_cache_that_is_too_short_for_what_a_defense_adds(vlm: VLM, name: str) -> None:
    inputs = vlm.encode(prompts())
    length = inputs["input_ids"].shape[1]

    def cache(room: int) -> hf.StaticCache:
        return hf.StaticCache(config=vlm.model.config.get_text_config(), max_cache_len=room)

    with load_defense(name).apply(vlm):
        plain = vlm.model.generate(**inputs, max_new_tokens=3)
        roomy = vlm.model.generate(**inputs, max_new_tokens=3, past_key_values=cache(1000))
        assert torch.equal(roomy, plain)
        with pytest.raises(InputError, match=f"holds {length + 2} tokens, but the prompt"):
            vlm.model.generate(**inputs, max_new_tokens=3, past_key_values=cache(length + 2))
    with FakeDetector().apply(vlm):  # adds nothing
        vlm.model.generate(**inputs, max_new_tokens=3, past_key_values=cache(length + 2))
        with pytest.raises(InputError, match="Pass a larger one"):
            vlm.model.generate(**inputs, max_new_tokens=3, past_key_values=cache(length + 1))


def test_a_cache_that_holds_tokens(vlm: VLM) -> None:
    inputs = vlm.encode([tiny.ask("hello")])
    cache = hf.DynamicCache(config=vlm.model.config.get_text_config())
    with FakeDetector().apply(vlm):
        vlm.model.generate(**inputs, past_key_values=cache, max_new_tokens=2)
        assert cache.get_seq_length() > 0
        with pytest.raises(InputError, match="past_key_values"):
            vlm.model.generate(**inputs, past_key_values=cache, max_new_tokens=2)


def test_static_cache(vlm: VLM) -> None:
    inputs = vlm.encode(prompts())
    plain = vlm.generate(inputs, max_new_tokens=4, cache_implementation="static")
    with FakeDetector(0).apply(vlm):
        found = vlm.generate(inputs, max_new_tokens=4, cache_implementation="static")
    assert torch.equal(found[1:, : plain.shape[1]], plain[1:])


class Streamer:
    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.ended = False

    def put(self, value: torch.Tensor) -> None:
        self.tokens += value.flatten().tolist()

    def end(self) -> None:
        self.ended = True


@pytest.mark.parametrize("edited", [False, True])
def test_streamers_never_see_a_refused_answer(vlm: VLM, edited: bool) -> None:
    inputs = vlm.encode(prompts()[:1])
    prompt = inputs["input_ids"][0].tolist()
    plain, refused = Streamer(), Streamer()
    with FakeDetector().apply(vlm), (FakeEdit() if edited else NoDefense()).apply(vlm):
        sequences = vlm.generate(inputs, max_new_tokens=4, streamer=plain)
    with (
        FakeDetector(0).apply(vlm),
        (FakeEdit() if edited else NoDefense()).apply(vlm),
    ):
        vlm.generate(inputs, max_new_tokens=4, streamer=refused)
    assert plain.tokens == sequences[0].tolist()
    assert refused.tokens == [*prompt, *refusal(vlm), vlm.tokenizer.eos_token_id]
    assert plain.ended
    assert refused.ended
    with FakeDetector().apply(vlm), pytest.raises(InputError, match="one"):
        vlm.generate(vlm.encode(prompts()), streamer=Streamer())


def test_doors_that_pass_by_generate_are_shut(vlm: VLM) -> None:
    doors = (
        "generate_batch",
        "init_continuous_batching",
        "continuous_batching_context_manager",
    )
    with NoDefense().apply(vlm):
        for door in doors:
            with pytest.raises(ModelError, match=door):
                getattr(vlm.model, door)([[1, 2]])
    assert not vars(vlm.model).keys() & {*doors}


@pytest.mark.parametrize(
    "decision",
    [
        Decision(torch.tensor([float("nan")] * 4), torch.zeros(4, dtype=torch.bool)),
        Decision(torch.zeros(4), torch.zeros(4)),
        Decision(torch.zeros(3), torch.zeros(3, dtype=torch.bool)),
        None,
    ],
)
def test_unsound_decisions_are_refusals(
    vlm: VLM, decision: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    defense = FakeDetector()
    monkeypatch.setattr(defense.detector, "judge", lambda prefill: decision)
    with defense.apply(vlm), caplog.at_level(logging.ERROR, logger="safesight"):
        assert vlm.answer(prompts()) == [REFUSAL] * 4
    assert "fake_detector" in caplog.text


def test_one_unsound_row_is_one_refusal(vlm: VLM, monkeypatch: pytest.MonkeyPatch) -> None:
    defense, plain = FakeDetector(), answers(tiny.vlm("llava"), prompts())
    scores = torch.tensor([0.0, float("inf"), 0.0, 0.0])
    decision = Decision(scores, torch.zeros(4, dtype=torch.bool))
    monkeypatch.setattr(defense.detector, "judge", lambda prefill: decision)
    with defense.apply(vlm):
        found = answers(vlm, prompts())
    assert found == [plain[0], refusal(vlm), plain[2], plain[3]]


class Deaf:
    """A model's own generate, which ignores logits processors, stopping criteria or both."""

    def __init__(self, *drops: str) -> None:
        self.drops = drops

    def __call__(self, **inputs: Any) -> Any:
        kept = {name: value for name, value in inputs.items() if name not in self.drops}
        return type(self.model).generate(self.model, **kept)

    @property
    def model(self) -> Any:
        return tiny.vlm("llava").model


@pytest.mark.parametrize(
    "drops", [("logits_processor",), ("logits_processor", "stopping_criteria")]
)
@pytest.mark.parametrize("streamed", [False, True])
def test_no_answer_leaves_a_generate_that_is_never_judged(
    vlm: VLM, monkeypatch: pytest.MonkeyPatch, drops: tuple[str, ...], streamed: bool
) -> None:
    inputs = vlm.encode(prompts()[:1])
    streamer = Streamer() if streamed else None
    with FakeDetector().apply(vlm):
        monkeypatch.setattr(protection(vlm.model), "_undefended", Deaf(*drops))
        with pytest.raises(NotJudgedError, match="logits processors"):
            vlm.model.generate(**inputs, max_new_tokens=4, streamer=streamer)
    if streamer is not None:
        assert streamer.tokens == inputs["input_ids"][0].tolist()
        assert streamer.ended


def test_whether_a_model_can_be_judged_is_told_before(
    vlm: VLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = dict(vlm.encode(prompts()))
    check_judged(vlm, inputs)
    deaf = Deaf("logits_processor", "stopping_criteria")
    monkeypatch.setattr("safesight.generation.detectors.undefended", lambda vlm: deaf)
    with pytest.raises(NotJudgedError, match="not a detector"):
        check_judged(vlm, inputs)


def test_two_detectors_share_the_prefill_and_refuse_in_order(vlm: VLM) -> None:
    class Second(FakeDetector):
        name = "second"

    one, two = FakeDetector(0, 2), Second(0, 1)
    two.detector.refusal = "never."
    with one.apply(vlm), two.apply(vlm):
        texts = vlm.answer(prompts())
        last = protection(vlm.model).last
    assert texts[:3] == [REFUSAL, "never.", REFUSAL]
    assert last.refused.tolist() == [True, True, True, False]
    assert list(last.decisions) == ["fake_detector", "second"]
    assert torch.equal(one.detector.seen[0], two.detector.seen[0])


@pytest.mark.parametrize("edit_first", [True, False])
def test_every_run_of_a_pipeline_is_edited(vlm: VLM, edit_first: bool) -> None:
    """Whatever is attached first, the pipeline is outside."""
    fake, ecso = FakeEdit(), load_defense("ecso", unreadable="harmful", max_caption_tokens=2)
    outer, inner = (fake, ecso) if edit_first else (ecso, fake)
    with outer.apply(vlm), inner.apply(vlm):
        found = answers(vlm, prompts())
    assert fake.calls == 4, "an answer, its judgement, a caption, another answer"
    with FakeEdit().apply(vlm):
        edited = answers(vlm, prompts())
    with load_defense("ecso", unreadable="harmful", max_caption_tokens=2).apply(vlm):
        assert found not in (edited, answers(vlm, prompts()))


@pytest.mark.parametrize("edit_first", [True, False])
def test_detectors_judge_the_model_without_edits(vlm: VLM, edit_first: bool) -> None:
    with FakeEdit().apply(vlm):
        edited = answers(vlm, prompts())
    alone = FakeDetector(1)
    with alone.apply(vlm):
        answers(vlm, prompts())
    detector, change = FakeDetector(1), FakeEdit()
    order = (change, detector) if edit_first else (detector, change)
    with order[0].apply(vlm), order[1].apply(vlm):
        both = answers(vlm, prompts())
    assert torch.equal(detector.detector.seen[0], alone.detector.seen[0])
    assert both == [edited[0], refusal(vlm), edited[2], edited[3]]
    assert edited != answers(vlm, prompts())


def test_a_refused_batch_is_not_edited_nor_generated(vlm: VLM) -> None:
    change = FakeEdit()
    inputs = vlm.encode(prompts())
    with FakeDetector(everything=True).apply(vlm), change.apply(vlm):
        output = vlm.generate(inputs, return_dict_in_generate=True)
    assert change.calls == 0
    assert vlm.decode(output.sequences, inputs["input_ids"].shape[1]) == [REFUSAL] * 4


def test_several_answers_under_detector_and_edit(vlm: VLM) -> None:
    inputs = vlm.encode(prompts()[:2])
    with FakeDetector(1).apply(vlm), FakeEdit().apply(vlm):
        found = vlm.generate(inputs, num_return_sequences=2, do_sample=True, max_new_tokens=3)
        assert protection(vlm.model).last.refused.tolist() == [False, False, True, True]
    assert vlm.decode(found, inputs["input_ids"].shape[1])[2:] == [REFUSAL] * 2


@pytest.mark.parametrize("edit", [NoDefense(), FakeEdit()])
def test_several_refusals_of_a_refused_batch(vlm: VLM, edit: Any) -> None:
    """As many rows and verdicts as when one of the prompts is answered."""
    inputs, several = vlm.encode(prompts()[:2]), {"num_return_sequences": 3, "do_sample": True}
    with FakeDetector(everything=True).apply(vlm), edit.apply(vlm):
        found = vlm.generate(inputs, **several, return_dict_in_generate=True)
        assert protection(vlm.model).last.refused.tolist() == [True] * 6
    assert vlm.decode(found.sequences, inputs["input_ids"].shape[1]) == [REFUSAL] * 6


def test_weights_come_and_go(vlm: VLM) -> None:
    before, plain = fingerprint(vlm.model), answers(vlm, prompts())
    with FakeWeights().apply(vlm), FakeDetector(0).apply(vlm):
        changed = answers(vlm, prompts())
    assert changed[0] == refusal(vlm)
    assert changed[1:] != plain[1:]
    assert fingerprint(vlm.model) == before


def test_nothing_watches_while_the_answer_is_written(vlm: VLM) -> None:
    found: list[int] = []

    def look(input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        found.append(sum(hooks_on(layer) for layer in vlm.layers))
        return torch.zeros(len(input_ids), dtype=torch.bool)

    quiet = sum(hooks_on(layer) for layer in vlm.layers)
    with FakeDetector().apply(vlm):
        answers(vlm, prompts(), stopping_criteria=[look])
    assert set(found) == {quiet}


def test_protect_takes_several_or_none_at_all() -> None:
    model, processor = tiny.fresh("llava")
    # In its first forward transformers installs hooks of its own.
    VLM.wrap(model, processor).answer([tiny.ask("hi", tiny.picture())], max_new_tokens=1)
    before = fingerprint(model)
    protect(model, processor, [FakeDetector(0), "safety_prompt", FakeEdit()])
    assert protection(model).names == ["fake_detector", "safety_prompt", "fake_edit"]
    model.remove()
    with pytest.raises(UnknownNameError):
        protect(model, processor, ["safety_prompt", "sassa"])
    with pytest.raises(ModelError, match="already"):
        protect(model, processor, ["safety_prompt", "safety_prompt"])
    with pytest.raises(InputError, match="one defense given by name"):
        protect(model, processor, ["safety_prompt", "none"], text="be good")
    with pytest.raises(InputError, match="mapping"):
        protect(model, processor, ["safety_prompt", "none"], "folder")
    with pytest.raises(InputError, match="sasa"):
        protect(model, processor, "none", {"sasa": "folder"})
    assert fingerprint(model) == before


def test_removal_inside_a_context(vlm: VLM) -> None:
    before = fingerprint(vlm.model)
    with FakeDetector(0).apply(vlm), FakeEdit().apply(vlm):
        vlm.model.remove()
        assert fingerprint(vlm.model) == before
    assert fingerprint(vlm.model) == before


def test_an_own_generate_attribute_survives() -> None:
    model, processor = tiny.fresh("llava")
    original = model.generate
    calls = []

    def traced(**inputs: Any) -> Any:
        calls.append(inputs)
        return original(**inputs)

    model.generate = traced
    vlm = VLM.wrap(model, processor)
    with FakeDetector(0).apply(vlm):
        assert answers(vlm, prompts())[0] == refusal(vlm)
    assert model.generate is traced
    assert calls


def test_a_pipeline_is_defended_without_knowing() -> None:
    model, processor = tiny.fresh("llava")
    ask = hf.pipeline("image-text-to-text", model=model, processor=processor)
    protect(model, processor, FakeDetector(0))
    found = ask(text=tiny.ask("hello", tiny.picture()), max_new_tokens=4, return_full_text=False)
    model.remove()
    assert found[0]["generated_text"] == REFUSAL


def test_decisions_are_those_of_the_latest_call(vlm: VLM) -> None:
    defense = FakeDetector(0)
    with defense.apply(vlm):
        assert protection(vlm.model).last is None
        answers(vlm, prompts())
        assert protection(vlm.model).last.refused.tolist() == [True, False, False, False]
        with pytest.raises(InputError):
            answers(vlm, prompts(), num_beams=2)
        assert protection(vlm.model).last is None


def test_threads_take_turns(vlm: VLM) -> None:
    plain = answers(vlm, prompts())
    with FakeDetector(0).apply(vlm), ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: answers(vlm, prompts()), range(8)))
    assert found == [[refusal(vlm), *plain[1:]]] * 8
