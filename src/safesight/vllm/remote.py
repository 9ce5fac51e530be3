"""A server that somebody else started: whether it is the one that an evaluation asks for.

It is asked which defenses it has, by the hash of their settings and artifacts. Its model is
compared on the prompts of `fitting.reference`: as many tokens, and nearly the same probability of
the likeliest first one. What it does with the requests after that, nobody can see from here.
"""

from __future__ import annotations

import base64
import io
import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from math import exp
from typing import TYPE_CHECKING, Any

import torch

from safesight.console import waiting
from safesight.errors import InputError, reason_of
from safesight.evals.endpoint import Address, Endpoint
from safesight.fitting.reference import conversations
from safesight.vllm.about import About, fingerprint

if TYPE_CHECKING:
    from safesight.hosting.arms import Arm
    from safesight.models import VLM
    from safesight.types import Messages

__all__ = ["OFF", "ON", "Remote", "found_at", "remote_endpoints"]

ON = {"vllm_xargs": {"safesight": "on"}}
OFF = {"vllm_xargs": {"safesight": "off"}}
CLOSE = 0.5
"""How far the logarithm of a probability may be off, in any dtype. Other models differ by more on
one of the prompts."""
_PATIENCE = 600.0
"""Seconds for one answer: the first one may have to wait for kernels to be compiled."""
_PATIENCE_FOR_FACTS = 30.0
"""Seconds for what a server says of itself, also for finding out that there is none."""
_SHARED = {
    "input": "is in the chat template of a server",
    "weights": "is in the weights of a server",
}
"""Where no request can turn a defense off, by kind."""


@dataclass(frozen=True)
class Remote:
    """A running server."""

    engine: str
    address: Address

    @contextmanager
    def running(self) -> Iterator[None]:
        """Inside, it answers, as it does outside."""
        yield

    def body(self, messages: Messages, **more: Any) -> dict[str, Any]:
        """A request for one token."""
        turns = [
            {**turn, "content": [_part(part) for part in turn["content"]]} for turn in messages
        ]
        return {"model": self.address.model, "messages": turns, "max_tokens": 1, **more}

    def ask(self, body: Mapping[str, Any]) -> tuple[int, Any]:
        """Status and body of an answer to a chat.

        Raises:
            InputError: there is none.
        """
        return _ask(f"{self.address.url}/chat/completions", self.address.key, body)


def found_at(url: str, key: str) -> Remote:
    """The server at an address.

    Args:
        url: Where it is, with or without /v1.
        key: An API key.

    Raises:
        InputError: it does not answer as vLLM does.
    """
    root = url.rstrip("/").removesuffix("/v1")
    if not root.startswith(("http://", "https://")):
        raise InputError(f"{url!r} is not the address of a server. Write it like http://host:8000.")
    found = []
    for path in ("/version", "/v1/models"):
        status, body = _ask(root + path, key)
        if status != 200:
            raise InputError(f"{root + path} has status {status}. Check address and key.")
        found.append(body)
    about, models = found
    try:
        engine, model = f"vllm {about['version']}", str(models["data"][0]["id"])
    except (KeyError, IndexError, TypeError) as error:
        raise InputError(f"{url} does not answer as vLLM does. Check the address.") from error
    return Remote(engine, Address(f"{root}/v1", key or "none", model))


def remote_endpoints(vlm: VLM, url: str, key: str, arms: Sequence[Arm]) -> dict[str, Endpoint]:
    """One server for all arms.

    Args:
        vlm: The model that it should serve.
        url: Where it is, with or without /v1.
        key: An API key.
        arms: The undefended arm, and one with the server's defenses.

    Raises:
        InputError: it does not answer as vLLM does, has other defenses or another model, or cannot
            answer all arms.
    """
    defended = [arm for arm in arms if arm.defenses]
    _check_arms(defended)
    server = found_at(url, key)
    about = _about(server, url)
    _check_defenses(url, about, defended)
    bare = about is None or not about.defenses
    can_turn_off = about is not None and about.per_request
    if not bare and not can_turn_off and len(defended) < len(arms):
        raise InputError(
            f"The server at {url} does not let a request turn its defenses off, so it cannot "
            "answer undefended. Start it with --allow none."
        )
    off = OFF if can_turn_off else {}
    if bare or can_turn_off:
        with waiting(f"Comparing {url} with {vlm.name}"):
            _check_model(vlm, server, url, off)
    return {arm.name: Endpoint(server, ON if arm.defenses else off) for arm in arms}


def _check_arms(defended: Sequence[Arm]) -> None:
    """Refuse what one running server cannot answer beside the undefended model."""
    if len(defended) > 1:
        raise InputError(
            f"A running server has one configuration, so it cannot answer both {defended[0].name} "
            f"and {defended[1].name}. Name one of them, or leave out --base-url."
        )
    for arm in defended:
        for defense, _ in arm.defenses:
            if defense.kind in _SHARED:
                raise InputError(
                    f"{defense.name} {_SHARED[defense.kind]}, where no request can turn it off for "
                    "the undefended arm. Leave out --base-url, and a server for each arm is "
                    "started here."
                )


def _about(server: Remote, url: str) -> About | None:
    """What the server says of its defenses; None if it has none in its engine."""
    messages = conversations()[0][1]
    status, answer = server.ask(server.body(messages, vllm_xargs={"safesight": "describe"}))
    if status == 200:
        return None
    about = About.in_answer(_error(answer))
    if about is None:
        raise InputError(
            f"The server at {url} does not say which defenses it has (status {status}: "
            f"{_error(answer)[:200]}). Check that it has the same version of safesight."
        )
    return about


def _check_defenses(url: str, about: About | None, defended: Sequence[Arm]) -> None:
    if about is not None and about.template:
        raise InputError(
            f"The server at {url} has {' and '.join(about.template)} in its chat template, where "
            "no request can turn it off. Start it without."
        )
    if not defended:
        return
    arm = defended[0]
    wanted = {defense.name: fingerprint(defense, artifact) for defense, artifact in arm.defenses}
    start = f"Start it with safesight serve --engine vllm --defense {','.join(wanted)} --allow none"
    if about is None:
        raise InputError(
            f"The server at {url} has no defenses of safesight in its engine, so it would answer "
            f"{arm.name} undefended. {start}."
        )
    if list(about.defenses) != list(wanted):
        has = "+".join(about.defenses) or "none"
        raise InputError(f"The server at {url} is defended by {has}, not by {arm.name}. {start}.")
    for name, hash in wanted.items():
        if about.defenses[name] != hash:
            raise InputError(
                f"The {name} of the server at {url} has another artifact, other settings or "
                f"another version of safesight than here. {start}, and the same artifact."
            )


def _check_model(vlm: VLM, server: Remote, url: str, off: Mapping[str, Any]) -> None:
    """Refuse a server whose undefended answers begin otherwise than the model's."""
    name = "Name with --model what it serves"
    for kind, messages in conversations():
        status, answer = server.ask(server.body(messages, temperature=0, logprobs=True, **off))
        if status == 400 and kind == "picture":
            continue  # it may serve texts alone
        try:
            count = int(answer["usage"]["prompt_tokens"])
            chance = float(answer["choices"][0]["logprobs"]["content"][0]["logprob"])
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise InputError(
                f"The server at {url} does not answer a request for one token and its probability "
                f"(status {status}: {_error(answer)[:200]})."
            ) from error
        own_count, own_chance = _first(vlm, messages)
        if count != own_count:
            raise InputError(
                f"The server at {url} makes {count} tokens of a prompt, and {vlm.name} makes "
                f"{own_count}, so it has another model or chat template. {name}."
            )
        if not abs(chance - own_chance) <= CLOSE:
            raise InputError(
                f"The server at {url} has another model than {vlm.name}: the likeliest first token "
                f"of an answer has probability {exp(chance):.2f} there and {exp(own_chance):.2f} "
                f"here. {name}."
            )


def _first(vlm: VLM, messages: Messages) -> tuple[int, float]:
    """Tokens of a prompt, and the logarithm of the probability of the likeliest next one."""
    inputs = vlm.encode([messages])
    with torch.no_grad():
        logits = vlm.model(**inputs).logits[0, -1].float()
    return inputs["input_ids"].shape[1], float(logits.log_softmax(dim=-1).max())


def _part(part: Mapping[str, Any]) -> dict[str, Any]:
    if part["type"] != "image":
        return dict(part)
    held = io.BytesIO()
    part["image"].save(held, "PNG")
    text = base64.b64encode(held.getvalue()).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{text}"}}


def _ask(address: str, key: str, body: Mapping[str, Any] | None = None) -> tuple[int, Any]:
    """Status of an answer, also of an error, and its JSON, or else its text.

    Raises:
        InputError: there is no answer.
    """
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    patience = _PATIENCE_FOR_FACTS if body is None else _PATIENCE
    try:
        request = urllib.request.Request(address, data, headers)
        with _answer_to(request, patience) as answer:
            status, text = answer.status, answer.read().decode(errors="replace")
    except (OSError, ValueError, HTTPException) as error:
        why = getattr(error, "reason", error)
        told = reason_of(why) if isinstance(why, Exception) else str(why)
        raise InputError(f"{address} cannot be read ({told}). Check address and key.") from error
    try:
        return status, json.loads(text)
    except ValueError:
        return status, text


def _answer_to(request: urllib.request.Request, patience: float) -> Any:
    try:
        return urllib.request.urlopen(request, timeout=patience)
    except urllib.error.HTTPError as error:
        return error  # which is an answer, too


def _error(answer: Any) -> str:
    """What an answer that is an error says."""
    try:
        return str(answer["error"]["message"])
    except (KeyError, TypeError):
        return str(answer)
