"""What is counted, and that no client can make it grow."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from safesight.server.metrics import Metrics, RequestCounter
from tests.server.asgi import Echo, ask


def samples(metrics: Metrics) -> dict[str, float]:
    """Name with labels to value, except the buckets of histograms."""
    return {
        " ".join([sample.name, *sample.labels.values()]): sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
        if not sample.name.endswith(("_created", "_bucket"))
    }


def metrics() -> Metrics:
    return Metrics(routes=["/health", "/v1/models"], detectors=["sasa", "probe"])


def test_everything_is_counted_by_name() -> None:
    found = metrics()
    found.answered("/health", 200)
    found.refused("sasa")
    found.detector_failed("probe")
    found.used_tokens(prompt=12, answer=3)
    found.log_failed()
    found.waiting.set(4)
    found.running.set(5)
    found.batch_size.observe(6)
    found.first_token_seconds.observe(0.5)
    found.answer_seconds.observe(1.5)
    assert samples(found) == {
        "safesight_requests_total /health 200": 1,
        "safesight_refusals_total sasa": 1,
        "safesight_refusals_total probe": 0,
        "safesight_detector_failures_total sasa": 0,
        "safesight_detector_failures_total probe": 1,
        "safesight_tokens_total prompt": 12,
        "safesight_tokens_total answer": 3,
        "safesight_decision_log_failures_total": 1,
        "safesight_requests_waiting": 4,
        "safesight_requests_running": 5,
        "safesight_batch_size_count": 1,
        "safesight_batch_size_sum": 6,
        "safesight_first_token_seconds_count": 1,
        "safesight_first_token_seconds_sum": 0.5,
        "safesight_answer_seconds_count": 1,
        "safesight_answer_seconds_sum": 1.5,
    }


def test_what_clients_write_becomes_other() -> None:
    found = metrics()
    for number in range(50):
        ask(RequestCounter(Echo(), found), path=f'/{number}"\n')
        found.refused(f"detector {number}")
        found.detector_failed(f"detector {number}")
    counted = samples(found)
    assert counted["safesight_requests_total other 200"] == 50
    assert counted["safesight_refusals_total other"] == 50
    assert counted["safesight_detector_failures_total other"] == 50
    assert len(counted) < 25


def test_servers_in_one_process_do_not_mix() -> None:
    one, other = metrics(), metrics()
    one.log_failed()
    assert samples(other)["safesight_decision_log_failures_total"] == 0


def test_the_status_is_what_the_client_gets() -> None:
    found = metrics()

    async def refuses(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 401, "headers": []})

    async def vanished(scope: Any, receive: Any, send: Any) -> None:
        pass

    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("a bug")

    ask(RequestCounter(refuses, found), path="/health")
    ask(RequestCounter(vanished, found), path="/health")
    with pytest.raises(RuntimeError, match="a bug"):
        ask(RequestCounter(broken, found), path="/health")
    ask(RequestCounter(Echo(), found), kind="lifespan", path="/health")
    assert {name: count for name, count in samples(found).items() if "requests_total" in name} == {
        "safesight_requests_total /health 401": 1,
        "safesight_requests_total /health 499": 1,
        "safesight_requests_total /health 500": 1,
    }
