"""One server for all tests that only ask it something."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def served() -> Iterator[object]:
    # Imported here, so that tests which need no server need none of its packages.
    from tests.server.serving import serving

    with serving() as found:
        yield found
