"""The error object of OpenAI's API, which its clients turn into exceptions."""

from __future__ import annotations

from typing import Any

__all__ = ["error_body"]


def error_body(
    message: str,
    *,
    kind: str = "invalid_request_error",
    code: str | None = None,
    param: str | None = None,
) -> dict[str, Any]:
    """The body of an answer that reports an error.

    Args:
        message: One or two sentences: what happened, and what to do.
        kind: OpenAI's `type`, such as "invalid_request_error" or "server_error".
        code: A word for programs, such as "invalid_api_key".
        param: The field of the request that is at fault.

    Example:
        >>> error_body("Send a key.", code="invalid_api_key")["error"]["code"]
        'invalid_api_key'
    """
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
