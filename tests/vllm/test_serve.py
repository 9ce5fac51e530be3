"""`safesight serve --engine vllm`: one server on the bundled model, and what clients get."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("vllm", reason="vLLM is not installed; see make test-vllm")

import httpx
import openai
import torch

from safesight import VLM, load_defense, registry
from safesight.defenses import Artifact
from safesight.defenses.reference import with_reference
from safesight.errors import InputError
from safesight.fitting.bundled import bundled
from safesight.hosting.arms import build_arm
from safesight.vllm.remote import OFF, ON, remote_endpoints
from tests.vllm.servers import serving

pytestmark = pytest.mark.slow

KEY = "a-key-of-the-test-suite"
TOKENS = 24


@pytest.fixture(scope="module")
def vlm() -> VLM:
    return VLM.load("testbed", dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def probe(vlm: VLM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled artifact, with the states that vLLM is compared with."""
    folder = tmp_path_factory.mktemp("artifacts") / "probe"
    with_reference(vlm, load_defense("probe"), bundled("probe", vlm)).save(folder)
    return folder


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log") / "decisions.jsonl"


@pytest.fixture(scope="module")
def address(probe: Path, log: Path) -> Iterator[str]:
    words = ("--allow", "none", "--decision-log", str(log), "--max-tokens", str(TOKENS))
    with serving("--defense", f"probe={probe}", *words, key=KEY) as address:
        yield address


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{address}/v1", api_key=KEY, max_retries=0) as client:
        yield client


def asked(sample: Any) -> list[dict[str, Any]]:
    """A sample as messages of the API."""
    turns = []
    for turn in sample.messages():
        parts: list[dict[str, Any]] = []
        for part in turn["content"]:
            if part["type"] == "image":
                held = io.BytesIO()
                part["image"].save(held, "PNG")
                text = base64.b64encode(held.getvalue()).decode()
                url = f"data:image/png;base64,{text}"
                parts.append({"type": "image_url", "image_url": {"url": url}})
            else:
                parts.append(part)
        turns.append({"role": turn["role"], "content": parts})
    return turns


def samples(*tasks: str) -> list[Any]:
    return [sample for task in tasks for sample in registry.load("benchmark", task)(4)]


@pytest.fixture(scope="module")
def refusal(vlm: VLM) -> str:
    """As the bundled model writes it, which knows no capitals."""
    return str(load_defense("probe").config.refusal).lower()


@pytest.fixture(scope="module")
def refused(client: openai.OpenAI, refusal: str) -> list[dict[str, Any]]:
    """A conversation that the probe refuses."""
    for sample in samples("image_harm", "typographic_harm"):
        if chat(client, asked(sample)).choices[0].message.content == refusal:
            return asked(sample)
    raise AssertionError("nothing is refused")


def chat(client: openai.OpenAI, messages: Any, **more: Any) -> Any:
    given = {"temperature": 0, **more}
    return client.chat.completions.create(model="testbed", messages=messages, **given)


def test_the_answers_are_those_of_transformers(
    client: openai.OpenAI, vlm: VLM, probe: Path
) -> None:
    wanted = samples("image_harm", "vqa", "text_harm", "over_refusal")
    with load_defense("probe").apply(vlm, Artifact.load(probe)):
        theirs = [vlm.answer([each.messages()], max_new_tokens=TOKENS)[0] for each in wanted]
    ours = [chat(client, asked(each)).choices[0].message.content.strip() for each in wanted]
    assert ours == theirs


def test_an_evaluation_asks_a_running_server_who_it_is(
    address: str, vlm: VLM, probe: Path, tmp_path: Path
) -> None:
    def endpoints(place: Path, *names: str, of: VLM = vlm) -> Any:
        arms = [build_arm(of, name, {"probe": place} if name == "probe" else {}) for name in names]
        return remote_endpoints(of, address, KEY, arms)

    found = endpoints(probe, "none", "probe")
    assert {name: dict(each.body) for name, each in found.items()} == {"none": OFF, "probe": ON}
    fit = Artifact.load(probe)
    other = replace(fit, fitted={**fit.fitted, "threshold": 0.123}).save(tmp_path / "probe")
    with pytest.raises(InputError, match="another artifact"):
        endpoints(other, "none", "probe")
    with pytest.raises(InputError, match="defended by probe, not by hidden_detect"):
        endpoints(probe, "none", "hidden_detect")
    unlearned = VLM.load("testbed", dtype="float32", device="cpu")
    with torch.no_grad():
        unlearned.layers[0].mlp.down_proj.weight.zero_()
    with pytest.raises(InputError, match="another model"):
        endpoints(probe, "none", of=unlearned)


def test_a_refusal_is_an_answer_that_stopped(
    client: openai.OpenAI, refused: Any, refusal: str
) -> None:
    choice = chat(client, refused).choices[0]
    assert (choice.message.content, choice.finish_reason) == (refusal, "stop")


def test_a_stream_of_a_refusal(client: openai.OpenAI, refused: Any, refusal: str) -> None:
    parts = list(chat(client, refused, stream=True))
    text = "".join(part.choices[0].delta.content or "" for part in parts if part.choices)
    assert text == refusal
    assert len(parts) > 2


def test_several_answers_are_all_refused(client: openai.OpenAI, refused: Any, refusal: str) -> None:
    found = chat(client, refused, n=2, temperature=1.0, seed=1)
    assert [choice.message.content for choice in found.choices] == [refusal, refusal]


def test_log_probabilities_of_a_refusal_tell_nothing(
    client: openai.OpenAI, vlm: VLM, refused: Any, refusal: str
) -> None:
    found = chat(client, refused, logprobs=True).choices[0]
    said = "".join(each.token for each in found.logprobs.content)
    assert said.removesuffix(vlm.tokenizer.eos_token).strip() == refusal
    assert {each.logprob for each in found.logprobs.content} == {0.0}


def test_a_request_may_turn_the_defense_off_where_that_is_allowed(
    client: openai.OpenAI, refused: Any, refusal: str
) -> None:
    off = {"vllm_xargs": {"safesight": "off"}}
    assert chat(client, refused, extra_body=off).choices[0].message.content != refusal
    on = {"vllm_xargs": {"safesight": "on"}}
    assert chat(client, refused, extra_body=on).choices[0].message.content == refusal
    with pytest.raises(openai.BadRequestError, match="safesight can be"):
        chat(client, refused, extra_body={"vllm_xargs": {"safesight": "maybe"}})


def test_a_refusal_that_a_grammar_forbids_is_an_error_of_that_request_alone(
    client: openai.OpenAI, refused: Any, refusal: str
) -> None:
    """The grammar forbids the refusal's tokens; nothing else goes out in their place."""
    grammar = {"structured_outputs": {"choice": ["yes", "no"]}}
    with pytest.raises(openai.InternalServerError):
        chat(client, refused, extra_body=grammar)
    benign = asked(samples("vqa")[0])
    assert chat(client, benign, extra_body=grammar).choices[0].message.content in ("yes", "no")


def test_the_cap_on_tokens_holds(client: openai.OpenAI) -> None:
    asking = [{"role": "user", "content": "what is a kettle for?"}]
    found = chat(client, asking, max_tokens=400, extra_body={"ignore_eos": True})
    assert found.usage.completion_tokens == TOKENS


def test_pictures_come_with_the_request(client: openai.OpenAI) -> None:
    part = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    with pytest.raises(openai.APIStatusError):
        chat(client, [{"role": "user", "content": [part, {"type": "text", "text": "what is it?"}]}])


@pytest.mark.parametrize("path", ["/metrics", "/v1/models", "/invocations", "/tokenize"])
def test_every_path_needs_the_key(address: str, path: str) -> None:
    assert httpx.get(address + path).status_code == 401


def test_counters_and_log_tell_of_refusals(
    address: str, client: openai.OpenAI, refused: Any, log: Path
) -> None:
    def count() -> float:
        page = httpx.get(f"{address}/metrics", headers={"Authorization": f"Bearer {KEY}"}).text
        lines = [each for each in page.splitlines() if each.startswith("safesight_refusals_total")]
        return sum(float(line.split()[-1]) for line in lines)

    before, lines = count(), log.read_text().splitlines()
    chat(client, refused)
    assert count() == before + 1
    new = log.read_text().splitlines()[len(lines) :]
    assert len(new) == 1
    entry = json.loads(new[0])
    assert entry["refused"] is True
    assert entry["detector"] == "probe"
    assert entry["model"] == "testbed"
    assert "prompt" not in entry
