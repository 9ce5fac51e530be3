"""Requests made from the OpenAPI document, valid and not: what comes back is what it says."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from tests.server.serving import Serving

schemathesis = pytest.importorskip("schemathesis")

CHAT, GUARD = "/v1/chat/completions", "/beta/litellm_basic_guardrail_api"
ROUTES = {CHAT: "POST", GUARD: "POST", "/v1/models/{wanted}": "GET"}
ROUTES |= dict.fromkeys(("/v1/models", "/health", "/metrics"), "GET")


@pytest.mark.parametrize(
    ("path", "count", "mode"),
    [
        (CHAT, 40, "positive"),
        (CHAT, 40, "negative"),
        (GUARD, 40, "positive"),
        (GUARD, 40, "negative"),
        ("/v1/models/{wanted}", 40, "positive"),
        ("/v1/models", 1, "positive"),
        ("/health", 1, "positive"),
        ("/metrics", 1, "positive"),
    ],
)
def test_answers_keep_to_the_document(served: Serving, path: str, count: int, mode: str) -> None:
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi import checks

    document = schemathesis.openapi.from_url(f"{served.root}/openapi.json")
    assert set(document) == set(ROUTES)
    operation = document[path][ROUTES[path]]
    made = operation.as_strategy(generation_mode=schemathesis.GenerationMode(mode))
    wanted = [
        not_a_server_error,
        checks.status_code_conformance,
        checks.content_type_conformance,
        checks.response_schema_conformance,
    ]

    @given(case=made)
    @settings(
        max_examples=count,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    def check(case: Any) -> None:
        case.call_and_validate(checks=wanted)

    check()
