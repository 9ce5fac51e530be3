"""The application: routes, and the layers that every request passes.

The rules, from the outside in; docs/reference/server-security.md has the whole list:

1. every request that uvicorn takes is counted;
2. on loopback without a key, only local pages and programs are served; with keys, only their
   owners are;
3. a body is read whole, within its limits of size and time;
4. a client that does not read its answer is cut off.

`server.chat` answers. No route reaches the model without the defenses of its request.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio.to_thread
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from openai.types import Model
from openai.types.chat import ChatCompletion
from starlette.exceptions import HTTPException

from safesight import __version__
from safesight.errors import InputError
from safesight.hosting.hosts import Host
from safesight.server.access import KeyCheck, LocalOnly
from safesight.server.chat import Chat
from safesight.server.chat_request import request_schema
from safesight.server.choices import Choices
from safesight.server.document import EVERYWHERE, OF_REQUESTS, Documented, errors
from safesight.server.errors import error_body
from safesight.server.guardrail import PATH, guardrail_router
from safesight.server.judging import judge_of
from safesight.server.limits import BodyLimit
from safesight.server.metrics import RequestCounter
from safesight.server.record import Record
from safesight.server.refusals import RequestError, failure
from safesight.server.send_limit import SendLimit
from safesight.server.settings import ServerSettings

__all__ = ["ROUTES", "create_app"]

ROUTES = ("/v1/chat/completions", "/v1/models", "/health", "/metrics", PATH)


def create_app(
    host: Host, choices: Choices, rules: ServerSettings, record: Record, *, local: bool = True
) -> FastAPI:
    """The server's application.

    Args:
        host: Who answers.
        choices: Which defenses may.
        rules: The operator's.
        record: Where decisions are noted.
        local: Whether only loopback can reach it.
    """
    with host.lock, choices.default.attached(host.vlm):
        pass  # what keeps defenses from being attached is said now, and not to the first client
    chat = Chat(host, choices, rules, record)
    app = Documented(
        title="safesight",
        version=__version__,
        responses=errors(*EVERYWHERE),
        lifespan=_lifespan(host, record),
        # These pages load their scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
    )
    app.state.places = chat.places
    _add_routes(app, chat)
    if choices.detectors:
        app.include_router(guardrail_router(judge_of(chat)))
    _add_errors(app)
    # The last one added is the first to see a request.
    app.add_middleware(SendLimit, seconds=rules.limits.seconds)
    limits = rules.limits
    app.add_middleware(BodyLimit, max_bytes=limits.max_body, seconds=limits.body_seconds)
    if rules.keys:
        app.add_middleware(KeyCheck, keys=rules.keys)
    elif local:
        app.add_middleware(LocalOnly)
    app.add_middleware(RequestCounter, metrics=record.metrics)
    batcher, metrics = host.batcher, record.metrics
    batcher.began = metrics.batch_size.observe
    metrics.waiting.set_function(lambda: batcher.waiting)
    metrics.running.set_function(lambda: max(chat.places.taken - batcher.waiting, 0))
    return app


def _lifespan(host: Host, record: Record) -> Any:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        # uvicorn has waited for the running requests; what is left has nobody who waits.
        await anyio.to_thread.run_sync(host.batcher.cancel)
        if record.log is not None:
            record.log.close()

    return lifespan


def _add_routes(app: FastAPI, chat: Chat) -> None:
    name, metrics = chat.rules.name, chat.record.metrics
    model = Model(id=name, created=0, object="model", owned_by="safesight")
    schema = {name: each for name, each in request_schema().items() if name != "$defs"}
    body = {"required": True, "content": {"application/json": {"schema": schema}}}
    stream = {"text/event-stream": {"schema": {"type": "string"}}}

    @app.post(
        "/v1/chat/completions",
        response_model=ChatCompletion,
        openapi_extra={"requestBody": body},
        responses={200: {"content": stream}, **errors(*OF_REQUESTS)},
        summary="Answer a conversation",
    )
    async def complete(request: Request) -> Response:
        return await chat.respond(request)

    @app.get("/v1/models", summary="List the model")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [model.model_dump()]}

    @app.get("/v1/models/{wanted:path}", responses=errors(404), summary="Show the model")
    async def one_model(wanted: str) -> Model:
        if wanted != name:
            raise RequestError(
                f"The model {wanted[:100]!r} does not exist here. Ask for {name!r}.",
                status=404,
                code="model_not_found",
                param="model",
            )
        return model

    @app.get("/health", summary="Say whether the server is up")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/metrics", response_class=PlainTextResponse, summary="Counters for Prometheus")
    async def counters() -> Response:
        return Response(metrics.render(), media_type=metrics.content_type)


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(RequestError)
    @app.exception_handler(InputError)
    async def refused(request: Request, error: Any) -> JSONResponse:
        status, body = failure(error)
        headers = {"retry-after": "1"} if status == 429 else {}
        return JSONResponse(body, status_code=status, headers=headers)

    # Starlette raises it again after the answer, so that the server's log has it.
    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> JSONResponse:
        body = error_body("The server could not answer this request.", kind="server_error")
        return JSONResponse(body, status_code=500)

    @app.exception_handler(HTTPException)
    async def not_here(request: Request, error: Any) -> JSONResponse:
        return JSONResponse(
            error_body(f"{error.detail}. See /openapi.json for what is served."),
            status_code=error.status_code,
            headers=error.headers,
        )
