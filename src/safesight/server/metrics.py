"""What the server counts, in the format of Prometheus.

Each server has a registry of its own, so that two in one process (as in tests) do not mix. Labels
take values that the operator chose and no others: what a client writes, such as a path or the name
of a model, becomes "other". So no client can make the number of series grow.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Metrics", "RequestCounter"]

_OTHER = "other"
_VANISHED = "499"
"""The status of a request whose client left before it was answered, as nginx writes it."""
_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """Counters, gauges and histograms of one server.

    Args:
        routes: The paths that are counted by name.
        detectors: The detectors that are counted by name.

    Example:
        >>> metrics = Metrics(routes=["/health"], detectors=["sasa"])
        >>> metrics.refused("sasa")
        >>> b'safesight_refusals_total{detector="sasa"} 1.0' in metrics.render()
        True
    """

    content_type = CONTENT_TYPE_LATEST
    """The media type of what `render` gives."""

    def __init__(self, routes: Iterable[str], detectors: Iterable[str]) -> None:
        self._routes, self._detectors = frozenset(routes), frozenset(detectors)
        self._registry = own = CollectorRegistry(auto_describe=True)
        self._requests = Counter(
            "safesight_requests", "Requests answered", ["route", "status"], registry=own
        )
        self._refusals = Counter(
            "safesight_refusals", "Answers a detector refused", ["detector"], registry=own
        )
        self._failures = Counter(
            "safesight_detector_failures",
            "Answers a detector could not judge",
            ["detector"],
            registry=own,
        )
        for detector in self._detectors:
            self._refusals.labels(detector)
            self._failures.labels(detector)
        self._tokens = Counter("safesight_tokens", "Tokens processed", ["kind"], registry=own)
        self._log_failures = Counter(
            "safesight_decision_log_failures", "Lines of the decision log lost", registry=own
        )
        self.waiting = Gauge("safesight_requests_waiting", "Requests in the queue", registry=own)
        """Requests in the queue; call `set`, or `set_function` once."""
        self.running = Gauge("safesight_requests_running", "Requests in a batch", registry=own)
        """Requests that are being answered; call `set`, or `set_function` once."""
        self.batch_size = Histogram(
            "safesight_batch_size", "Requests per batch", buckets=_BATCHES, registry=own
        )
        """Requests per batch; call `observe`."""
        self.first_token_seconds = Histogram(
            "safesight_first_token_seconds",
            "Seconds from a request to its first token",
            buckets=_SECONDS,
            registry=own,
        )
        """Seconds from a request to its first token; call `observe`."""
        self.answer_seconds = Histogram(
            "safesight_answer_seconds",
            "Seconds from a request to the end of its answer",
            buckets=_SECONDS,
            registry=own,
        )
        """Seconds from a request to the end of its answer; call `observe`."""

    def answered(self, route: str, status: int | str) -> None:
        """Count a request by its path and the status of its answer."""
        self._requests.labels(route if route in self._routes else _OTHER, str(status)).inc()

    def refused(self, detector: str) -> None:
        """Count an answer that a detector refused."""
        self._refusals.labels(self._known(detector)).inc()

    def detector_failed(self, detector: str) -> None:
        """Count an answer that a detector could not judge."""
        self._failures.labels(self._known(detector)).inc()

    def used_tokens(self, prompt: int, answer: int) -> None:
        """Count the tokens of a request and of its answer."""
        self._tokens.labels("prompt").inc(prompt)
        self._tokens.labels("answer").inc(answer)

    def log_failed(self) -> None:
        """Count a line of the decision log that is lost."""
        self._log_failures.inc()

    def render(self) -> bytes:
        """Everything, as text for Prometheus."""
        return generate_latest(self._registry)

    def _known(self, detector: str) -> str:
        return detector if detector in self._detectors else _OTHER


class RequestCounter:
    """Counts every request by path and status, also those that other layers refuse."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the application answer, and note its status."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status: int | str = _VANISHED

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except Exception:
            status = 500 if status == _VANISHED else status
            raise
        finally:
            self._metrics.answered(scope["path"], status)
