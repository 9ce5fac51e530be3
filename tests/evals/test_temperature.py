"""Answers drawn at a temperature: the same again in any batch, and never with greedy ones."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from inspect_ai.model import ModelOutput

from safesight.compare.folder import scorecard_of
from safesight.errors import InputError
from safesight.evals import read_answers, run_eval, skipped
from safesight.evals.asking import seed_of
from safesight.evals.endpoint import Endpoint
from safesight.hosting.hosts import host
from safesight.hosting.sampling import SeededSampling
from safesight.hosting.settings import Settings
from tests.evals.test_shots import SHOTS
from tests.evals.test_shots import shot_names as shot_names


def drawn(folder: Path, temperature: float, *arms: str, **more: Any) -> None:
    tasks = more.pop("tasks", ["words"])
    run_eval(
        "fake",
        arms or ["none"],
        tasks,
        log_dir=folder,
        progress=False,
        temperature=temperature,
        **more,
    )


def samplers(fakes: Any) -> list[SeededSampling]:
    """What drew the tokens of each batch."""
    settings = fakes["fake"].settings
    return [each for kwargs in settings for each in kwargs.get("logits_processor", ())]


def test_every_try_has_a_seed_of_its_own_and_all_share_batches(
    shot_names: Any, tmp_path: Path
) -> None:
    drawn(tmp_path, 0.7, tasks=["shooting"], seed=3)
    found = samplers(shot_names)
    assert {each.temperature for each in found} == {0.7}
    seeds = [seed for each in found if not isinstance(each.seed, int) for seed in each.seed]
    assert len(found) < len(seeds)  # rows with other seeds share batches
    assert set(seeds) == {seed_of(3, id, shot) for id in SHOTS for shot in range(2)}
    assert len(set(seeds)) == 2 * len(SHOTS)


def test_greedy_and_drawn_answers_never_mix(fakes: Any, tmp_path: Path) -> None:
    drawn(tmp_path, 0.0, limit=2)
    greedy = read_answers(tmp_path)
    assert not samplers(fakes)
    drawn(tmp_path, 1.0, limit=2)
    count = len(samplers(fakes))
    assert count
    drawn(tmp_path, 1.0, limit=2)  # resumed: there is nothing left to ask
    assert len(samplers(fakes)) == count
    answers = read_answers(tmp_path)
    assert {answer.metadata["temperature"] for answer in answers} == {1.0}
    assert {a.metadata["identity"] for a in answers}.isdisjoint(
        a.metadata["identity"] for a in greedy
    )
    assert any("superseded" in reason for reason in skipped(tmp_path))
    assert scorecard_of(tmp_path).temperature == 1.0
    drawn(tmp_path, 0.5, limit=2, tasks=["pictures"])
    with pytest.raises(InputError, match=r"2 temperatures: 0.5 \(none\), 1 \(none\)"):
        scorecard_of(tmp_path)


def test_answers_of_two_lengths_never_mix(fakes: Any, tmp_path: Path) -> None:
    def asked() -> list[int]:
        return [settings["max_new_tokens"] for settings in fakes["fake"].settings]

    drawn(tmp_path, 0.0, limit=2)
    usual = set(asked())
    drawn(tmp_path, 0.0, limit=2, max_tokens=7)
    assert set(asked()) - usual == {7}
    count = len(asked())
    drawn(tmp_path, 0.0, limit=2, max_tokens=7)  # resumed: there is nothing left to ask
    assert len(asked()) == count
    assert scorecard_of(tmp_path).max_tokens == 7
    drawn(tmp_path, 0.0, limit=2, tasks=["pictures"])
    with pytest.raises(InputError, match=r"2 lengths to end at: 0 \(none\), 7 \(none\)"):
        scorecard_of(tmp_path)
    with pytest.raises(InputError, match="An answer of 0 tokens"):
        drawn(tmp_path, 0.0, limit=2, max_tokens=0)


class Elsewhere(Endpoint):
    """Another engine, which keeps how it was asked to decode."""

    asked: ClassVar[list[Settings]] = []

    async def ask(self, vlm: Any, input: Any, settings: Settings) -> ModelOutput:
        self.asked.append(settings)
        return ModelOutput.from_content("fake", "no.")


def test_another_engine_gets_the_temperature_and_the_seeds(shot_names: Any, tmp_path: Path) -> None:
    server: Any = SimpleNamespace(engine="vllm 9", running=nullcontext)
    drawn(tmp_path, 0.7, tasks=["shooting"], endpoints={"none": Elsewhere(server)})
    assert {each.temperature for each in Elsewhere.asked} == {0.7}
    seeds = {seed_of(0, id, shot) for id in SHOTS for shot in range(2)}
    assert {each.seed for each in Elsewhere.asked} == seeds


@pytest.mark.parametrize("temperature", [-1.0, float("nan"), float("inf")])
def test_an_impossible_temperature_is_one_sentence(temperature: float, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Use 0 for greedy decoding"):
        drawn(tmp_path / "logs", temperature)
    assert not (tmp_path / "logs").exists()


def test_the_bundled_model_draws_the_same_again_in_any_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a detector, whose refused rows leave the batch."""
    batcher = host("testbed").batcher  # of this process: other tests use it, too
    monkeypatch.setattr(batcher, "max_batch", batcher.max_batch)

    def answers(place: str, batch_size: int, seed: int = 0) -> dict[tuple[str, str], str]:
        run_eval(
            "testbed",
            ["none", "probe"],
            ["text_harm"],
            log_dir=tmp_path / place,
            limit=4,
            batch_size=batch_size,
            seed=seed,
            temperature=1.5,
            progress=False,
        )
        return {(a.defense, a.sample_id): a.answer for a in read_answers(tmp_path / place)}

    first = answers("first", 4)
    assert answers("again", 1) == first
    assert len(set(first.values())) > 2
