"""Which IP addresses belong to the public internet, and which to this machine.

A server that fetches what strangers name must not be sent to its own network. What counts as
public here is narrower than `ipaddress.is_global`, which changes with the version of Python and
lets through multicast and IPv6 addresses that stand for IPv4 ones.
"""

from __future__ import annotations

import ipaddress

__all__ = ["is_loopback", "is_public"]

_IPV6_UNICAST = ipaddress.ip_network("2000::/3")
"""All IPv6 addresses in public use; outside are NAT64, mapped, local and multicast ones."""
_NOT_PUBLIC = tuple(
    ipaddress.ip_network(network)
    for network in (
        "192.0.0.0/24",  # protocol assignments, among them a cloud's metadata service
        "192.88.99.0/24",  # relays of 6to4
        "168.63.129.16/32",  # Azure's metadata service, on a public address
        "2001::/23",  # protocol assignments, among them Teredo, which holds an IPv4 address
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4, which holds an IPv4 address
        "3fff::/20",  # documentation
    )
)


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public internet.

    Example:
        >>> is_public("1.1.1.1"), is_public("10.0.0.1"), is_public("::ffff:1.1.1.1")
        (True, False, False)
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address) and (
        parsed.scope_id is not None or parsed not in _IPV6_UNICAST
    ):
        return False
    special = parsed.is_multicast or any(parsed in network for network in _NOT_PUBLIC)
    return parsed.is_global and not special


def is_loopback(host: str) -> bool:
    """Whether a host, by name or address, is this machine and nothing else.

    Example:
        >>> is_loopback("localhost"), is_loopback("[::1]"), is_loopback("0.0.0.0")
        (True, True, False)
    """
    if host.lower() == "localhost":
        return True
    try:
        parsed = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return (mapped or parsed).is_loopback
