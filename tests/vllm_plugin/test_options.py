"""Options of `vllm serve`: some are refused in every form, and the rest identify answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("inspect_ai")

from safesight.errors import InputError
from safesight.evals import skipped
from safesight.hosting.arms import build_arm
from safesight.hosting.hosts import host
from safesight.vllm import command, evaluating
from safesight.vllm.command import Serving, arguments
from safesight.workflows.engines import Engine, identity_with

PLAIN = Serving("org/model", "mine", "127.0.0.1", 8000)
REFUSED = sorted({*command._SET, *command._NEVER})


@pytest.mark.parametrize("option", REFUSED)
def test_no_short_form_goes_past_the_checks(option: str) -> None:
    """The parser of vLLM takes the beginning of a name for the whole."""
    for end in range(4, len(option) + 1):
        name = option[:end]
        for word in (name, f"{name}={{}}", name[:2] + name[2:].replace("-", "_"), f"{name}.key"):
            with pytest.raises(InputError, match="of vLLM"):
                arguments(Serving(**{**vars(PLAIN), "more": (word, "{}")}))


@pytest.mark.parametrize(
    "word", ["--max-model-len", "--config-format", "--host-name", "-tp", "--", "{}", "a=--grpc"]
)
def test_other_words_are_passed_on(word: str) -> None:
    assert arguments(Serving(**{**vars(PLAIN), "more": (word,)}))[-1] == word


def test_options_are_part_of_an_identity_and_of_the_remarks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluating, "need_engine", lambda: None)
    monkeypatch.setattr(evaluating, "installed", lambda: "9.9")
    vlm = host("testbed").vlm
    arms = [build_arm(vlm, "none")]

    def found(*options: str) -> tuple[str, str, Any]:
        engine = Engine("vllm", options=options)
        with engine.endpoints(vlm, arms, tmp_path, {}) as places:
            assert places is not None
            (remark,) = engine.remarks(places)
            return identity_with("abc", places), remark, places["none"].server

    plain, said, server = found()
    assert said == "The answers are those of vllm 9.9."
    assert server.log == tmp_path / "vllm-none.log"  # which stays, and is no log of answers
    server.log.write_text("INFO: loaded")
    assert skipped(tmp_path) == []
    other, said, _ = found("--max-model-len", "512", "--hf-token", "hf_secret", "--hf-token=hf_s")
    assert other != plain
    assert said.startswith("The answers are those of vllm 9.9 with --max-model-len 512 --hf-token")
    assert "hf_s" not in said
    assert found("--max-model-len", "256")[0] not in (plain, other)
    assert not list(tmp_path.glob(".vllm-*"))


def test_what_a_killed_run_left_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluating, "need_engine", lambda: None)
    monkeypatch.setattr(evaluating, "installed", lambda: "9.9")
    (tmp_path / ".vllm-dead" / "arm-0").mkdir(parents=True)
    vlm = host("testbed").vlm
    arms, engine = [build_arm(vlm, "none")], Engine("vllm")
    with engine.endpoints(vlm, arms, tmp_path, {}):
        (alive,) = tmp_path.glob(".vllm-*")
        assert alive.name != ".vllm-dead"
        with engine.endpoints(vlm, arms, tmp_path, {}):
            assert alive.is_dir()  # another run has it
            assert len(list(tmp_path.glob(".vllm-*"))) == 2
    assert not list(tmp_path.glob(".vllm-*"))
