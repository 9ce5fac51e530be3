"""Defenses in vLLM and in transformers do the same, on a tiny model of every architecture.

That an engine starts says that its states after every block are those of transformers, as
`safesight.vllm.gate` compares them. Prompts are divided over several steps, and requests with and
without defenses share them.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from safesight.vllm.architectures import ARCHITECTURES
from tests.vllm import checkpoints, engines
from tests.vllm.engines import Job, Result
from tests.vllm.expected import DETECTORS, EDITS, TALKS, TOKENS, Expected, expected, settings_of

CLOSE = 1e-4
"""How far scores may be off."""
CHUNK = 96
"""Tokens in a step: fewer than some prompts have."""
ONE_PICTURE = ("text", "longer text", "picture", "tall picture", "turns of text")
TEXT = ("text", "longer text", "turns of text")


@dataclass
class Case:
    """One architecture: its checkpoint, artifacts and what transformers says."""

    family: str
    checkpoint: Path
    artifacts: Path
    expected: Expected
    pictures: int
    pool: ProcessPoolExecutor
    runner: int = 1

    def job(self, *names: str, **options: Any) -> Job:
        """An engine with these defenses, and every talk with them and without."""
        limit = {"limit_mm_per_prompt": {"image": self.pictures, "video": 0}}
        chunk = {"max_num_batched_tokens": CHUNK, "enable_chunked_prefill": True}
        return Job(
            self.checkpoint,
            [settings_of(name, self.artifacts) for name in names],
            [(talk, on) for talk in self.expected.talks for on in (True, False)],
            TOKENS,
            {**limit, **chunk, **options},
        )

    def run(self, job: Job) -> Result:
        """What came of it."""
        return self.pool.submit(engines.run, job).result()


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    with engines.process() as started:
        yield started


@pytest.fixture(scope="module")
def second_pool() -> Iterator[ProcessPoolExecutor]:
    with engines.process(runner=2) as started:
        yield started


@pytest.fixture(scope="module", params=checkpoints.ARCHITECTURES)
def case(request, pool, tmp_path_factory) -> Case:
    family = request.param
    if family == "smolvlm":
        pytest.importorskip("num2words", reason="SmolVLM's processor needs num2words")
    folder = tmp_path_factory.mktemp(family)
    names = {"llava_onevision": ONE_PICTURE, "gemma3": TEXT}.get(family, tuple(TALKS))
    checkpoint = checkpoints.write(family, folder / "model")
    found = expected(checkpoint, [TALKS[name] for name in names], folder)
    pictures = {"llava_onevision": 1, "gemma3": 0}.get(family, 2)
    return Case(family, checkpoint, folder, found, pictures, pool)


def compare(case: Case, result: Result, answers: list[list[int]]) -> None:
    """Prompts and answers, with defenses and without."""
    assert result.error is None
    assert result.runner == case.runner
    assert [tuple(each) for each in result.prompts[::2]] == case.expected.prompts
    assert list(result.answers[::2]) == answers
    assert list(result.answers[1::2]) == case.expected.answers["none"], "turned off by a request"


def check_detectors(case: Case) -> None:
    want = case.expected
    result = case.run(case.job(*DETECTORS))
    answers = []
    for index in range(len(want.talks)):
        refusing = [name for name in DETECTORS if want.refused[name][index]]
        answers.append(want.answers[refusing[0] if refusing else "none"][index])
    compare(case, result, answers)
    for name in DETECTORS:
        assert len(set(want.refused[name])) == 2, f"{name} does not tell the talks apart"
        found = [result.decisions[name, prompt] for prompt in want.prompts]
        assert [score for score, _ in found] == pytest.approx(want.scores[name], abs=CLOSE)
        assert [refused for _, refused in found] == want.refused[name]


def check_edit(case: Case, name: str) -> None:
    want = case.expected.answers
    assert want[name] != want["none"], f"{name} changes no answer"
    compare(case, case.run(case.job(name)), want[name])


def test_detectors(case):
    check_detectors(case)


@pytest.mark.parametrize("name", EDITS)
def test_edits(case, name):
    if name == "rai" and not case.pictures:
        pytest.skip("RAI acts on pictures, which this architecture has none of on a CPU")
    check_edit(case, name)


def test_the_second_model_runner(case, second_pool):
    """With positions of three parts (M-RoPE), and features added between blocks (DeepStack)."""
    if case.family != "qwen3_vl":
        pytest.skip("no other architecture has both")
    case = replace(case, pool=second_pool, runner=2)
    check_detectors(case)
    check_edit(case, "rai")


def test_these_are_the_architectures_that_can_be_defended():
    assert sorted(checkpoints.ARCHITECTURES.values()) == sorted(ARCHITECTURES)


def test_pictures_whose_tokens_see_each_other_agree(case):
    """On a CPU vLLM cannot serve them, but the gate, and a replay in it, go past its attention."""
    if case.family != "gemma3":
        pytest.skip("no other architecture has such pictures")
    limit = {"image": 1, "video": 0}
    assert (
        case.run(replace(case.job("sasa", limit_mm_per_prompt=limit), unchecked=True)).error is None
    )


def test_what_differs_is_refused_before_start(case):
    """Where vLLM cannot do as transformers does."""
    words = {"llava_onevision": "more than one picture", "gemma3": "pictures on a CPU"}
    if case.family not in words:
        pytest.skip("nothing is refused here")
    job = case.job("probe", limit_mm_per_prompt={"image": 2, "video": 0})
    assert words[case.family] in str(case.run(job).error)
