"""One request for a chat completion, checked: OpenAI's types first, then what is served here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from openai.types.chat import (
    ChatCompletionAssistantMessageParam,
    ChatCompletionDeveloperMessageParam,
    ChatCompletionSystemMessageParam,
    ChatCompletionToolMessageParam,
    ChatCompletionUserMessageParam,
)
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from pydantic import TypeAdapter, ValidationError

from safesight.hosting.settings import Settings
from safesight.server.message_fields import check_message
from safesight.server.refusals import RequestError
from safesight.server.settings import ServerSettings

__all__ = ["MESSAGES", "NEUTRAL", "SERVED", "ChatRequest", "chat_request", "request_schema"]

SERVED = frozenset(
    """
    messages model stream stream_options n max_tokens max_completion_tokens temperature top_p top_k
    seed stop logprobs top_logprobs tools tool_choice safesight
    """.split()
)
"""Fields that are understood. `top_k` and `safesight` are no fields of OpenAI's."""
IGNORED = frozenset(
    """
    user metadata store service_tier safety_identifier prompt_cache_key prompt_cache_retention
    prompt_cache_options parallel_tool_calls verbosity reasoning_effort
    """.split()
)
"""Fields that are accepted and change nothing."""
NEUTRAL: Mapping[str, Any] = {
    "frequency_penalty": 0,
    "presence_penalty": 0,
    "logit_bias": {},
    "modalities": ["text"],
    "response_format": {"type": "text"},
}
"""Other fields are accepted with these values only."""
MESSAGES: Mapping[str, Any] = {
    "system": ChatCompletionSystemMessageParam,
    "developer": ChatCompletionDeveloperMessageParam,
    "user": ChatCompletionUserMessageParam,
    "assistant": ChatCompletionAssistantMessageParam,
    "tool": ChatCompletionToolMessageParam,
}
"""The type of a message by its role."""
_MAX_STOPS, _STOP_LENGTH, _MAX_TOP = 16, 1000, 20
_COLDEST = 1e-5
"""Lower temperatures are greedy; scores divided by them would overflow."""


@dataclass(frozen=True)
class ChatRequest:
    """What a request asks for."""

    messages: list[dict[str, Any]]
    settings: Settings
    """How the first choice is decoded; the others differ in their seed."""
    choices: int
    stream: bool
    include_usage: bool
    tools: list[dict[str, Any]] | None
    defense: Any
    """The field `safesight`, unchecked."""


def chat_request(body: Mapping[str, Any], rules: ServerSettings, longest: int) -> ChatRequest:
    """Check the body of a request.

    Args:
        body: A JSON object.
        rules: The server's.
        longest: The model's own limit on an answer, in tokens, where a request gives none.

    Raises:
        RequestError: the body breaks the protocol or asks for what is not served.
    """
    given = {name: value for name, value in body.items() if value is not None}
    _check_fields(given)
    checked = _typed(given)
    if checked["model"] != rules.name:
        raise RequestError(
            f"The model {str(checked['model'])[:100]!r} does not exist here. Ask for "
            f"{rules.name!r}.",
            status=404,
            code="model_not_found",
            param="model",
        )
    settings, limits = _settings(checked, given, rules, longest), rules.limits
    return ChatRequest(
        messages=checked["messages"],
        settings=settings,
        choices=_number(checked, "n", 1, min(limits.max_choices, limits.max_waiting), 1),
        stream=bool(given.get("stream", False)),
        include_usage=bool((checked.get("stream_options") or {}).get("include_usage")),
        tools=_tools(checked),
        defense=given.get("safesight"),
    )


def request_schema() -> dict[str, Any]:
    """The JSON schema of a request: OpenAI's own, reduced to what is served.

    What it refers to stands in its `$defs`, and belongs among the components of a document.
    """
    schema = _adapter().json_schema(ref_template="#/components/schemas/{model}")
    known = {name: schema["properties"][name] for name in SERVED & schema["properties"].keys()}
    schema["properties"] = {
        **known,
        "stream": {"type": "boolean"},
        "top_k": {"type": "integer", "minimum": 0},
        "safesight": {
            "type": "object",
            "properties": {
                "defense": {"type": "array", "items": {"type": "string"}},
                "threshold": {"type": "number"},
            },
        },
    }
    return schema


@cache
def _adapter() -> TypeAdapter[Any]:
    return TypeAdapter(CompletionCreateParamsNonStreaming)


@cache
def _of_role(role: str) -> TypeAdapter[Any]:
    return TypeAdapter(MESSAGES[role])


def _check_fields(given: Mapping[str, Any]) -> None:
    for name, value in given.items():
        if name in SERVED or name in IGNORED or (name in NEUTRAL and value == NEUTRAL[name]):
            continue
        raise RequestError(
            f"The field {name[:60]!r} is not supported. Leave it out.",
            code="unsupported_parameter",
            param=name[:60],
        )
    for name, kinds in (("stream", bool), ("top_k", int)):
        if name in given and type(given[name]) is not kinds:
            raise RequestError(f"{name} must be of type {kinds.__name__}.", param=name)


def _typed(given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of OpenAI's protocol, with the types that it says."""
    others = ("messages", "stream", "top_k", "safesight", "stop")
    own = {name: value for name, value in given.items() if name not in others}
    checked = _valid(_adapter(), {**own, "messages": []}, "")
    stop = given.get("stop", [])
    stops = [stop] if isinstance(stop, str) else stop
    if not isinstance(stops, list) or not all(isinstance(each, str) for each in stops):
        raise RequestError("stop must be a string or a list of strings.", param="stop")
    return {**checked, "stop": stops, "messages": _messages(given.get("messages"))}


def _messages(given: Any) -> list[dict[str, Any]]:
    """The messages, each checked by the type for its role: one clear error instead of six."""
    if not isinstance(given, list):
        raise RequestError("messages must be a list.", param="messages")
    found = []
    for number, message in enumerate(given):
        where = f"messages[{number}]"
        role = message.get("role") if isinstance(message, dict) else None
        if not isinstance(role, str) or role not in MESSAGES:
            raise RequestError(
                f"{where} has no role that is served. Use {', '.join(MESSAGES)}.", param=where
            )
        check_message(message, where)
        found.append(_valid(_of_role(role), message, f"messages.{number}."))
    return found


def _valid(adapter: TypeAdapter[Any], value: Any, prefix: str) -> dict[str, Any]:
    try:
        checked: dict[str, Any] = _whole(adapter.validate_python(value), prefix)
    except ValidationError as error:
        raise _against_protocol(prefix, error) from None
    return checked


def _whole(value: Any, where: str) -> Any:
    """The value with every sequence read to its end: pydantic checks those of iterables lazily."""
    if isinstance(value, Mapping):
        return {key: _whole(each, f"{where}{key}.") for key, each in value.items()}
    if isinstance(value, str | bytes | int | float | None):
        return value
    found: list[Any] = []
    try:
        for number, each in enumerate(value):
            found.append(_whole(each, f"{where}{number}."))
    except ValidationError as error:
        raise _against_protocol(f"{where}{len(found)}.", error) from None
    return found


def _against_protocol(where: str, error: ValidationError) -> RequestError:
    # Of the members of a union, the one that was meant has the right `type`, or got furthest.
    found = error.errors()
    others = {each["loc"][:-1] for each in found if each["type"] == "literal_error"}
    likely = [each for each in found if each["loc"][:-1] not in others] or found
    meant = max(likely, key=lambda each: len(each["loc"]))
    # What is neither a position nor the name of a type.
    names = [each for each in meant["loc"] if isinstance(each, str) and each.islower()]
    named = [each for each in names if each not in ("str", "int", "float", "bool")]
    field = ".".join([*where.rstrip(".").split("."), *named[-1:]]).lstrip(".")
    return RequestError(f"{field} does not follow the protocol: {meant['msg'][:200]}.", param=field)


def _settings(
    checked: Mapping[str, Any], given: Mapping[str, Any], rules: ServerSettings, longest: int
) -> Settings:
    asked = checked.get("max_completion_tokens", checked.get("max_tokens", longest))
    if asked < 1:
        raise RequestError("An answer needs at least one token.", param="max_tokens")
    temperature = _between(checked, "temperature", 0, 2, 0)
    if temperature < _COLDEST:
        temperature = 0.0
    stop = tuple(checked["stop"])
    if len(stop) > _MAX_STOPS or not all(0 < len(each) <= _STOP_LENGTH for each in stop):
        raise RequestError(
            f"Up to {_MAX_STOPS} stop strings, each with 1 to {_STOP_LENGTH} characters.",
            param="stop",
        )
    top = _number(checked, "top_logprobs", 0, _MAX_TOP, 0)
    if "top_logprobs" in checked and not checked.get("logprobs"):
        raise RequestError("top_logprobs needs logprobs=true.", param="top_logprobs")
    if given.get("top_k", 0) < 0:
        raise RequestError("top_k must not be negative.", param="top_k")
    top_p = _between(checked, "top_p", 0, 1, 1)
    return Settings(
        max_new_tokens=min(asked, rules.limits.max_tokens),
        shortened=True,
        temperature=temperature,
        # A nucleus of probability 0 is the best token alone.
        top_p=max(top_p, 1e-6) if temperature and top_p < 1 else None,
        top_k=(given.get("top_k") or None) if temperature else None,
        seed=checked.get("seed") if temperature else None,
        stop=stop,
        logprobs=top if checked.get("logprobs") else None,
    )


def _tools(checked: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    tools, choice = checked.get("tools"), checked.get("tool_choice", "auto")
    if choice not in ("none", "auto"):
        raise RequestError("tool_choice can be 'none' or 'auto'.", param="tool_choice")
    if not tools or choice == "none":
        return None
    if any(tool["type"] != "function" for tool in tools):
        raise RequestError("Only tools of type 'function' are supported.", param="tools")
    return list(tools)


def _number(given: Mapping[str, Any], name: str, least: int, most: int, default: int) -> int:
    return int(_between(given, name, least, most, default))


def _between(
    given: Mapping[str, Any], name: str, least: float, most: float, default: float
) -> float:
    value = given.get(name, default)
    if not least <= value <= most:
        raise RequestError(f"{name} must be between {least} and {most}.", param=name)
    return float(value)
