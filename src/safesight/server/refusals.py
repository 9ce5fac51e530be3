"""Requests that are not answered: why, and with which status."""

from __future__ import annotations

from typing import Any

from safesight.errors import InputError, LengthError
from safesight.server.errors import error_body

__all__ = ["RequestError", "failure"]


class RequestError(Exception):
    """A request that cannot be answered; becomes OpenAI's error object.

    Args:
        message: One or two sentences: what happened, and what to do.
        status: The HTTP status.
        kind: OpenAI's `type`.
        code: A word for programs.
        param: The field of the request that is at fault.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        kind: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.kind, self.code, self.param = status, kind, code, param


def failure(error: RequestError | InputError) -> tuple[int, dict[str, Any]]:
    """The status and the body for a request that was not answered.

    Example:
        >>> failure(RequestError("Too many.", status=429))[0], failure(InputError("Too long."))[0]
        (429, 400)
    """
    if isinstance(error, InputError):
        code = "context_length_exceeded" if isinstance(error, LengthError) else None
        return 400, error_body(str(error), code=code)
    return error.status, error_body(str(error), kind=error.kind, code=error.code, param=error.param)
