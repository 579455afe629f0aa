from __future__ import annotations

import base64
import gzip
from typing import Any

import pytest

from rpc import har
from tests import har_model

PHASES = {"blocked": 1, "dns": None, "connect": 5, "send": 2, "wait": 3, "receive": 4, "ssl": 4}


def told(**changes: Any) -> har.Json:
    """An entry as the API answers it."""
    entry = {
        "id": "01JD8Z7V2NDQ31SRQS54PZAQA0",
        "url": "https://example.com/search?q=1&q=a%20b&empty",
        "clientAddr": {"ip": "127.0.0.1", "port": 57230},
        "remoteAddr": {"ip": "93.184.215.14", "port": 443},
        "httpVersion": "HTTP/2",
        "transactionType": "request",
        "request": message(method="GET", path="/search"),
        "response": message(statusCode=200, statusText=None),
        "isWebSocket": False,
        "tls": {"connectionId": "01JD8Z7TXQ4S8F5B3T9GZ1MNPR", "tlsVersion": None, "cipherSuite": None},
        "http2": {"connectionId": "01JD8Z7TXS0V6C2H8N4K7QWERT", "streamId": 1},
        "timings": {"startedAt": "2026-11-24T14:55:06.836Z", **PHASES},
        "process": {"pid": 4711, "name": "curl"},
    }
    return entry | changes


def message(*headers: tuple[str, str], bodySize: int | None = 0, **fields: Any) -> har.Json:  # noqa: N803
    return {"httpVersion": "HTTP/2", "headers": [list(pair) for pair in headers], "bodySize": bodySize, **fields}


def made(entry: har.Json, request: bytes | None = b"", response: bytes | None = b"", **more: Any) -> har.Json:
    """The entry's HAR, which is valid."""
    converted = har.entry(entry, request, response, **more)
    har_model.Entry.model_validate(converted)
    return converted


def response(
    *headers: tuple[str, str], body: bytes | None = b"", size: int | None = None, status: int | None = 200
) -> har.Json:
    told_response = message(*headers, bodySize=size, statusCode=status, statusText="OK")
    answer: har.Json = made(told(response=told_response), response=body)["response"]
    return answer


def request(*headers: tuple[str, str], body: bytes | None = b"") -> har.Json:
    size = None if body is None else len(body)
    sent: har.Json = made(told(request=message(*headers, bodySize=size, method="POST", path="/")), request=body)[
        "request"
    ]
    return sent


def test_the_time_is_the_sum_of_the_phases_without_ssl_and_what_did_not_happen() -> None:
    assert made(told())["time"] == 1 + 5 + 2 + 3 + 4


def test_a_phase_that_did_not_happen_is_minus_one() -> None:
    assert made(told())["timings"] == PHASES | {"dns": -1}


def test_phases_that_har_requires_are_zero_where_they_were_not_observed_and_said_to_be_so_apart() -> None:
    nothing = dict.fromkeys(PHASES)
    entry = made(told(timings={"startedAt": "2026-11-24T14:55:06.836Z", **nothing}))
    assert entry["time"] == 0
    assert entry["timings"] == dict.fromkeys(PHASES, -1) | {"send": 0, "wait": 0, "receive": 0}
    assert entry["_timings"] == nothing


def test_the_connection_is_the_servers_address_and_port() -> None:
    entry = made(told())
    assert (entry["serverIPAddress"], entry["connection"]) == ("93.184.215.14", "443")


def test_an_entry_that_went_to_no_server_has_no_address() -> None:
    entry = made(told(remoteAddr=None))
    assert entry.keys().isdisjoint({"serverIPAddress", "connection"})


def test_what_har_has_no_field_for_is_in_fields_that_begin_with_an_underscore() -> None:
    entry, source = made(told()), told()
    assert entry["_id"] == source["id"]
    for name in ("transactionType", "clientAddr", "remoteAddr", "tls", "http2", "process"):
        assert entry[f"_{name}"] == source[name]


def test_no_response_is_status_0() -> None:
    answer = made(told(response=None), response=None)["response"]
    assert (answer["status"], answer["bodySize"], answer["content"]) == (0, -1, {"size": -1, "mimeType": ""})


def test_the_query_is_decoded_in_order_with_names_that_come_twice_or_have_no_value() -> None:
    query = made(told())["request"]["queryString"]
    assert [(pair["name"], pair["value"]) for pair in query] == [("q", "1"), ("q", "a b"), ("empty", "")]


def test_headers_keep_their_order_case_and_duplicates() -> None:
    pairs = [(":method", "GET"), ("X-B", "1"), ("x-a", "2"), ("X-B", "3")]
    sent = request(*pairs)["headers"]
    assert [(pair["name"], pair["value"]) for pair in sent] == pairs


def test_text_is_text_in_its_charset() -> None:
    content = response(("Content-Type", "text/plain; charset=latin-1"), body=b"K\xf6ln", size=4)["content"]
    assert content == {"size": 4, "mimeType": "text/plain; charset=latin-1", "text": "Köln"}


@pytest.mark.parametrize("body", [b"\x89PNG\r\n", b"\xff\xfe", b"a\x00b", b"caf\xe9"])
def test_bytes_that_are_no_text_are_in_base64(body: bytes) -> None:
    content = response(("Content-Type", "text/plain"), body=body, size=len(body))["content"]
    assert content["encoding"] == "base64"
    assert base64.b64decode(content["text"]) == body


def test_content_says_what_its_encoding_has_saved() -> None:
    body = b"x" * 1000
    encoded = len(gzip.compress(body))
    answer = response(("content-encoding", "gzip"), body=body, size=encoded)
    assert answer["bodySize"] == encoded
    assert answer["content"]["size"] == 1000
    assert answer["content"]["compression"] == 1000 - encoded


def test_a_body_that_is_not_kept_has_its_size_and_no_text() -> None:
    assert response(body=None, size=7)["content"] == {"size": 7, "mimeType": ""}
    assert response(("content-encoding", "br"), body=None, size=7)["content"] == {"size": -1, "mimeType": ""}


def test_a_body_that_is_known_to_be_empty_has_empty_text() -> None:
    assert response(size=0)["content"]["text"] == ""


def test_a_redirect_has_its_target() -> None:
    assert response(("Location", "/next"), status=302)["redirectURL"] == "/next"
    assert response()["redirectURL"] == ""


def test_a_status_that_is_not_known_is_0() -> None:
    assert response(status=None)["status"] == 0


def test_what_was_posted_is_text() -> None:
    sent = request(("Content-Type", "application/json"), body=b'{"a": 1}')
    assert sent["postData"] == {"mimeType": "application/json", "params": [], "text": '{"a": 1}'}


def test_bytes_that_were_posted_are_beside_the_text_in_base64() -> None:
    assert base64.b64decode(request(body=b"\x00\xff")["postData"]["_base64"]) == b"\x00\xff"


def test_a_request_without_a_body_has_no_post_data() -> None:
    assert "postData" not in request()
    assert "postData" not in request(body=None)


def test_cookies_that_were_sent_are_pairs() -> None:
    cookies = request(("Cookie", "a=1; b=2=3"), ("cookie", " c ; "))["cookies"]
    assert [(cookie["name"], cookie["value"]) for cookie in cookies] == [("a", "1"), ("b", "2=3"), ("", "c")]


def test_cookies_that_are_set_have_their_attributes() -> None:
    field = "id=x=y; Path=/a; DOMAIN=example.com; Expires=Wed, 09 Jun 2027 10:18:14 GMT; Secure; HttpOnly; SameSite=Lax"
    (cookie,) = response(("Set-Cookie", field))["cookies"]
    assert cookie == {
        "name": "id",
        "value": "x=y",
        "path": "/a",
        "domain": "example.com",
        "expires": "2027-06-09T10:18:14.000Z",
        "secure": True,
        "httpOnly": True,
        "_sameSite": "Lax",
    }


@pytest.mark.parametrize("date", ["Wed, 09-Jun-2027 10:18:14 GMT", "Wednesday, 09-Jun-27 10:18:14 GMT"])
def test_old_forms_of_dates_are_read(date: str) -> None:
    (cookie,) = response(("set-cookie", f"a=b; expires={date}; max-age=5"))["cookies"]
    assert (cookie["expires"], cookie["_maxAge"]) == ("2027-06-09T10:18:14.000Z", "5")


@pytest.mark.parametrize("date", ["", "0", "-1", "never", "Wed, 99 Jun 2027 10:18:14 GMT", "9" * 50])
def test_a_date_that_is_none_is_left_out(date: str) -> None:
    (cookie,) = response(("set-cookie", f"a=b; expires={date}; unknown"))["cookies"]
    assert cookie == {"name": "a", "value": "b"}


MESSAGES = [
    {
        "side": "client",
        "startedAt": None,
        "endedAt": "1970-01-01T00:00:01.500Z",
        "payload": {"type": "text", "text": "a"},
    },
    {"side": "server", "startedAt": None, "endedAt": None, "payload": {"type": "binary", "data": "AAEC"}},
    {
        "side": "server",
        "startedAt": "1970-01-01T00:00:02.000Z",
        "endedAt": "1970-01-01T00:00:03.000Z",
        "payload": {"type": "close", "code": 1001, "reason": "gone"},
    },
]


def test_websocket_messages_are_as_chromium_writes_them() -> None:
    entry = made(told(isWebSocket=True), messages=MESSAGES)
    assert entry["_resourceType"] == "websocket"
    assert entry["_webSocketMessages"] == [
        {"type": "send", "time": 1.5, "opcode": 1, "data": "a"},
        {"type": "receive", "time": -1, "opcode": 2, "data": "AAEC"},
        {
            "type": "receive",
            "time": 3.0,
            "opcode": 8,
            "data": "gone",
            "_startedAt": "1970-01-01T00:00:02.000Z",
            "_code": 1001,
        },
    ]


def test_messages_that_were_given_up_are_not_an_empty_list() -> None:
    assert "_webSocketMessages" not in made(told(isWebSocket=True), messages=None)
