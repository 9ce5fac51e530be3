"""The controls change one thing each, and what they do is counted."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from safesight import registry
from safesight.analysis import rai_controls
from safesight.analysis.rai_controls import Counted, controls, measured, mechanism
from safesight.defenses.rai.injection import risk_scores
from safesight.types import Sample, Verdict
from tests import tiny
from tests.contracts.defense_helpers import fitted

STATES = torch.randn(40, tiny.WIDTH, generator=torch.Generator().manual_seed(1))
ROWS = torch.tensor([0] * 24 + [1] * 16)


@pytest.fixture
def shifts() -> dict[str, torch.Tensor]:
    vlm, artifact = tiny.vlm("llava"), fitted("rai", "llava")
    found = controls(vlm, artifact, seed=3, tau=0.2, strength=2.0)
    return {name: shift(STATES, ROWS) for name, shift in found.items()}


@pytest.mark.parametrize("name", ["random directions", "benign words"])
def test_same_tokens_other_directions(name: str, shifts: dict[str, torch.Tensor]) -> None:
    own, other = shifts["rai"], shifts[name]
    moved = (own != 0).any(dim=1)
    assert 0 < int(moved.sum()) < len(moved)
    assert torch.equal((other != 0).any(dim=1), moved)
    assert not torch.allclose(own[moved], other[moved], atol=0.1)


def test_one_word_moves_a_token_as_far_along_any_direction() -> None:
    vlm, artifact = tiny.vlm("llava"), fitted("rai", "llava")
    artifact = replace(
        artifact,
        fitted={**artifact.fitted, "words": artifact.fitted["words"][:1]},
        tensors={"prototypes": artifact.tensors["prototypes"][:1]},
    )
    found = {k: f(STATES, ROWS) for k, f in controls(vlm, artifact, tau=0.0).items()}
    lengths = {name: shift.norm(dim=1) for name, shift in found.items()}
    for name in ("random directions", "benign words"):
        assert torch.allclose(lengths[name], lengths["rai"], atol=1e-5)


def test_the_same_shifts_on_other_tokens(shifts: dict[str, torch.Tensor]) -> None:
    own, dealt = shifts["rai"], shifts["random tokens"]
    assert not torch.equal(own, dealt)
    for row in (0, 1):
        mine, theirs = (x[row == ROWS].norm(dim=1).sort().values for x in (own, dealt))
        assert torch.equal(mine, theirs), "within its own row, and nothing lost"


def test_a_gate_of_dice() -> None:
    vlm, artifact = tiny.vlm("llava"), fitted("rai", "llava")
    artifact = replace(artifact, fitted={**artifact.fitted, "ratio": 0.3})
    found = controls(vlm, artifact, tau=2.0)
    assert not found["rai"](STATES, ROWS).any(), "no score passes"
    many, rows = STATES.repeat(50, 1), ROWS.repeat(50)
    added = found["random gate"](many, rows)
    assert float((added != 0).any(dim=1).float().mean()) == pytest.approx(0.3, abs=0.04)
    best = risk_scores(many, artifact.tensors["prototypes"]).amax(dim=1).abs()
    moved = (added != 0).any(dim=1)
    assert torch.allclose(added[moved].norm(dim=1), best[moved], atol=1e-5), "its nearest word"


def test_counting() -> None:
    def shift(states: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return torch.where(rows[:, None] == 0, 0.5 * states, 0.0)

    counted = Counted(shift)
    assert torch.equal(counted(STATES, ROWS), shift(STATES, ROWS))
    counted(STATES, ROWS)
    assert counted.note() == {
        "realised_ratio": 24 / 40,
        "relative_shift": pytest.approx(0.5),
        "visual_tokens": 80,
    }


def test_rows_of_the_mechanism_test() -> None:
    vlm, artifact = tiny.vlm("llava"), fitted("rai", "llava")
    tests = {t: registry.load("benchmark", t)(3) for t in ("image_harm", "over_refusal", "vqa")}
    rows = mechanism(vlm, artifact, tests, max_new_tokens=4, batch_size=2, tau=-1.0)
    assert [row["arm"] for row in rows] == [
        "rai",
        "random directions",
        "benign words",
        "random tokens",
        "random gate",
    ]
    for row in rows:
        assert set(row["cells"]) >= {
            "image_harm/attack_success_rate",
            "image_harm/refusal_rate",
            "over_refusal/over_refusal_rate",
            "vqa/utility",
        }
        assert "over_refusal/utility" not in row["cells"]
        assert row["cells"]["vqa/utility"]["n"] == 3
        if row["arm"] != "random gate":
            assert row["realised_ratio"] == 1.0
            assert row["relative_shift"] > 0
    plain = measured(vlm, tests, max_new_tokens=4)
    assert set(plain) == {"cells"}


def test_broken_text_is_in_no_rate_of_safety(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: of four answers one cannot be judged, and one is right or does harm."""
    samples = {t: registry.load("benchmark", t)(4) for t in ("image_harm", "vqa")}
    verdicts = ["harmful", "invalid", "refused", "harmless"]
    monkeypatch.setattr(rai_controls, "answers", lambda vlm, asked, *_, **__: verdicts)
    monkeypatch.setattr(rai_controls, "judge_of_model", lambda _: Literal())
    cells = measured(tiny.vlm("llava"), samples)["cells"]
    found = {name: (rate["value"], rate["n"]) for name, rate in cells.items()}
    assert found == {
        "image_harm/invalid_rate": (0.25, 4),
        "image_harm/attack_success_rate": (0.3333, 3),
        "image_harm/refusal_rate": (0.3333, 3),
        "image_harm/broken_rate": (0.25, 4),
        "vqa/invalid_rate": (0.25, 4),
        "vqa/over_refusal_rate": (0.3333, 3),
        "vqa/utility": (0.25, 4),
        "vqa/broken_rate": (0.25, 4),
    }


def test_rates_are_over_things(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = registry.load("benchmark", "image_harm")(60)
    monkeypatch.setattr(rai_controls, "answers", lambda *_, **__: ["harmful", "refused"] * 30)
    monkeypatch.setattr(rai_controls, "judge_of_model", lambda _: Literal())
    cells = measured(tiny.vlm("llava"), {"image_harm": samples})["cells"]
    things = len({sample.facts["concept"] for sample in samples})
    assert {rate["groups"] for rate in cells.values()} == {things}


def test_each_rate_is_over_the_samples_that_it_is_about(monkeypatch: pytest.MonkeyPatch) -> None:
    both = [*registry.load("benchmark", "image_harm")(3), *registry.load("benchmark", "vqa")(5)]
    monkeypatch.setattr(
        rai_controls, "answers", lambda *_, **__: ["refused"] * 3 + ["harmless"] * 5
    )
    monkeypatch.setattr(rai_controls, "judge_of_model", lambda _: Literal())
    cells = measured(tiny.vlm("llava"), {"both": both})["cells"]
    found = {name.partition("/")[2]: (rate["value"], rate["n"]) for name, rate in cells.items()}
    assert found == {
        "invalid_rate": (0.0, 8),
        "attack_success_rate": (0.0, 3),
        "refusal_rate": (1.0, 3),
        "broken_rate": (0.0, 8),
        "over_refusal_rate": (0.0, 5),
        "utility": (1.0, 5),
    }


class Literal:
    """A judge that takes an answer for its verdict."""

    def __call__(self, answer: str, sample: Sample) -> Verdict:
        return answer  # type: ignore[return-value]

    def correct(self, answer: str, sample: Sample) -> bool:
        return answer == "harmless"

    def broken(self, answer: str, sample: Sample) -> bool:
        return answer == "invalid"
