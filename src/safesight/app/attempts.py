"""How often a password may be tried from one address, so that it cannot be found by trying."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict, deque
from collections.abc import Callable

__all__ = ["Attempts"]

_PREFIX = 64
"""One household or machine has at least so much of the IPv6 addresses to itself."""


class Attempts:
    """Counts attempts by address, within a time.

    Args:
        most: Attempts from one address.
        seconds: The time within which they count.
        addresses: How many addresses are kept in mind; the oldest is forgotten first.
        now: The clock.

    Example:
        >>> attempts = Attempts(most=1)
        >>> attempts.take("192.0.2.1"), attempts.take("192.0.2.1"), attempts.take("192.0.2.2")
        (True, False, True)
    """

    def __init__(
        self,
        most: int = 10,
        seconds: float = 60.0,
        addresses: int = 10_000,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most, self._seconds, self._addresses, self._now = most, seconds, addresses, now
        self._times: OrderedDict[str, deque[float]] = OrderedDict()

    def take(self, address: str) -> bool:
        """Count an attempt from an address; False if there were too many already."""
        times = self._times.setdefault(_place(address), deque())
        while times and times[0] <= self._now() - self._seconds:
            times.popleft()
        if len(times) >= self._most:
            return False
        times.append(self._now())
        self._times.move_to_end(_place(address))
        while len(self._times) > self._addresses:
            self._times.popitem(last=False)
        return True

    def give_back(self, address: str) -> None:
        """Take back an attempt that was right."""
        if times := self._times.get(_place(address)):
            times.pop()


def _place(address: str) -> str:
    """What stands for an address: itself, or the network of an IPv6 address."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found, _PREFIX), strict=False))
