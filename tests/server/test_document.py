"""Requests made from the OpenAPI document, valid and not: what comes back is what it says."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from tests.server.serving import Serving

schemathesis = pytest.importorskip("schemathesis")

ROUTES = (
    ("/v1/chat/completions", "POST", 60),
    ("/beta/litellm_basic_guardrail_api", "POST", 40),
    ("/v1/models/{wanted}", "GET", 20),
    ("/v1/models", "GET", 1),
    ("/health", "GET", 1),
    ("/metrics", "GET", 1),
)


@pytest.mark.parametrize("mode", ["positive", "negative"])
@pytest.mark.parametrize(("path", "method", "count"), ROUTES)
def test_answers_keep_to_the_document(
    served: Serving, path: str, method: str, count: int, mode: str
) -> None:
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi import checks

    document = schemathesis.openapi.from_url(f"{served.root}/openapi.json")
    assert set(document) == {path for path, _, _ in ROUTES}
    operation = document[path][method]
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
