"""Another engine that fails to answer; the client that asks it is stood in for."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from inspect_ai.model import ChatMessageUser

from safesight.errors import InputError
from safesight.evals.endpoint import Address, Endpoint
from safesight.hosting.settings import Settings
from tests.evals.fake import FakeVLM

WHERE = Address("http://127.0.0.1:9/v1", "a-key", "served")


class Refused(Exception):
    """As a client's: of a class that is known nowhere else."""


@pytest.mark.parametrize("returned", [False, True])
@pytest.mark.parametrize("error", [Refused("Error code: 401."), ConnectionError("no"), OSError()])
def test_an_engine_that_does_not_answer(error: Exception, returned: bool) -> None:
    async def generate(*_: Any) -> Any:
        if returned:
            return error, None
        raise error

    client: Any = SimpleNamespace(api=SimpleNamespace(generate=generate))
    server: Any = SimpleNamespace(address=WHERE)
    endpoint = Endpoint(server, _asked={WHERE: client})
    vlm: Any = FakeVLM()
    with pytest.raises(InputError) as caught:
        asyncio.run(endpoint.ask(vlm, [ChatMessageUser(content="what is a cup?")], Settings(8)))
    why = str(error).rstrip(".") or type(error).__name__
    assert str(caught.value) == (
        f"The server at {WHERE.url} gave no answer ({why}). Finished answers are kept: run the "
        "same command again to resume."
    )
