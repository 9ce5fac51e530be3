"""`safesight serve --engine vllm`: what vLLM is told, and what is refused before it starts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from safesight.errors import InputError, SafesightError
from safesight.fitting.bundled import place_in
from safesight.vllm import command
from safesight.vllm.command import Serving, arguments, surroundings
from safesight.vllm.wanted import wanted_of
from tests.cli.test_main import fails, run

PLAIN = Serving("org/model", "mine", "127.0.0.1", 8000)


def told(serving: Serving) -> dict[str, str]:
    words = arguments(serving)
    return dict(zip(words[1::2], words[2::2], strict=False))


def test_vllm_is_told_what_the_operator_decided() -> None:
    settings = wanted_of({"probe": Path("a")}).settings(per_request=True)
    found = told(replace(PLAIN, settings=settings, dtype="float32", max_tokens=7, max_pictures=2))
    assert json.loads(found["--additional-config"])["safesight"] == {
        "defenses": [{"name": "probe", "artifact": str(Path("a").absolute())}],
        "per_request": True,
        "allow_unvalidated": False,
        "template": [],
    }
    assert json.loads(found["--override-generation-config"]) == {"max_new_tokens": 7}
    assert json.loads(found["--limit-mm-per-prompt"])["image"] == 2
    assert found["--dtype"] == "float32"
    assert found["--middleware"] == "safesight.server.door.Door"


def test_an_engine_without_defenses_is_told_what_is_in_its_template() -> None:
    found = told(replace(PLAIN, settings=wanted_of({"safety_prompt": None}).settings()))
    safesight = json.loads(found["--additional-config"])["safesight"]
    assert safesight["defenses"] == [{"name": "none"}]
    assert safesight["template"] == ["safety_prompt"]


def test_no_host_is_asked_for_pictures_unless_it_is_listed() -> None:
    assert arguments(PLAIN)[-2:] == ["--allowed-media-domains", command.NOWHERE]
    listed = arguments(replace(PLAIN, image_hosts=["a.example", "b.example"]))
    assert listed[-3:] == ["--allowed-media-domains", "a.example", "b.example"]
    assert surroundings(PLAIN, {})["VLLM_MEDIA_URL_ALLOW_REDIRECTS"] == "0"


@pytest.mark.parametrize(
    ("before", "after"),
    [(None, None), ("", "safesight"), ("mine", "mine,safesight"), ("safesight,x", None)],
)
def test_the_plugin_is_among_those_that_are_loaded(before: str | None, after: str | None) -> None:
    environment = {} if before is None else {"VLLM_PLUGINS": before}
    assert surroundings(PLAIN, environment).get("VLLM_PLUGINS") == after


def test_keys_are_no_arguments() -> None:
    keyed = replace(PLAIN, keys=("k" * 20, "l" * 20))
    assert "k" * 20 not in " ".join(arguments(keyed))
    assert surroundings(keyed, {})["SAFESIGHT_API_KEY"] == "k" * 20 + "\n" + "l" * 20


@pytest.mark.parametrize(
    "word",
    [
        "--additional-config={}",
        "--additional_config={}",
        "--additional-config.safesight=1",
        "--api-key",
        "--middleware",
        "--config",
        "--grpc",
        "--trust-request-chat-template",
    ],
)
def test_an_option_that_would_go_past_the_checks(word: str) -> None:
    with pytest.raises(InputError, match="vLLM"):
        arguments(replace(PLAIN, more=(word,)))


def test_other_options_are_passed_on() -> None:
    assert arguments(replace(PLAIN, more=("--tensor-parallel-size", "2")))[-1] == "2"


def test_the_artifacts_decide_the_dtype() -> None:
    assert wanted_of({"probe": place_in("testbed", "probe")}).dtype(None) == "float32"
    assert wanted_of({"probe": place_in("testbed", "probe")}).dtype("bfloat16") == "bfloat16"
    assert wanted_of({"safety_prompt": None}).dtype(None) is None


def test_a_prompt_in_the_template_cannot_be_turned_off() -> None:
    wanted = wanted_of({"safety_prompt": None, "probe": None})
    assert [each.name for each in wanted.inside] == ["probe"]
    with pytest.raises(InputError, match="safety_prompt is in the chat template"):
        wanted.settings(per_request=True)
    with pytest.raises(SafesightError, match="takes no artifact"):
        wanted_of({"safety_prompt": Path("a")})


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if vLLM were installed, and nothing were started."""
    monkeypatch.setattr(command, "need_engine", lambda: None)

    def started(serving: Serving, starting: Any) -> None:
        raise AssertionError(f"started {serving}")

    monkeypatch.setattr(command, "run", started)


VLLM = ("serve", "--engine", "vllm", "--defense", "probe")


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("words", "pieces"),
    [
        (("--max-pixels", "5"), ("--max-pixels", "--engine vllm")),
        (("--allow-threshold",), ("--allow-threshold", "--engine vllm")),
        (("--quantization", "int8"), ("--quantization", "--engine vllm")),
        (("--allow", "probe"), ("--allow none",)),
        (("--port", "0"), ("--port",)),
        (("--host", "0.0.0.0"), ("API key",)),
        (("--decision-log", "/dev/null"), ("/dev/null",)),
        (("--allow-image-host", "http://a.example"), ("a.example",)),
        (("--model", "missing/folder/x"), ("missing/folder/x",)),
        (("--chat-template", "missing.jinja"), ("missing.jinja",)),
    ],
    ids=lambda words: words[0],
)
def test_what_is_refused_before_vllm_starts(
    words: tuple[str, ...], pieces: tuple[str, ...]
) -> None:
    fails(run(*VLLM, *words), *pieces)


def test_options_of_vllm_need_vllm() -> None:
    fails(run("serve", "--defense", "none", "--", "--max-model-len", "9"), "--max-model-len")
    fails(run("serve", "--defense", "none", "--chat-template", "a"), "--chat-template")


def test_without_vllm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("safesight.extras.find_spec", lambda name: None)
    fails(run(*VLLM), "safesight[vllm]")
