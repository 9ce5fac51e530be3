"""What is public, against the registries of special addresses."""

from __future__ import annotations

import pytest

from safesight.server.addresses import is_loopback, is_public


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "2a00::1"])
def test_the_internet_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.8.8",
        "0.0.0.0",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",  # metadata of most clouds
        "168.63.129.16",  # metadata of Azure
        "100.100.100.200",  # metadata of Alibaba, shared address space
        "192.0.0.192",  # metadata of Oracle
        "fd00:ec2::254",  # metadata of AWS
        "100.64.0.1",
        "192.0.2.1",
        "192.88.99.1",
        "198.18.0.1",
        "203.0.113.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fe80::1%eth0",
        "2606:4700::1111%eth0",
        "fc00::1",
        "fec0::1",
        "ff0e::1",
        "::ffff:127.0.0.1",
        "::ffff:1.1.1.1",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::101:101",
        "64:ff9b:1::1",
        "2002:7f00:1::",
        "2002:101:101::",
        "2001::1",
        "2001:db8::1",
        "3fff::1",
        "5f00::1",
        "100::1",
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "example.org",
        "",
    ],
)
def test_everything_else_is_not(address: str) -> None:
    assert not is_public(address)


def test_loopback_is_this_machine_and_nothing_else() -> None:
    here = ("localhost", "LOCALHOST", "127.0.0.1", "127.1.2.3", "::1", "[::1]", "::ffff:127.0.0.1")
    assert all(map(is_loopback, here))
    elsewhere = ("", "0.0.0.0", "::", "10.0.0.1", "localhost.evil.org", "127.0.0.1.evil.org", "127")
    assert not any(map(is_loopback, elsewhere))
