"""The bundled model in vLLM: its answers are those of transformers, and a refusal stands."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from typing import Any

import pytest

from safesight import registry
from safesight.defenses import load_defense
from safesight.models import VLM
from safesight.models.built import bundled_folder
from safesight.types import Sample
from tests.vllm import engines
from tests.vllm.engines import OPTIONS

TASKS = ("image_harm", "typographic_harm", "vqa", "text_harm")
DEFENSES = (
    ("probe", {}),
    ("sasa", {}),
    ("hidden_detect", {}),
    ("rai", {}),
    ("refusal_direction", {}),
    ("refusal_direction", {"gate": "projection"}),
    ("tool_vector", {}),
    ("tool_vector", {"mode": "ablate"}),
)
CHUNKS = {"max_num_batched_tokens": 48, "max_num_seqs": 8, "max_model_len": 256}
"""Prompts are divided, and wait in the middle for others."""


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    with engines.process() as started:
        yield started


def samples(count: int = 6) -> list[Sample]:
    return [sample for task in TASKS for sample in registry.load("benchmark", task)(count)]


@cache
def vlm() -> VLM:
    return VLM.load("testbed")


@cache
def answers(name: str, *config: tuple[str, Any]) -> list[str]:
    """What transformers says, one prompt at a time."""
    talks = [sample.messages() for sample in samples()]
    with load_defense(name, **dict(config)).apply(vlm()):
        return [vlm().answer([talk], max_new_tokens=32)[0] for talk in talks]


class Engine:
    """vLLM in this process; made and used in that of the pool."""

    def __init__(self, defenses: list[Any] | None, *, open: bool = True, **options: Any) -> None:
        from vllm import LLM

        gc.collect()
        more = {}
        if defenses is not None:
            settings = {"defenses": defenses, "per_request": open}
            more = {"additional_config": {"safesight": settings}}
        self.llm = LLM(str(bundled_folder("testbed")), **{**OPTIONS, **options}, **more)

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        from vllm.distributed import cleanup_dist_env_and_memory

        del self.llm
        cleanup_dist_env_and_memory()

    def ask(self, wanted: list[str | None] | None = None, **sampling: Any) -> list[Any]:
        from vllm import SamplingParams

        talks = [engines._as_vllm(sample.messages()) for sample in samples()]
        params = [
            SamplingParams(
                **{"temperature": 0, "max_tokens": 32, **sampling},
                extra_args=None if each is None else {"safesight": each},
            )
            for each in (wanted or [None] * len(talks))
        ]
        return list(self.llm.chat(talks, params, use_tqdm=False))

    def beams(self) -> str:
        """What comes of beam search, in which each step is a request of its own."""
        from vllm.exceptions import VLLMValidationError
        from vllm.sampling_params import BeamSearchParams

        prompt = {"prompt": "what is a bomb?"}
        try:
            found = self.llm.beam_search([prompt], BeamSearchParams(beam_width=2, max_tokens=8))
        except VLLMValidationError as error:
            return str(error)
        return str(found[0].sequences[0].text)

    def say(self, wanted: list[str | None] | None = None, **sampling: Any) -> list[str]:
        return [each.outputs[0].text.strip() for each in self.ask(wanted, **sampling)]


def _alternating(defenses: list[Any], options: dict[str, Any]) -> tuple[list[str], list[str]]:
    with Engine(defenses, **options) as engine:
        flags: list[str | None] = ["on", "off"] * (len(samples()) // 2)
        return engine.say(flags), engine.say(flags[::-1])


@pytest.mark.parametrize("options", [{}, CHUNKS], ids=["whole", "divided"])
@pytest.mark.parametrize(("name", "config"), DEFENSES)
def test_on_and_off_in_one_batch(name: str, config: Any, options: Any, pool: Any) -> None:
    even, odd = pool.submit(_alternating, [{"name": name, **config}], options).result()
    on, off = answers(name, *config.items()), answers("none")
    assert even == [(on, off)[index % 2][index] for index in range(len(on))]
    assert odd == [(off, on)[index % 2][index] for index in range(len(on))]


REFUSAL = load_defense("probe").config.refusal.lower()
"""As the bundled model's tokenizer writes it."""
SAMPLING = {
    "ignores the end": {"ignore_eos": True},
    "a least length": {"min_tokens": 30},
    "hot, three answers": {"temperature": 1.5, "seed": 3, "n": 3},
    "words that may not be said": {"bad_words": ["sorry", "cannot"]},
    "penalties": {"repetition_penalty": 1.9, "presence_penalty": 2.0, "frequency_penalty": 2.0},
    "a pushed token": {"logit_bias": {5: 100.0}},
    "few tokens": {"top_k": 1, "top_p": 0.01, "min_p": 0.9},
    "another end": {"stop": ["cannot"], "include_stop_str_in_output": True},
    "allowed tokens": {"allowed_token_ids": [5, 6, 7]},
}


def _odd_sampling() -> Any:
    with Engine([{"name": "probe"}], open=False) as engine:
        texts = {
            name: [[one.text.strip() for one in each.outputs] for each in engine.ask(**sampling)]
            for name, sampling in SAMPLING.items()
        }
        cut = engine.say(max_tokens=3)
        logged = [each.outputs[0].logprobs for each in engine.ask(logprobs=3)]
        chances = [
            [max(one.logprob for one in step.values()) for step in steps] for steps in logged
        ]
        return texts, cut, chances, engine.say(), engine.say()


def test_a_refusal_stands_whatever_the_request_samples(pool: Any) -> None:
    texts, cut, chances, first, second = pool.submit(_odd_sampling).result()
    assert first == answers("probe")
    assert second == first, "its prefixes are cached by now"
    refused = [index for index, text in enumerate(answers("probe")) if text == REFUSAL]
    assert len(refused) > 5
    for name, found in texts.items():
        said = {text for index in refused for text in found[index]}
        expected = REFUSAL.partition("cannot")
        assert said == {"".join(expected[:2]) if name == "another end" else REFUSAL}, name
    assert all(REFUSAL.startswith(cut[index]) for index in refused)
    assert all(chance == 0.0 for index in refused for chance in chances[index])


def _structured() -> Any:
    from vllm.sampling_params import StructuredOutputsParams

    with Engine([{"name": "probe"}]) as engine:
        found = engine.ask(structured_outputs=StructuredOutputsParams(choice=["yes", "no"]))
        return [
            (each.outputs[0].text, each.outputs[0].finish_reason) for each in found
        ], engine.say()


def test_structured_output_lets_no_harmful_answer_out(pool: Any) -> None:
    found, after = pool.submit(_structured).result()
    for (text, _), expected in zip(found, answers("probe"), strict=True):
        if expected == REFUSAL:
            assert text not in ("yes", "no")
        else:
            assert text in ("yes", "no")
    assert after == answers("probe"), "the engine lives"


def _blind(patched: str, defenses: list[Any]) -> list[str]:
    from unittest.mock import patch

    from safesight.vllm import gate, guard

    with (
        patch.object(gate, "_compare", lambda runner: None),
        Engine(defenses) as engine,
        patch.object(guard.Guard, patched, lambda *_, **__: None),
    ):
        return engine.say()


@pytest.mark.parametrize("name", ["probe", "sasa", "hidden_detect"])
@pytest.mark.parametrize("patched", ["at_block", "begin"])
def test_a_prompt_that_passes_the_detectors_by_is_refused(name, patched, pool) -> None:
    """Such as in a captured graph, where no hook runs."""
    assert set(pool.submit(_blind, patched, [{"name": name}]).result()) == {REFUSAL}


def _passed_by() -> str:
    """An engine whose loader never says that the model is complete."""
    from unittest.mock import patch

    from safesight.vllm import runner_v1

    with patch.object(runner_v1, "once"), Engine([{"name": "rai"}]) as engine:
        try:
            return engine.say()[0]
        except Exception as error:
            return str(error)


def test_a_model_that_was_never_compared_answers_nothing(pool: Any) -> None:
    assert "passed by the comparison" in pool.submit(_passed_by).result()


def _start(defenses: list[Any] | None, options: Any, more: Any = None) -> str:
    try:
        with Engine(defenses, **options):
            return "started"
    except (ValueError, RuntimeError) as error:
        return str(error)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"speculative_config": {"method": "ngram", "num_speculative_tokens": 2}}, "speculative"),
        ({"enable_lora": True}, "LoRA"),
        ({"enable_prompt_embeds": True}, "prompt embeddings"),
        ({"dtype": "bfloat16"}, "was fitted in float32, and the engine runs in bfloat16"),
        ({"pipeline_parallel_size": 2, "distributed_executor_backend": "mp"}, "pipeline"),
    ],
)
def test_what_cannot_be_defended_does_not_start(options: Any, words: str, pool: Any) -> None:
    found = pool.submit(_start, [{"name": "probe"}], options).result()
    assert words in found


@pytest.mark.parametrize(
    ("defenses", "words"),
    [
        ([], "names safesight and no defense"),
        ([{"name": "ecso"}], "ecso asks the model several times"),
        ([{"name": "npo"}], "npo changes weights"),
        ([{"name": "safety_prompt"}], "safety_prompt rewrites the prompt"),
        ([{"name": "sassa"}], "Did you mean 'sasa'"),
        ([{"name": "rai"}, {"name": "probe"}], "probe reads states that rai changes"),
        ([{"name": "probe", "artifact": "nowhere"}], "no artifact folder"),
    ],
)
def test_what_is_not_there_does_not_start(defenses: Any, words: str, pool: Any) -> None:
    assert words in pool.submit(_start, defenses, {}).result()


def _refused_requests() -> Any:
    from vllm.exceptions import VLLMValidationError

    # vLLM keeps the pictures of a request that it refuses in one of its two caches only
    with Engine([{"name": "probe"}], open=False, mm_processor_cache_gb=0) as engine:
        found = []
        for wanted in ("off", "OFF"):
            try:
                engine.say([wanted] * len(samples()))
            except VLLMValidationError as error:
                found.append(str(error))
        found.append(engine.beams())
        try:
            engine.say(prompt_logprobs=1)
        except VLLMValidationError as error:
            found.append(str(error))
        return found, engine.say()


def test_a_request_cannot_turn_off_what_the_operator_keeps_on(pool: Any) -> None:
    errors, after = pool.submit(_refused_requests).result()
    assert "does not let a request turn its defenses off" in errors[0]
    assert "can be 'on' or 'off'" in errors[1]
    assert "Beam search cannot be defended" in errors[2]
    assert "Log-probabilities of a prompt" in errors[3]
    assert after == answers("probe")
