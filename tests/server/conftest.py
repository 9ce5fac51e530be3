"""One server for all tests that only ask it something."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # it fetches no list when it is imported


@pytest.fixture(scope="session")
def served() -> Iterator[object]:
    # Imported here, so that tests which need no server need none of its packages.
    from tests.server.serving import serving

    with serving() as found:
        yield found
