"""The URL of a request, from what its head says."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic_core import Url

from rpc.records import Fields, RequestHead
from rpc.urls import absolute_url
from tests import strict_client


def head(**changes: Any) -> RequestHead:
    """Return the head of a request whose target is `/p?q`, to a server at 192.0.2.1."""
    plain: dict[str, Any] = {
        "method": b"GET",
        "scheme": b"https",
        "host": "192.0.2.1",
        "port": 443,
        "authority": b"",
        "path": b"/p?q",
        "http_version": b"HTTP/1.1",
        "fields": (),
        "pseudo": None,
    }
    return RequestHead(**{**plain, **changes})


def host(value: bytes) -> Fields:
    return ((b"accept", b"*/*"), (b"hOST", value))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"fields": host(b"example.com")}, "https://example.com/p?q"),
        ({"fields": host(b"example.com:443")}, "https://example.com/p?q"),
        ({"fields": host(b"example.com:80")}, "https://example.com:80/p?q"),
        ({"fields": host(b"example.com:8443")}, "https://example.com:8443/p?q"),
        ({"fields": host(b"example.com:")}, "https://example.com/p?q"),
        ({"fields": host(b" example.com ")}, "https://example.com/p?q"),
        ({"fields": host(b"EXAMPLE.com.")}, "https://EXAMPLE.com./p?q"),
        ({"fields": host(b"a_b")}, "https://a_b/p?q"),
        ({"fields": host(b"127.0.0.1:80"), "scheme": b"http"}, "http://127.0.0.1/p?q"),
        ({"fields": host(b"[::1]:8080"), "scheme": b"http"}, "http://[::1]:8080/p?q"),
        ({"fields": host("b\u00fccher.example".encode())}, "https://xn--bcher-kva.example/p?q"),
        ({"fields": host(b"b\xfccher.example")}, "https://xn--bcher-kva.example/p?q"),
        ({"fields": host(b"xn--bcher-kva.example")}, "https://xn--bcher-kva.example/p?q"),
        ({"authority": b"a.example:1", "fields": host(b"b.example")}, "https://a.example:1/p?q"),
    ],
)
def test_the_host_is_the_one_that_the_client_asked_for(changes: dict[str, Any], expected: str) -> None:
    assert absolute_url(head(**changes)) == expected


@pytest.mark.parametrize(
    "asked_for",
    [
        *(
            b"",
            b":443",
            b"a b",
            b"a/b",
            b"a?b",
            b"a#b",
            b"u@a",
            b"u:p@a",
            b"a\\b",
            b"a%41",
            b"a%",
            b"a<b",
            b"a|b",
            b"a^b",
        ),
        *(b"a:b", b"a:65536", b"a:123456", b"a:-1", b"[::1", b"::1", b"[g]", b"[fe80::1%25eth0]", b"[]", b"a\x00b"),
        *(b"a\tb", b"1.2.3.256", b"a.1", b"xn--a", b"xn--", b"\xc2\xad", b"\xa0", b"\xe2\x80\x8d", b"a\r\nb", b"a,b:c"),
    ],
)
def test_a_host_that_no_url_can_carry_gives_way_to_the_one_that_the_proxy_was_to_reach(asked_for: bytes) -> None:
    assert absolute_url(head(fields=host(asked_for))) == "https://192.0.2.1/p?q"
    assert absolute_url(head(authority=asked_for, port=8443)) == "https://192.0.2.1:8443/p?q"


@pytest.mark.parametrize(
    ("reached", "port", "expected"),
    [
        ("example.com", 443, "https://example.com/p?q"),
        ("2001:db8::1", 443, "https://[2001:db8::1]/p?q"),
        ("2001:db8::1", 444, "https://[2001:db8::1]:444/p?q"),
        ("fe80::1%eth0", 444, "https://[fe80::1]:444/p?q"),
        ("b\u00fccher.example", 443, "https://xn--bcher-kva.example/p?q"),
        ("example.com", 0, "https://example.com/p?q"),
        ("example.com", 65536, "https://example.com/p?q"),
        ("example.com", -1, "https://example.com/p?q"),
        ("", 443, "https://invalid/p?q"),
        ("a b", 444, "https://invalid/p?q"),
        ("a/b", 444, "https://invalid/p?q"),
    ],
)
def test_the_host_that_the_proxy_was_to_reach_stands_in(reached: str, port: int, expected: str) -> None:
    assert absolute_url(head(host=reached, port=port)) == expected


@pytest.mark.parametrize(
    ("scheme", "port", "expected"),
    [
        (b"http", 80, "http://192.0.2.1/p?q"),
        (b"http", 443, "http://192.0.2.1:443/p?q"),
        (b"https", 80, "https://192.0.2.1:80/p?q"),
        (b"", 443, "https://192.0.2.1/p?q"),  # a CONNECT says none
        (b"", 80, "http://192.0.2.1/p?q"),
        (b"", 8443, "https://192.0.2.1:8443/p?q"),
        (b"ws", 80, "http://192.0.2.1/p?q"),
        (b"wss", 443, "https://192.0.2.1/p?q"),
    ],
)
def test_the_scheme_is_http_or_https(scheme: bytes, port: int, expected: str) -> None:
    assert absolute_url(head(scheme=scheme, port=port)) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"/", "/"),
        (b"/a?b=c&d", "/a?b=c&d"),
        (b"/%7Eup/..?%zz%", "/%7Eup/..?%zz%"),
        (b"//a//", "//a//"),
        (b'/?q={"a":[1]}', '/?q={"a":[1]}'),
        ("/caf\u00e9".encode(), "/caf\u00e9"),
        (b"/caf\xe9", "/caf\u00e9"),
        (b"/a b\tc\x00\x7f\n", "/a%20b%09c%00%7F%0A"),
        (b"/a#b?c#", "/a%23b?c%23"),
        (b"*", "/"),
        (b"", "/"),
        (b"example.com:443", "/"),
        (b"?q", "/"),
    ],
)
def test_the_path_is_as_sent_but_for_what_a_parser_would_drop(path: bytes, expected: str) -> None:
    assert absolute_url(head(path=path)) == f"https://192.0.2.1{expected}"


odd = st.binary() | st.text(st.characters(codec="utf-8")).map(str.encode)
hostish = st.text("aA1.-_:[]%@/\\#?\u00e9\u00df\u3002 xn~!", max_size=12).map(str.encode) | odd


@given(
    st.builds(
        head,
        scheme=st.sampled_from([b"http", b"https", b""]) | odd,
        host=st.text(st.characters(codec="utf-8")) | st.text("a1.:[]%", max_size=8),
        port=st.integers(-(2**63), 2**64 - 1),
        authority=hostish,
        path=odd | odd.map(lambda path: b"/" + path),
        fields=hostish.map(host),
    )
)
@example(head(authority=b"a" * 70_000))
@example(head(path=b"/" + bytes(range(256))))
def test_whatever_a_client_sends_the_strict_client_takes_the_url(request: RequestHead) -> None:
    url = absolute_url(request)
    strict_client.url(url, "url")
    assert Url(url).fragment is None
