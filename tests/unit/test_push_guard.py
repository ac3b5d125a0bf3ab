"""Where notifications may go (A2A 1.0, section 13.2): every family of addresses, and the exceptions that are set."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from tasks_app.push.guard import Forbidden, Guard, is_public, resolve, rule

PUBLIC = [
    "8.8.8.8",
    "1.1.1.1",
    "2606:4700::1111",
    "2a00:1450:4001::1",
    "::ffff:8.8.8.8",  # IPv4-mapped
    "64:ff9b::808:808",  # NAT64 of 8.8.8.8
    "2002:808:808::1",  # 6to4 of 8.8.8.8
]
REFUSED = {
    "private": ["10.1.2.3", "172.16.0.1", "192.168.1.1", "fc00::1", "fd12:3456::1"],
    "loopback": ["127.0.0.1", "127.1.2.3", "::1"],
    "link-local": ["169.254.1.1", "fe80::1", "fe80::1%eth0"],
    "metadata": ["169.254.169.254", "fd00:ec2::254", "100.100.100.200", "192.0.0.192", "168.63.129.16"],
    "shared": ["100.64.0.1"],
    "multicast": ["224.0.0.1", "239.1.1.1", "ff02::1", "ff0e::1"],
    "unspecified": ["0.0.0.0", "0.1.2.3", "::"],  # noqa: S104
    "reserved": ["240.0.0.1", "255.255.255.255", "::127.0.0.1", "5f00::1", "100::1"],
    "documentation": ["192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "3fff::1"],
    "benchmarking": ["198.18.0.1"],
    "site-local": ["fec0::1"],
    "mapped": ["::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254"],
    "NAT64": ["64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::808:808"],
    "6to4": ["2002:7f00:1::1", "2002:a00:1::1", "192.88.99.1"],
    "Teredo": ["2001::1", "2001:0:808:808::1"],
}


class Names:
    """A name server: one answer after the other, and at last the last one again."""

    def __init__(self, *answers: list[str]) -> None:
        self._answers = list(answers)
        self.asked = 0

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked += 1
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


@pytest.mark.parametrize("text", PUBLIC)
def test_a_public_address_may_be_connected_to(text: str) -> None:
    assert is_public(ip_address(text))


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in REFUSED.items() for text in texts])
async def test_no_other_may(kind: str, text: str) -> None:
    with pytest.raises(Forbidden, match="not a public address"):
        await Guard([], Names([text])).addresses("host.example", 443)


async def test_one_bad_address_among_good_ones_is_enough() -> None:
    with pytest.raises(Forbidden, match=r"10\.0\.0\.1"):
        await Guard([], Names(["8.8.8.8", "10.0.0.1"])).addresses("host.example", 443)
    assert await Guard([], Names(["8.8.8.8", "1.1.1.1"])).addresses("host.example", 443) == ["8.8.8.8", "1.1.1.1"]


@pytest.mark.parametrize("host", ["127.0.0.1", "2130706433", "0x7f.1", "0177.0.0.1", "::1", "localhost", "127.1"])
async def test_no_way_of_writing_loopback_gets_through(host: str) -> None:
    """By the system's own resolver, as it will be asked."""
    with pytest.raises((Forbidden, OSError)):
        await Guard([], resolve).addresses(host, 80)


@pytest.mark.parametrize(
    ("text", "host", "address", "port"),
    [
        ("10.0.0.0/8", "host.example", "10.2.3.4", 443),
        ("10.0.0.0/8:8443", "host.example", "10.2.3.4", 8443),
        ("127.0.0.1", "127.0.0.1", "127.0.0.1", 9),
        ("127.0.0.1:8000", "127.0.0.1", "127.0.0.1", 8000),
        ("[::1]:9000", "::1", "::1", 9000),
        ("fd00::/8", "host.example", "fd00::1", 443),
        ("[fd00::]/8:443", "host.example", "fd00::1", 443),
        ("hooks.internal", "Hooks.Internal.", "192.168.1.1", 443),
        ("hooks.internal:8443", "hooks.internal", "192.168.1.1", 8443),
    ],
)
async def test_what_is_set_may_be_reached(text: str, host: str, address: str, port: int) -> None:
    assert await Guard([rule(text)], Names([address])).addresses(host, port) == [address]


@pytest.mark.parametrize(
    ("text", "host", "address", "port"),
    [
        ("10.0.0.0/8:8443", "host.example", "10.2.3.4", 443),
        ("127.0.0.1", "127.0.0.2", "127.0.0.2", 80),
        ("hooks.internal", "evil.hooks.internal", "10.0.0.1", 443),
        ("hooks.internal:8443", "hooks.internal", "10.0.0.1", 443),
        ("10.0.0.0/8", "host.example", "fd00::1", 443),
    ],
)
async def test_and_nothing_beside_it(text: str, host: str, address: str, port: int) -> None:
    with pytest.raises(Forbidden):
        await Guard([rule(text)], Names([address])).addresses(host, port)


@pytest.mark.parametrize(
    "text", ["", "10.0.0.1/8", "1.2.3", "a/b", "host:0", "host:70000", ":80", "http://host", "a b"]
)
def test_a_rule_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="neither a host nor a network"):
        rule(text)
