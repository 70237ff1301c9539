"""The origin of a request: client and proxies, from the peer's address and the forwarding headers."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relab.access.forwarding import FORWARDING_HEADERS, Network, is_loopback, source_of
from relab.access.models import Source

PROXY = "192.0.2.1"
TRUSTED: list[Network] = [ipaddress.ip_network("192.0.2.0/24"), ipaddress.ip_network("2001:db8:1::/48")]


def client(*headers: tuple[str, str], peer: str = PROXY) -> str | None:
    return source_of(peer, headers, TRUSTED).client


def test_a_direct_request_comes_from_its_peer() -> None:
    headers = [("Host", "localhost"), ("Origin", "http://localhost"), ("X-Request-ID", "1"), ("Accept", "*/*")]

    assert source_of("127.0.0.1", headers) == Source("127.0.0.1")
    assert source_of("203.0.113.9", headers, TRUSTED) == Source("203.0.113.9")
    assert source_of(None, headers) == Source(None)


@pytest.mark.parametrize("peer", [None, "", "testclient", "[::1]"])
def test_peer_without_an_address_is_no_trusted_proxy(peer: str | None) -> None:
    headers = [("X-Forwarded-For", "127.0.0.1")]

    assert source_of(peer, headers, TRUSTED).client == peer


def test_only_the_last_fifty_addresses_are_searched_for_the_client() -> None:
    proxies = ["192.0.2.7"] * 49

    assert client(("X-Forwarded-For", ", ".join(["203.0.113.9", *proxies]))) == "203.0.113.9"
    assert client(("X-Forwarded-For", ", ".join(["203.0.113.9", *proxies, "192.0.2.8"]))) == "192.0.2.7"


def test_long_header_name_is_cut_in_the_message() -> None:
    found = source_of("127.0.0.1", [("X-Forwarded-" + "a" * 5_000, "")])

    assert found.via is not None
    assert found.via.startswith("it has the header X-Forwarded-Aaa")
    assert len(found.via) < 100


@pytest.mark.parametrize(
    "name", [*sorted(FORWARDING_HEADERS), "x-forwarded-for", "X-FORWARDED-PROTO", "X-Forwarded-Client-Cert"]
)
def test_untrusted_proxy_header_is_reported_as_a_proxy_and_does_not_change_the_client(name: str) -> None:
    for value in ("127.0.0.1", "", "for=127.0.0.1"):
        found = source_of("127.0.0.1", [("Host", "localhost"), (name, value)])

        assert found.client == "127.0.0.1"
        assert found.via is not None
        assert name.lower() in found.via.lower()


def test_forwarded_header_of_blanks_is_read_in_linear_time() -> None:
    # Quadratic time would be minutes for this length.
    value = "for=203.0.113.9" + " " * 200_000 + "x"

    assert source_of(PROXY, [("Forwarded", value)], TRUSTED).client is None


def test_request_from_a_trusted_proxy_without_headers_is_reported_as_proxied() -> None:
    found = source_of(PROXY, [("Host", "localhost")], TRUSTED)

    assert found.client is None
    assert found.via is not None
    assert PROXY in found.via


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("127.0.0.1, 203.0.113.9", "203.0.113.9"),
        ("10.0.0.1,203.0.113.9, 192.0.2.7", "203.0.113.9"),
        ("203.0.113.9:4711", "203.0.113.9"),
        ("[2001:db8::1]:4711", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("2001:db8::1, 2001:db8:1::5", "2001:db8::1"),
        # All addresses are trusted proxies, so the first one is the client.
        ("192.0.2.9, 192.0.2.8", "192.0.2.9"),
        # An entry that is not an address makes the client unknown.
        ("203.0.113.9, unknown", None),
        ("203.0.113.9, unknown, 192.0.2.7", None),
        ("203.0.113.9,", None),
        ("", None),
        ("localhost", None),
        ("[::1", "::1"),
        ("0x7f.1", None),
        ("127.1", None),
    ],
)
def test_client_behind_trusted_proxies_is_the_rightmost_untrusted_address(value: str, expected: str | None) -> None:
    assert client(("X-Forwarded-For", value)) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("for=203.0.113.9", "203.0.113.9"),
        ("For=203.0.113.9;proto=http;by=192.0.2.1", "203.0.113.9"),
        ('for="[2001:db8::1]:4711"', "2001:db8::1"),
        ("for=127.0.0.1, for=203.0.113.9;proto=https, for=192.0.2.7", "203.0.113.9"),
        ('for="127.0.0.1, for=10.0.0.1"', None),
        ('by="a,b;c";for=203.0.113.9', "203.0.113.9"),
        ('for="203\\.0.113.9"', "203.0.113.9"),
        ("for=unknown", None),
        ("for=_hidden, for=192.0.2.7", None),
        ("proto=https", None),
        ("for=203.0.113.9, proto=https", None),
        ("for=203.0.113.9, ;;;", None),
        ("for=127.0.0.1, for=203.0.113.9;", "203.0.113.9"),
        ("for=127.0.0.1; , for=203.0.113.9; ", "203.0.113.9"),
        ("for=127.0.0.1, proto=http;", None),
        ('for="203.0.113.9', None),
        ("", None),
    ],
)
def test_the_standard_header_names_the_client_too(value: str, expected: str | None) -> None:
    assert client(("Forwarded", value)) == expected


def test_repeated_headers_are_read_as_one_list() -> None:
    lines = [("X-Forwarded-For", "127.0.0.1"), ("x-forwarded-for", "203.0.113.9"), ("X-Forwarded-For", "192.0.2.7")]

    assert client(*lines) == "203.0.113.9"


def test_headers_that_contradict_each_other_name_no_client() -> None:
    both = ("X-Forwarded-For", "203.0.113.9"), ("Forwarded", "for=203.0.113.9")

    assert client(*both) == "203.0.113.9"
    assert client(both[0], ("Forwarded", "for=127.0.0.1")) is None


addresses = st.ip_addresses().map(str)


@given(st.lists(addresses | st.text(max_size=8)), addresses)
def test_client_cannot_choose_its_address(claimed: list[str], real: str) -> None:
    """A proxy appends the address that it sees, so addresses that the client put into the header before are ignored."""
    expected = client(("X-Forwarded-For", real))

    if any(ipaddress.ip_address(real) in network for network in TRUSTED):
        return
    assert client(("X-Forwarded-For", ", ".join([*claimed, real]))) == expected
    assert source_of(PROXY, [("X-Forwarded-For", ", ".join([*claimed, real]))], TRUSTED).via is not None


@given(st.text(max_size=200), st.sampled_from(["forwarded", "x-forwarded-for"]))
def test_any_header_text_gives_an_address_or_none(text: str, name: str) -> None:
    found = client((name, text))

    assert found is None or ipaddress.ip_address(found)


@given(st.ip_addresses())
def test_only_addresses_of_this_machine_are_local(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    mapped = getattr(address, "ipv4_mapped", None)

    assert is_loopback(str(address)) == (mapped or address).is_loopback


def test_invalid_address_is_not_local() -> None:
    assert not any(is_loopback(text) for text in ("", "localhost", "127.1", "testclient", "127.0.0.1 ", "[::1]"))
    assert all(is_loopback(text) for text in (None, "127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"))
