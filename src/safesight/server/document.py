"""The OpenAPI document: what is asked, and what is answered when something is wrong."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from safesight.server.chat_request import request_schema

__all__ = ["EVERYWHERE", "OF_REQUESTS", "Documented", "errors"]

_ERRORS = {
    400: "The request cannot be served as it is.",
    401: "The API key is missing or wrong.",
    403: "Without a key, only this machine is answered.",
    404: "There is no such model.",
    408: "The body was sent too slowly.",
    413: "The body is too large.",
    429: "The server is busy.",
    500: "The model could not answer.",
    503: "The server is shutting down or out of memory for bodies.",
    504: "The answer took too long.",
}
EVERYWHERE = (401, 403)
"""What any route may answer."""
OF_REQUESTS = (400, 404, 408, 413, 429, 500, 503, 504)
"""What a request for an answer may get instead."""
_ERROR_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The descriptions of some statuses, all with OpenAI's error object as their body.

    Example:
        >>> errors(429)[429]["description"]
        'The server is busy.'
    """
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {status: {"description": _ERRORS[status], "content": content} for status in statuses}


class Documented(FastAPI):
    """An application whose document has the schemas that requests and errors refer to."""

    def openapi(self) -> dict[str, Any]:
        """The document."""
        if self.openapi_schema is None:
            document = super().openapi()
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            schemas |= {"Error": _ERROR_SCHEMA, **request_schema()["$defs"]}
        return super().openapi()
