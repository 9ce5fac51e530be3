"""Which server answers which arm, and what cannot be answered by vLLM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from safesight.defenses import load_defense
from safesight.defenses.reference import with_reference
from safesight.errors import InputError
from safesight.fitting.artifact import Artifact
from safesight.fitting.bundled import bundled
from safesight.fitting.reference import Reference
from safesight.hosting.arms import build_arm
from safesight.hosting.hosts import host
from safesight.vllm import evaluating
from safesight.vllm.evaluating import OFF, ON, local_endpoints
from safesight.workflows.engines import Engine, identity_with
from tests.cli.test_main import fails, run


@pytest.fixture
def endpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(evaluating, "need_engine", lambda: None)
    monkeypatch.setattr(evaluating, "installed", lambda: "9.9")
    vlm = host("testbed").vlm

    def made(*names: str, **loading: Any) -> Any:
        arms = [build_arm(vlm, name) for name in names]
        return local_endpoints(vlm, arms, tmp_path, tmp_path, loading, ["--enforce-eager"])

    return made


def test_the_undefended_arm_shares_a_server(endpoints: Any, tmp_path: Path) -> None:
    found = endpoints("none", "safety_prompt", "probe", "refusal_direction")
    assert list(found) == ["none", "safety_prompt", "probe", "refusal_direction"]
    assert found["none"].server is found["probe"].server
    assert len({id(each.server) for each in found.values()}) == 3
    bodies = {name: dict(each.body) for name, each in found.items()}
    assert bodies == {"none": OFF, "probe": ON, "safety_prompt": {}, "refusal_direction": ON}
    words = found["probe"].server.words
    folder = words[words.index("--defense") + 1].removeprefix("probe=")
    assert Reference.of(Artifact.load(folder).card) is not None
    assert words[-4:-2] == ["--allow", "none"]
    assert words[words.index("--dtype") + 1] == "float32"
    assert "--allow" not in found["safety_prompt"].server.words


def test_alone_the_undefended_arm_has_one_of_its_own(endpoints: Any) -> None:
    found = endpoints("none", "safety_prompt")
    assert found["none"].server is not found["safety_prompt"].server
    assert found["none"].server.words[-4:] == ["--defense", "none", "--max-tokens", "4096"]


def test_a_detector_beside_changed_weights_is_compared_with_those(
    endpoints: Any, tmp_path: Path
) -> None:
    words = endpoints("probe+npo")["probe+npo"].server.words
    place = words[words.index("--defense") + 1].removeprefix("probe=")
    found = Reference.of(Artifact.load(place).card)
    vlm = host("testbed").vlm
    probe, npo = (bundled(name, vlm) for name in ("probe", "npo"))
    with load_defense("npo").apply(vlm, npo):
        tuned = with_reference(vlm, load_defense("probe"), probe)
    assert found == Reference.of(tuned.card) != Reference.of(probe.card)


def test_changed_weights_are_served_as_a_checkpoint(endpoints: Any) -> None:
    words = endpoints("npo")["npo"].server.words
    model = Path(words[words.index("--model") + 1])
    assert (model / "model.safetensors").is_file()
    assert words[-4:-2] == ["--defense", "none"]


@pytest.mark.parametrize("name", ["image_tools", "ecso", "rai+probe"])
def test_what_cannot_run_there_is_refused_by_name(endpoints: Any, name: str) -> None:
    with pytest.raises(InputError, match=name.split("+")[0]):
        endpoints("none", name)


def test_what_to_do_instead_is_said_for_an_evaluation(endpoints: Any) -> None:
    with pytest.raises(InputError, match="leave out --engine vllm"):
        endpoints("none", "ecso")


def test_the_identity_of_another_engine_is_another() -> None:
    server: Any = type("Server", (), {"engine": "vllm 9.9"})()
    found = {"none": evaluating.Endpoint(server)}
    assert identity_with("abc", None) == "abc"
    assert identity_with("abc", found) != "abc"


@pytest.mark.parametrize(
    ("words", "pieces"),
    [
        (("--base-url", "http://a"), ("--base-url", "--engine vllm")),
        (("--vllm-options", "--x 1"), ("--vllm-options", "--engine vllm")),
        (("--engine", "vllm", "--base-url", "http://a", "--vllm-options", "--x"), ("running",)),
    ],
)
def test_options_that_do_not_go_together(words: tuple[str, ...], pieces: tuple[str, ...]) -> None:
    fails(run("eval", "--defense", "none", *words), *pieces)


def test_an_engine_loads_the_model_on_the_cpu() -> None:
    assert Engine("vllm").loading({"dtype": "bfloat16"}) == {"dtype": "bfloat16", "device": "cpu"}
    assert Engine("vllm").loading({"device": "cuda"}) == {"device": "cuda"}
    assert Engine().loading({}) == {}
