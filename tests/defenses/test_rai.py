"""RAI: what a fit writes down, what settings change, and what the search may choose."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from safesight import VLM, load_defense
from safesight.activations import resid_post, resid_pre
from safesight.benchmarks import load_benchmark
from safesight.defenses import FitData
from safesight.defenses.rai import search as module
from safesight.defenses.rai.calibration import Tap, pictures_of, threshold, visual_states
from safesight.defenses.rai.method import RAI, STRENGTHS, RAIConfig, candidate_layers, injection_of
from safesight.defenses.rai.prototypes import GENERIC_WORDS, word_vectors
from safesight.defenses.rai.search import answers, search
from safesight.errors import ArtifactError, InputError, ModelError
from safesight.fitting.bundled import bundled
from tests import tiny
from tests.contracts.defense_helpers import fit_data, fitted, prompts, sample

TOKENS = 16 * sum(len(each.pictures) for each in (*fit_data().harmful, *fit_data().benign))
"""Visual tokens of all pictures of the fit."""


def test_threshold_lets_the_stated_share_pass() -> None:
    best = torch.arange(200) / 200
    for ratio, above in ((0.0, 0), (0.01, 2), (0.1, 20), (0.5, 100), (1.0, 200)):
        tau = threshold(best[torch.randperm(200, generator=torch.Generator())], ratio)
        assert int((best > tau).sum()) == above
        assert float((best - tau).abs().min()) > 5e-7, "rounding must not decide"


def test_a_fit_writes_down_what_it_found() -> None:
    vlm, artifact = tiny.vlm("llava"), fitted("rai", "llava")
    assert artifact.fitted["layer"] == "embed"
    assert artifact.fitted["strength"] == 1.0
    assert artifact.fitted["words"] == list(GENERIC_WORDS)
    expected = word_vectors(vlm, GENERIC_WORDS, "words", resid_pre(0))
    assert torch.equal(artifact.tensors["prototypes"], expected)
    assert set(artifact.tensors) == {"prototypes"}
    assert artifact.card["tokens_of_words"]["fraud"] == 5, "a token a letter"
    note = artifact.card["calibration"]
    assert note["pictures"] == 6, "half of the twelve samples have one"
    assert note["visual_tokens"] == TOKENS
    assert note["realised_ratio"] == pytest.approx(2 / TOKENS)


def test_the_seed_draws_the_pictures() -> None:
    rai, vlm = RAI(pictures=2, ratio=0.25), tiny.vlm("llava")
    one, again, two = (rai.fit(vlm, fit_data(), seed=n, progress=False) for n in (0, 0, 1))
    assert one.hash == again.hash != two.hash


def test_labels_are_not_looked_at() -> None:
    vlm, data = tiny.vlm("llava"), fit_data()
    turned = FitData(data.benign, data.harmful)
    one, two = (RAI(pictures=99).fit(vlm, d, progress=False) for d in (data, turned))
    assert one.fitted == two.fitted


def test_the_threshold_is_of_visual_tokens() -> None:
    vlm, artifact = (
        tiny.vlm("llava"),
        RAI(ratio=0.25).fit(tiny.vlm("llava"), fit_data(), progress=False),
    )
    injection = injection_of(*RAI(strength=1.0).resolve(vlm, artifact))
    pool = pictures_of(fit_data(), 200, 0)
    states = visual_states(vlm, pool, [resid_pre(0)])[resid_pre(0)]
    assert len(states) == TOKENS
    assert int((injection.scores(states).amax(dim=1) > injection.tau).sum()) == TOKENS // 4


@pytest.mark.parametrize("prototypes", ["words", "contextual"])
@pytest.mark.parametrize(("layer", "site"), [("embed", resid_pre(0)), (2, resid_post(2))])
def test_switches(prototypes: str, layer: Any, site: Any) -> None:
    vlm = tiny.vlm("llava")
    config = {"words": ("bomb", "gun"), "prototypes": prototypes, "layer": layer, "centered": True}
    artifact = RAI(**config, norm_matched=True).fit(vlm, fit_data(), progress=False)
    found = injection_of(*RAI().resolve(vlm, artifact))
    assert found.site == site
    assert found.norm_matched
    assert torch.equal(found.prototypes, word_vectors(vlm, ["bomb", "gun"], prototypes, site))
    pool = pictures_of(fit_data(), 200, 0)
    states = visual_states(vlm, pool, [site])[site]
    assert torch.allclose(found.token_mean, states.mean(dim=0), atol=1e-4)
    assert found.word_mean is not None
    with RAI().apply(vlm, artifact):
        vlm.answer(prompts())


def test_settings_at_use() -> None:
    vlm, artifact = tiny.vlm("llava"), fitted("rai", "llava")
    plain = vlm.answer(prompts())
    for off in ({"strength": 0.0}, {"tau": 1.01}):
        with RAI(**off).apply(vlm, artifact):
            assert vlm.answer(prompts()) == plain
    with RAI(strength=8.0, tau=-1.0).apply(vlm, artifact):
        assert vlm.answer(prompts()) != plain
    with RAI(strength=8.0, top_k=4).apply(vlm, artifact):
        assert vlm.answer(prompts()) != plain
    with pytest.raises(ArtifactError, match="layer='embed', not 2"):
        RAI(layer=2).apply(vlm, artifact).__enter__()


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"tau": 0.1, "top_k": 2}, "not both"),
        ({"strength": -1}, "strength"),
        ({"ratio": 1.5}, "ratio"),
        ({"layer": -1}, "layer"),
        ({"words": ()}, "words"),
        ({"words": (" ",)}, "words"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        RAI(**settings)


def test_layers() -> None:
    assert candidate_layers(4, "auto") == ["embed", 0, 1, 2]
    with pytest.raises(ModelError, match="up to 3"):
        candidate_layers(4, 4)


@pytest.mark.parametrize(
    ("part", "value"),
    [("layer", 9), ("layer", "first"), ("layer", -1), ("tau", None), ("strength", float("nan"))],
)
def test_artifacts_that_cannot_be(part: str, value: object) -> None:
    artifact = fitted("rai", "llava")
    bad = replace(artifact, fitted={**artifact.fitted, part: value})
    with pytest.raises(ArtifactError, match="again"):
        RAI().apply(tiny.vlm("llava"), bad).__enter__()


@pytest.mark.parametrize("tensor", [None, torch.zeros(3), torch.full((2, tiny.WIDTH), torch.nan)])
def test_prototypes_that_cannot_be(tensor: Any) -> None:
    artifact = fitted("rai", "llava")
    tensors = {} if tensor is None else {"prototypes": tensor}
    with pytest.raises(ArtifactError, match="again"):
        RAI().apply(tiny.vlm("llava"), replace(artifact, tensors=tensors)).__enter__()


def test_a_fit_needs_pictures() -> None:
    texts = FitData([sample(0, "harmful", False)], [sample(1, "benign", False)])
    with pytest.raises(InputError, match="picture"):
        RAI().fit(tiny.vlm("llava"), texts, progress=False)


def test_answers_are_those_of_the_model() -> None:
    vlm, few = tiny.vlm("llava"), [sample(i, "benign", i % 2 == 1) for i in range(5)]
    expected = vlm.answer([each.messages() for each in few], max_new_tokens=6)
    assert answers(vlm, few, batch_size=2, max_new_tokens=6) == expected


# What "auto" sees in the following: refused attacks and lost benign answers by strength.
OUTCOMES = {None: (0, 1), 1.0: (1, 1), 2.0: (5, 2), 4.0: (5, 3), 8.0: (9, 4)}


def searched(monkeypatch: pytest.MonkeyPatch, **settings: Any) -> tuple[float, list[Any]]:
    """The strength chosen where the judge says what `OUTCOMES` has, of ten samples each."""

    def judged(vlm: Any, samples: Any, act: Any = None, *, config: Any) -> list[Any]:
        strength = None if act is None else act.args[2].__self__.strength
        benign = samples[0].label == "benign"
        count = OUTCOMES[strength][benign]
        kinds = [("refused", False), ("invalid", False), ("harmless", False)]
        # One sample in ten is answered wrong with and without: that is no loss.
        lost = [("refused", False), *[kinds[count % 3] if benign else kinds[0]] * (count - 1)]
        return lost[:count] + [("harmless", True)] * (9 - count) + [("harmless", False)]

    monkeypatch.setattr(module, "judged", judged)
    samples = [[sample(i, label, True) for i in range(10)] for label in ("harmful", "benign")]
    (_, _, strength), tried = search(
        tiny.vlm("llava"),
        [Tap("embed", torch.eye(2), torch.rand(8, generator=torch.Generator()))],
        FitData(*samples),
        RAIConfig(**settings),
        ratios=(0.1,),
        strengths=(8.0, 1.0, 4.0, 2.0),
        seed=0,
        progress=False,
    )
    return strength, tried


@pytest.mark.parametrize(("bound", "strength"), [(0.0, 1.0), (0.1, 2.0), (0.2, 2.0), (0.3, 8.0)])
def test_the_search_keeps_within_its_bound(
    bound: float, strength: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, tried = searched(monkeypatch, max_benign_loss=bound)
    assert found == strength, "the gentlest of the best within the bound"
    beyond = [note for note in tried if note["benign_lost"] > 1 + 10 * bound]
    assert len(beyond) <= 1, "strengths end where the bound is passed"
    assert all("harmful_refused" not in note for note in beyond)


def test_auto_on_a_model_that_never_refuses_stays_gentle() -> None:
    artifact = RAI(layer="auto", ratio="auto", strength="auto", max_new_tokens=4, search=2).fit(
        tiny.vlm("llava"), fit_data(), progress=False
    )
    assert artifact.fitted["layer"] == "embed"
    assert artifact.fitted["strength"] == STRENGTHS[0]
    assert artifact.fitted["ratio"] == 0.01
    tried = artifact.card["candidates"]
    assert {note["layer"] for note in tried} == {"embed", 0, 1, 2}
    with RAI().apply(tiny.vlm("llava"), artifact):
        tiny.vlm("llava").answer(prompts())


def test_auto_needs_labelled_pictures() -> None:
    data = FitData([sample(0, "harmful", False)], [sample(1, "benign", True)])
    with pytest.raises(InputError, match="harmful samples with pictures"):
        RAI(strength="auto").fit(tiny.vlm("llava"), data, progress=False)


def test_the_search_takes_benign_pictures_where_they_are() -> None:
    pictured = [sample(i, label, True) for i in range(6) for label in ("harmful", "benign")]
    data = FitData(
        [each for each in pictured if each.label == "harmful"],
        [each for each in pictured if each.label == "benign"],
        [sample(99, "benign", False)],
    )
    config = {"strength": "auto", "max_new_tokens": 2, "search": 2}
    artifact = RAI(**config).fit(tiny.vlm("llava"), data, progress=False)
    assert artifact.card["candidates"][0]["benign"] == 2


@pytest.mark.parametrize("name", ["rai", "tool_vector"])
def test_an_edit_for_one_prompt_is_not_made_in_another(name: str) -> None:
    """What asks its own questions inside would be edited at the places of this prompt."""
    vlm = VLM.load("testbed")
    asked = [each.messages() for each in load_benchmark("image_harm")(1)]
    with (
        load_defense(name).apply(vlm, bundled(name, vlm)),
        load_defense("shiftdc").apply(vlm, bundled("shiftdc", vlm)),
        pytest.raises(ModelError, match="asks its own questions"),
    ):
        vlm.answer(asked, max_new_tokens=4)
