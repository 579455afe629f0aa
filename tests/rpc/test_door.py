from __future__ import annotations

import pytest
from websockets.datastructures import Headers
from websockets.http11 import Request

from rpc import door
from rpc.door import Door, is_loopback, is_wildcard

TOKEN = "0123456789abcdefghij_-"
EXTENSION = "chrome-extension://abcdefghijklmnopabcdefghijklmnop"
PAGE = "https://app.example:8443"


def request(*headers: tuple[str, str], host: str | None = "localhost:8765", token: str | None = TOKEN) -> Request:
    fields = Headers([*([("Host", host)] if host is not None else []), *headers])
    return Request("/" if token is None else f"/?token={token}", fields)


def refusal(asked: Request, *, host: str = "127.0.0.1", origins: tuple[str, ...] = ()) -> door.Refusal | None:
    return Door(TOKEN, host=host, origins=origins).refusal(asked)


# Host


@pytest.mark.parametrize(
    ("listens_on", "host"),
    [
        ("127.0.0.1", "localhost"),
        ("127.0.0.1", "LocalHost:8765"),
        ("127.0.0.1", "127.0.0.1:1"),
        ("127.0.0.1", "127.0.0.2"),
        ("127.0.0.1", "[::1]:8765"),
        ("192.0.2.7", "192.0.2.7:8765"),
        ("192.0.2.7", "localhost"),
        ("Box.example", "box.EXAMPLE:8765"),
        ("2001:db8::1", "[2001:DB8:0::1]"),
        ("0.0.0.0", "0.0.0.0"),
        ("0.0.0.0", "192.0.2.7:8765"),
        ("::", "[2001:db8::1]:8765"),
    ],
)
def test_names_of_the_endpoint_come_in(listens_on: str, host: str) -> None:
    assert refusal(request(host=host), host=listens_on) is None


@pytest.mark.parametrize(
    ("listens_on", "host"),
    [
        ("127.0.0.1", "evil.example"),
        ("127.0.0.1", "evil.example:8765"),
        ("127.0.0.1", "localhost.evil.example"),
        ("127.0.0.1", "127.0.0.1.evil.example"),
        ("127.0.0.1", "localhost."),
        ("127.0.0.1", "2130706433"),
        ("127.0.0.1", "192.0.2.7"),
        ("127.0.0.1", "0.0.0.0"),
        ("192.0.2.7", "192.0.2.8"),
        ("0.0.0.0", "evil.example"),
        ("box.example", "www.box.example"),
    ],
)
def test_a_name_that_may_have_been_rebound_is_refused_with_the_right_token_too(listens_on: str, host: str) -> None:
    assert refusal(request(host=host), host=listens_on) == door.FOREIGN_HOST
    assert door.FOREIGN_HOST.status == 403


@pytest.mark.parametrize("host", [None, "", " ", "local host", "a@localhost", "localhost:x", "[::1", "loc\xe4l", "a,b"])
def test_a_request_without_a_valid_host_is_a_bad_one(host: str | None) -> None:
    refused = refusal(request(host=host))
    assert refused == door.BAD_HOST
    assert refused.status == 400


def test_a_second_host_field_is_a_bad_request() -> None:
    assert refusal(request(("Host", "localhost"))) == door.BAD_HOST


# Origin


@pytest.mark.parametrize("origin", [EXTENSION, PAGE, PAGE.upper()])
def test_a_listed_origin_comes_in_with_the_token_only(origin: str) -> None:
    origins = (EXTENSION, "HTTPS://app.example:8443")
    assert refusal(request(("Origin", origin)), origins=origins) is None
    assert refusal(request(("Origin", origin), token="wrong"), origins=origins) == door.NO_TOKEN


@pytest.mark.parametrize(
    "origin",
    [
        "https://app.example",
        "http://app.example:8443",
        "https://app.example:8443/",
        "https://app.example:8443.evil.example",
        "https://evil.example",
        "http://localhost:8765",
        "http://127.0.0.1:8765",
        "null",
        "",
    ],
)
@pytest.mark.parametrize("token", [TOKEN, "wrong", None])
def test_another_origin_is_refused_whatever_its_token(origin: str, token: str | None) -> None:
    refused = refusal(request(("Origin", origin), token=token), origins=(PAGE,))
    assert refused == door.FOREIGN_ORIGIN
    assert refused.status == 403
    assert not refused.is_guess


def test_no_browser_comes_in_unless_something_is_listed() -> None:
    assert refusal(request(("Origin", EXTENSION))) == door.FOREIGN_ORIGIN


def test_every_origin_must_be_listed() -> None:
    assert (
        refusal(request(("Origin", PAGE), ("Origin", "https://evil.example")), origins=(PAGE,)) == door.FOREIGN_ORIGIN
    )


@pytest.mark.parametrize(
    ("site", "comes_in"),
    [("none", True), ("same-origin", True), ("same-site", False), ("cross-site", False), ("", False)],
)
def test_what_another_site_asks_for_without_an_origin_is_refused(site: str, comes_in: bool) -> None:
    """Images, scripts and frames have no Origin, but a browser says which site caused them."""
    assert refusal(request(("Sec-Fetch-Site", site))) == (None if comes_in else door.FOREIGN_ORIGIN)


def test_a_listed_origin_is_of_another_site() -> None:
    assert refusal(request(("Origin", PAGE), ("Sec-Fetch-Site", "cross-site")), origins=(PAGE,)) is None


# The token: its other places are tested with the endpoint


@pytest.mark.parametrize(
    "offered",
    [
        [f"bearer.{TOKEN}"],
        [f"other, bearer.{TOKEN}"],
        ["other", f" bearer.{TOKEN} ,another"],
    ],
)
def test_a_token_that_is_offered_as_a_subprotocol_lets_in_and_is_chosen(offered: list[str]) -> None:
    asked = request(*(("Sec-WebSocket-Protocol", value) for value in offered), token=None)
    assert refusal(asked) is None
    assert Door(TOKEN, host="127.0.0.1").subprotocol(asked) == f"bearer.{TOKEN}"


@pytest.mark.parametrize(
    "offered", ["bearer.wrong", "bearer.", "bearer", TOKEN, f"Bearer.{TOKEN}", f"bearer.{TOKEN}, bearer.wrong", "", ","]
)
def test_a_wrong_subprotocol_does_not_let_in(offered: str) -> None:
    refused = refusal(request(("Sec-WebSocket-Protocol", offered), token=None))
    assert refused == door.NO_TOKEN
    assert refused.is_guess


def test_a_subprotocol_that_is_no_token_is_not_chosen() -> None:
    assert Door(TOKEN, host="127.0.0.1").subprotocol(request(("Sec-WebSocket-Protocol", "chat"))) is None


def test_no_refusal_has_anything_of_the_request_in_it() -> None:
    for refused in (door.BAD_HOST, door.FOREIGN_HOST, door.FOREIGN_ORIGIN, door.NO_TOKEN):
        assert "{" not in refused.text
        assert refused.text.isascii()


# Addresses


@pytest.mark.parametrize(
    ("host", "is_ours_alone"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("LOCALHOST", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.0.1", False),
        ("localhost.example", False),
        ("box", False),
    ],
)
def test_which_hosts_others_cannot_reach(host: str, is_ours_alone: bool) -> None:
    assert is_loopback(host) is is_ours_alone


def test_which_hosts_stand_for_every_address() -> None:
    assert [host for host in ("0.0.0.0", "::", "0::0", "127.0.0.1", "any") if is_wildcard(host)] == [
        "0.0.0.0",
        "::",
        "0::0",
    ]
