"""Bytes and numbers of the wire as values of the contract."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpc.records import Address, Fields, RequestHead, ResponseHead
from rpc.schema import NetAddress
from rpc.wire import (
    http_version,
    instant,
    ip_address,
    net_address,
    request_headers,
    response_headers,
    text,
    without_surrogates,
)
from tests import strict_client


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", ""),
        (b"plain", "plain"),
        ("caf\u00e9 \N{SNOWMAN}".encode(), "caf\u00e9 \N{SNOWMAN}"),
        (b"caf\xe9", "caf\u00e9"),
        (b"\xc3\xa9 caf\xe9", "\u00c3\u00a9 caf\u00e9"),
        (b"\xed\xa0\x80", "\u00ed\u00a0\u0080"),  # a surrogate in UTF-8 is no UTF-8
        (b"\x00\xff", "\x00\u00ff"),
    ],
)
def test_text_is_utf8_else_latin1(data: bytes, expected: str) -> None:
    assert text(data) == expected


@given(st.binary())
def test_text_has_no_surrogate_and_comes_back_as_the_bytes(data: bytes) -> None:
    found = text(data)
    strict_client.string(found, "text")
    assert data in (found.encode(), found.encode("latin-1", errors="replace"))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("curl", "curl"),
        ("\u00fc\N{SNOWMAN}", "\u00fc\N{SNOWMAN}"),
        ("caf\udce9", "caf\u00e9"),  # as Python reads a name that is not UTF-8
        ("\ud800", "?"),
    ],
)
def test_a_name_of_the_operating_system_has_no_surrogate(name: str, expected: str) -> None:
    assert without_surrogates(name) == expected


@given(st.text(st.characters(exclude_categories=())))
def test_no_name_at_all_keeps_a_surrogate(name: str) -> None:
    strict_client.string(without_surrogates(name), "name")


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        (b"HTTP/1.0", "HTTP/1.0"),
        (b"HTTP/1.1", "HTTP/1.1"),
        (b"HTTP/2.0", "HTTP/2"),
        (b"HTTP/2", "HTTP/2"),
        (b"HTTP/3", "HTTP/3"),
        (b"HTTP/3.0", "HTTP/3"),
        (b"HTTP/1.2", "HTTP/1.1"),
        (b"", "HTTP/1.1"),
        (b"\xff", "HTTP/1.1"),
    ],
)
def test_a_version_has_one_of_four_names(version: bytes, expected: str) -> None:
    assert http_version(version) == expected


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("::1", "::1"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("fe80::1%25", "fe80::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1%1", "192.0.2.1"),
        ("localhost", None),
        ("example.com", None),
        ("", None),
        ("[::1]", None),
        ("1.2.3", None),
        ("/run/proxy.sock", None),
    ],
)
def test_only_an_address_is_an_ip_address(host: str, expected: str | None) -> None:
    assert ip_address(host) == expected


@given(st.ip_addresses())
def test_every_address_is_told_as_the_strict_client_reads_it(address: ipaddress.IPv4Address) -> None:
    strict_client.ip_address(ip_address(str(address)), "ip")


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (None, None),
        (("localhost", 80), None),
        (("127.0.0.1", 80), NetAddress(ip="127.0.0.1", port=80)),
        (("127.0.0.1", 65535), NetAddress(ip="127.0.0.1", port=65535)),
        (("fe80::1%1", 0), NetAddress(ip="fe80::1", port=None)),
        (("127.0.0.1", 65536), NetAddress(ip="127.0.0.1", port=None)),
        (("127.0.0.1", -1), NetAddress(ip="127.0.0.1", port=None)),
    ],
)
def test_an_end_of_a_connection_is_an_address_and_a_port_that_is_known(
    address: Address | None, expected: NetAddress | None
) -> None:
    assert net_address(address) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1764000000.836, "2025-11-24T16:00:00.836Z"),
        (1764000000.8369, "2025-11-24T16:00:00.836Z"),
        (1764000000.9999, "2025-11-24T16:00:00.999Z"),
        (-0.0001, "1969-12-31T23:59:59.999Z"),
        (-62135596800, "0001-01-01T00:00:00.000Z"),
        (253402300799.5, "9999-12-31T23:59:59.500Z"),
        (253402300800, "1970-01-01T00:00:00.000Z"),
        (-1e300, "1970-01-01T00:00:00.000Z"),
        (inf, "1970-01-01T00:00:00.000Z"),
        (nan, "1970-01-01T00:00:00.000Z"),
    ],
)
def test_an_instant_is_rfc3339_in_utc_with_whole_milliseconds(seconds: float, expected: str) -> None:
    assert instant(seconds) == expected


@given(st.floats())
def test_any_number_is_an_instant_that_the_strict_client_takes(seconds: float) -> None:
    strict_client.instant(instant(seconds), "instant")


@given(st.integers(0, 4102444800000), st.integers(0, 4102444800000))
def test_instants_keep_their_order_and_their_milliseconds(earlier: int, later: int) -> None:
    earlier, later = sorted((earlier, later))
    assert instant(earlier / 1000) <= instant(later / 1000)
    told = datetime.fromisoformat(instant(later / 1000)) - datetime(1970, 1, 1, tzinfo=UTC)
    assert later - told // timedelta(milliseconds=1) in (0, 1)  # a float may be just under the millisecond


FIELDS: Fields = ((b"Host", b"a"), (b"x-a", b"1"), (b"X-A", b"\xe9"), (b"Cookie", b"a=b"), (b"Cookie", b"c=d"))


def request(**changes: object) -> RequestHead:
    head = {
        "method": b"GET",
        "scheme": b"https",
        "host": "a",
        "port": 443,
        "authority": b"a:1",
        "path": b"/p",
        "http_version": b"HTTP/1.1",
        "fields": FIELDS,
        "pseudo": None,
    }
    return RequestHead(**{**head, **changes})  # type: ignore[arg-type]


def test_request_headers_keep_order_case_and_duplicates_and_trailers_come_last() -> None:
    assert request_headers(request(), ((b"x-Trailer", b"t"),)) == [
        ("Host", "a"),
        ("x-a", "1"),
        ("X-A", "\u00e9"),
        ("Cookie", "a=b"),
        ("Cookie", "c=d"),
        ("x-Trailer", "t"),
    ]


def test_pseudo_header_fields_come_first_in_the_clients_own_order_with_the_values_of_the_request() -> None:
    head = request(pseudo=(b":method", b":authority", b":scheme", b":path"), fields=((b"accept", b"*/*"),))
    assert request_headers(head, ()) == [
        (":method", "GET"),
        (":authority", "a:1"),
        (":scheme", "https"),
        (":path", "/p"),
        ("accept", "*/*"),
    ]
    assert request_headers(request(pseudo=(b":path", b":protocol"), fields=()), ()) == [(":path", "/p")]


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        (b"HTTP/1.1", [("a", "b"), ("t", "u")]),
        (b"HTTP/2.0", [(":status", "204"), ("a", "b"), ("t", "u")]),
        (b"HTTP/3", [(":status", "204"), ("a", "b"), ("t", "u")]),
    ],
)
def test_response_headers_have_the_status_first_where_the_version_has_it(
    version: bytes, expected: list[tuple[str, str]]
) -> None:
    assert response_headers(ResponseHead(204, b"", version, ((b"a", b"b"),)), ((b"t", b"u"),)) == expected
