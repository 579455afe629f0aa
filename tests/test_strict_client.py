"""The strict client takes what the specification shows, and rejects each way of getting it wrong."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from tests.strict_client import (
    Rejected,
    check,
    check_base64,
    check_entry,
    check_messages,
    check_notification,
    check_result,
    ids_of,
)

ID = "01JD8Z7V2NDQ31SRQS54PZAQA0"
SESSION = "01JD8Z7T5M0E9R3Q6W2XKY4ABC"

ENTRY: dict[str, Any] = {
    "id": ID,
    "url": "https://example.com/search?q=1",
    "clientAddr": {"ip": "127.0.0.1", "port": 57230},
    "remoteAddr": {"ip": "2001:db8::1", "port": None},
    "httpVersion": "HTTP/2",
    "transactionType": "request",
    "request": {
        "method": "GET",
        "path": "/search?q=1",
        "httpVersion": "HTTP/2",
        "headers": [[":method", "GET"], ["accept", "*/*"]],
        "bodySize": 0,
    },
    "response": {
        "httpVersion": "HTTP/2",
        "statusCode": 200,
        "statusText": None,
        "headers": [[":status", "200"], ["content-type", "text/html"]],
        "bodySize": 648,
    },
    "isWebSocket": False,
    "tls": {
        "connectionId": "01JD8Z7TXQ4S8F5B3T9GZ1MNPR",
        "tlsVersion": {"value": 772, "name": "TLS 1.3"},
        "cipherSuite": {"value": 4865, "name": "TLS_AES_128_GCM_SHA256"},
        "ja3": {"string": "771,4865-4866-4867,0-16-43-51,29,", "hash": "56b103b5f7630c092f4a5059d8ee7064"},
        "ja4": {"raw": "t13d0304h2_1301,1302,1303_002b,0033", "hashed": "t13d0304h2_55b375c5d22e_a56c5b993250"},
    },
    "http2": {"connectionId": "01JD8Z7TXS0V6C2H8N4K7QWERT", "streamId": 1},
    "timings": {
        "startedAt": "2026-11-24T14:55:06.836Z",
        "blocked": 1,
        "dns": 12,
        "connect": 48,
        "send": 1,
        "wait": 31,
        "receive": 2,
        "ssl": 25,
    },
    "process": {"pid": 4711, "name": "curl"},
}

NO_TLS = dict.fromkeys(ENTRY["tls"])
HTTP1 = {"httpVersion": "HTTP/1.1", "request.httpVersion": "HTTP/1.1", "http2": None}


def changed(changes: dict[str, Any], value: Any = ENTRY) -> Any:
    """Return a copy with other values at these paths; a path of digits is an index."""
    result = copy.deepcopy(value)
    for path, new in changes.items():
        *parents, last = path.split(".")
        place = result
        for key in parents:
            place = place[int(key) if key.isdigit() else key]
        place[int(last) if last.isdigit() else last] = new
    return result


def without(path: str) -> Any:
    """Return the entry without the key at this path."""
    result = copy.deepcopy(ENTRY)
    *parents, last = path.split(".")
    place = result
    for key in parents:
        place = place[key]
    del place[last]
    return result


def every_path(value: Any, prefix: str = "") -> list[str]:
    """Return the path of every key of every object in a value."""
    if not isinstance(value, dict):
        return []
    return [path for key, item in value.items() for path in (f"{prefix}{key}", *every_path(item, f"{prefix}{key}."))]


def answer(result: Any) -> str:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "result": result})


def test_it_takes_a_full_entry() -> None:
    assert check("sessions/get_entry", answer(ENTRY)) == ENTRY


@pytest.mark.parametrize(
    "path",
    [
        *("clientAddr", "clientAddr.port", "remoteAddr", "response", "http2", "process", "process.name"),
        *("request.method", "request.path", "request.httpVersion", "request.bodySize"),
        *("response.httpVersion", "response.statusCode", "response.statusText", "response.bodySize"),
        *("tls.tlsVersion", "tls.cipherSuite", "tls.ja3", "tls.ja4"),
        *("timings.blocked", "timings.dns", "timings.send", "timings.wait", "timings.receive", "timings.ssl"),
    ],
)
def test_it_takes_null_where_the_specification_has_an_option(path: str) -> None:
    check_entry(changed({path: None}))


@pytest.mark.parametrize(
    "path",
    [
        *("id", "url", "clientAddr.ip", "httpVersion", "transactionType", "request", "request.headers", "isWebSocket"),
        *("response.headers", "tls", "tls.tlsVersion.value", "tls.tlsVersion.name", "tls.ja3.string", "tls.ja3.hash"),
        *("tls.ja4.raw", "tls.ja4.hashed", "http2.connectionId", "http2.streamId", "timings", "timings.startedAt"),
        "process.pid",
    ],
)
def test_it_rejects_null_where_the_specification_has_none(path: str) -> None:
    with pytest.raises(Rejected):
        check_entry(changed({path: None}))


@pytest.mark.parametrize("path", every_path(ENTRY))
def test_it_rejects_an_entry_without_one_of_its_keys(path: str) -> None:
    with pytest.raises(Rejected, match=f"without {path.rpartition('.')[2]}"):
        check_entry(without(path))


@pytest.mark.parametrize(
    "path",
    [
        *("extra", "clientAddr.extra", "request.extra", "response.extra", "tls.extra", "tls.tlsVersion.extra"),
        *("tls.cipherSuite.extra", "tls.ja3.extra", "tls.ja4.extra", "http2.extra", "timings.extra", "process.extra"),
    ],
)
def test_it_rejects_a_key_too_many(path: str) -> None:
    with pytest.raises(Rejected, match="unknown 'extra'"):
        check_entry(changed({path: None}))


UNSIGNED = {
    "clientAddr.port": 2**16 - 1,
    "remoteAddr.port": 2**16 - 1,
    "response.statusCode": 2**16 - 1,
    "tls.tlsVersion.value": 2**16 - 1,
    "tls.cipherSuite.value": 2**16 - 1,
    "http2.streamId": 2**32 - 1,
    "process.pid": 2**32 - 1,
    "request.bodySize": 2**64 - 1,
    "response.bodySize": 2**64 - 1,
    "timings.blocked": 2**64 - 1,
    "timings.dns": 2**64 - 1,
    "timings.connect": 2**64 - 1,
    "timings.send": 2**64 - 1,
    "timings.wait": 2**64 - 1,
    "timings.receive": 2**64 - 1,
}


@pytest.mark.parametrize(("path", "highest"), UNSIGNED.items())
def test_it_takes_an_integer_up_to_its_highest(path: str, highest: int) -> None:
    status = {"response.headers.0.1": str(highest)} if path == "response.statusCode" else {}
    check_entry(changed({path: highest, **status}))


@pytest.mark.parametrize(("path", "highest"), UNSIGNED.items())
@pytest.mark.parametrize("wrong", [-1, True, 1.0, 1.5, "1"])
def test_it_rejects_what_is_no_unsigned_integer(path: str, highest: int, wrong: object) -> None:
    with pytest.raises(Rejected, match=f"entry.{path}: not"):
        check_entry(changed({path: wrong}))
    with pytest.raises(Rejected, match=f"entry.{path}: not from 0 to {highest}"):
        check_entry(changed({path: highest + 1}))


@pytest.mark.parametrize("path", ["id", "tls.connectionId", "http2.connectionId"])
@pytest.mark.parametrize(
    "wrong", ["", ID.lower(), ID[1:], f"{ID}0", f"8{ID[1:]}", f"I{ID[1:]}", f"{ID[:-1]}U", f"{ID}\n", 1]
)
def test_it_rejects_what_is_no_ulid(path: str, wrong: object) -> None:
    with pytest.raises(Rejected, match=f"entry.{path}: not"):
        check_entry(changed({path: wrong}))


@pytest.mark.parametrize(
    "right",
    [
        *(
            "http://a/",
            "https://a.example:8443/b?c=d",
            "http://127.0.0.1:443/",
            "https://[2001:db8::1]:80/",
            "http://A/",
        ),
        *("http://a_b/", "http://xn--bcher-kva.example/", "http://h/caf\u00e9%zz"),
    ],
)
def test_it_takes_an_absolute_url(right: str) -> None:
    check_entry(changed({"url": right}))


@pytest.mark.parametrize(
    "wrong",
    [
        *("", "/a", "example.com/", "//example.com/", "ftp://a/", "ws://a/", "HTTP://a/", "http://a", "http:///a"),
        *("http://a:80/", "https://a:443/", "http://a:65536/", "http://a:b/", "http://:8080/", "http://u:p@a/"),
        *("http://[::1/", "http://::1/", "http://[g::1]/", "http://[fe80::1%25eth0]/", "http://1.2.3.256/"),
        *("http://a b/", "http://a%/", "http://a%zz/", "http://a%00b/", "http://a<b/", "http://a|b/", "http://xn--a/"),
        *("http://a/b c", "http://a/\t", "http://a/#b", "http://a/\n", "http://\udc80/", None, 1),
    ],
)
def test_it_rejects_what_is_no_absolute_url(wrong: object) -> None:
    with pytest.raises(Rejected, match=r"entry.url"):
        check_entry(changed({"url": wrong}))


@pytest.mark.parametrize(
    "wrong", ["localhost", "", "fe80::1%eth0", "fe80::1%1", "::ffff:127.0.0.1", "127.0.0.1:80", "[::1]", "01.2.3.4", 1]
)
@pytest.mark.parametrize("path", ["clientAddr.ip", "remoteAddr.ip"])
def test_it_rejects_what_is_no_plain_ip_address(path: str, wrong: object) -> None:
    with pytest.raises(Rejected, match=f"entry.{path}"):
        check_entry(changed({path: wrong}))


@pytest.mark.parametrize("path", ["httpVersion", "request.httpVersion", "response.httpVersion"])
@pytest.mark.parametrize("wrong", ["HTTP/2.0", "HTTP/0.9", "http/1.1", "h2", ""])
def test_it_rejects_any_other_http_version(path: str, wrong: str) -> None:
    with pytest.raises(Rejected, match=f"entry.{path}: not one of"):
        check_entry(changed({path: wrong}))


@pytest.mark.parametrize("wrong", ["Request", "push", "", "push-promise"])
def test_it_rejects_any_other_transaction_type(wrong: str) -> None:
    with pytest.raises(Rejected, match=r"entry.transactionType: not one of"):
        check_entry(changed({"transactionType": wrong}))


def test_it_takes_a_push() -> None:
    check_entry(changed({"transactionType": "push_promise"}))


@pytest.mark.parametrize("wrong", [0, 1, "true", None])
def test_it_rejects_what_is_no_boolean(wrong: object) -> None:
    with pytest.raises(Rejected, match=r"entry.isWebSocket: not a boolean"):
        check_entry(changed({"isWebSocket": wrong}))


@pytest.mark.parametrize(
    "wrong",
    [
        *("2026-11-24T14:55:06Z", "2026-11-24T14:55:06.8Z", "2026-11-24T14:55:06.836123Z", "2026-11-24 14:55:06.836Z"),
        *(
            "2026-11-24T14:55:06.836+00:00",
            "2026-11-24T14:55:06.836",
            "2026-02-30T14:55:06.836Z",
            "2026-11-24T24:55:06.836Z",
        ),
        *("", 1764000000, "+02026-11-24T14:55:06.836Z"),
    ],
)
def test_it_rejects_what_is_no_instant(wrong: object) -> None:
    with pytest.raises(Rejected, match=r"entry.timings.startedAt"):
        check_entry(changed({"timings.startedAt": wrong}))


@pytest.mark.parametrize("path", ["request.headers", "response.headers"])
@pytest.mark.parametrize("wrong", [{}, [["a"]], [["a", "b", "c"]], [{"name": "a"}], ["ab"], [["a", None]], [[1, "b"]]])
def test_it_rejects_headers_that_are_no_pairs_of_strings(path: str, wrong: object) -> None:
    with pytest.raises(Rejected, match=f"entry.{path}"):
        check_entry(changed({path: wrong}))


@pytest.mark.parametrize("path", ["request.headers.0.1", "request.method", "request.path", "process.name"])
def test_it_rejects_a_lone_surrogate(path: str) -> None:
    with pytest.raises(Rejected, match=f"{path.partition('.')[0]}.*a lone surrogate"):
        check_entry(changed({path: "a\udc80"}))


def test_it_takes_a_request_to_no_path_but_not_to_an_empty_one() -> None:
    check_entry(changed({"request.path": None}))
    with pytest.raises(Rejected, match=r"entry.request.path: empty"):
        check_entry(changed({"request.path": ""}))


def test_ssl_is_no_longer_than_connect() -> None:
    check_entry(changed({"timings.ssl": 48}))
    for connect in (24, None):
        with pytest.raises(Rejected, match=r"entry.timings.ssl: 25, but connect is"):
            check_entry(changed({"timings.connect": connect}))


def test_tls_without_an_id_has_no_facts() -> None:
    check_entry(changed({"tls": NO_TLS}))
    for field in ("tlsVersion", "cipherSuite", "ja3", "ja4"):
        with pytest.raises(Rejected, match=r"entry.tls: facts"):
            check_entry(changed({"tls": {**NO_TLS, field: ENTRY["tls"][field]}}))


@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1", "HTTP/3"])
def test_http2_is_null_over_any_other_version(version: str) -> None:
    versions = {"httpVersion": version, "request.httpVersion": version}
    check_entry(changed({**versions, "http2": None}))
    with pytest.raises(Rejected, match=r"entry.http2: not null over"):
        check_entry(changed(versions))


def test_the_request_has_the_version_of_the_entry() -> None:
    with pytest.raises(Rejected, match=r"entry.request.httpVersion: HTTP/1.1, but the entry's is HTTP/2"):
        check_entry(changed({"request.httpVersion": "HTTP/1.1"}))


def test_http1_has_no_push() -> None:
    with pytest.raises(Rejected, match=r"entry.transactionType: a push over HTTP/1.1"):
        check_entry(changed({**HTTP1, "transactionType": "push_promise"}))


def test_a_response_over_http2_has_its_status_first_and_no_reason() -> None:
    with pytest.raises(Rejected, match=r"entry.response.statusText: HTTP/2 has none"):
        check_entry(changed({"response.statusText": "OK"}))
    for headers in ([], [["content-type", "text/html"], [":status", "200"]]):
        with pytest.raises(Rejected, match=r"entry.response.headers: HTTP/2 without :status first"):
            check_entry(changed({"response.headers": headers}))
    with pytest.raises(Rejected, match=r"entry.response.headers\[0\]: '200', but statusCode is 201"):
        check_entry(changed({"response.statusCode": 201}))
    check_entry(changed({"response.httpVersion": "HTTP/1.1", "response.statusText": "OK", "response.headers": []}))


@pytest.mark.parametrize("path", ["tls.connectionId", "http2.connectionId"])
def test_different_things_have_different_ids(path: str) -> None:
    with pytest.raises(Rejected, match="one id for different things"):
        check_entry(changed({path: ID}))


@pytest.mark.parametrize("wrong", ["", "771", "771,1,2,3", "771,a,,,", "771,1-,,,", "771,1,2,3,4,5", "771,1,2,3,4 "])
def test_it_rejects_what_is_no_ja3_string(wrong: str) -> None:
    with pytest.raises(Rejected, match=r"entry.tls.ja3.string: not a JA3 string"):
        check_entry(changed({"tls.ja3.string": wrong}))


@pytest.mark.parametrize("wrong", ["", "0" * 32, "56B103B5F7630C092F4A5059D8EE7064"])
def test_it_rejects_a_ja3_hash_of_something_else(wrong: str) -> None:
    with pytest.raises(Rejected, match=r"entry.tls.ja3.hash: not the MD5"):
        check_entry(changed({"tls.ja3.hash": wrong}))


@pytest.mark.parametrize(
    "wrong",
    [
        *("", "t13d0304h2", "t13d0304h2_1301", "x13d0304h2_1301_002b", "t13x0304h2_1301_002b", "t13d304h2_1301_002b"),
        *("t13d0304h2_130_002b", "t13d0304h2_130A_002b", "t13d0304h2_1301_002b_0403_0804", "t13d0304h2_1301 _002b"),
    ],
)
def test_it_rejects_what_is_no_raw_ja4(wrong: str) -> None:
    with pytest.raises(Rejected, match=r"entry.tls.ja4.raw: not JA4_r"):
        check_entry(changed({"tls.ja4.raw": wrong}))


def test_it_rejects_a_hashed_ja4_of_something_else() -> None:
    with pytest.raises(Rejected, match=r"entry.tls.ja4.hashed: not the hashed form"):
        check_entry(changed({"tls.ja4.hashed": "t13d0304h2_000000000000_a56c5b993250"}))


def test_it_takes_a_ja4_with_empty_parts_and_with_signature_algorithms() -> None:
    check_entry(changed({"tls.ja4": {"raw": "q00i000000__", "hashed": "q00i000000_000000000000_000000000000"}}))
    signed = {"raw": "d12d0102h2_1301_000a_0403", "hashed": "d12d0102h2_0f2cb44170f4_1128d980f6b5"}
    check_entry(changed({"tls.ja4": signed}))


# WebSocket messages

AT = "2026-11-24T14:55:06.901Z"
PAYLOADS: list[dict[str, Any]] = [
    {"type": "text", "text": "\N{SNOWMAN}"},
    {"type": "binary", "data": "AAEC/+8="},
    {"type": "close", "code": 1000, "reason": ""},
    {"type": "ping", "data": ""},
    {"type": "pong", "data": "AA=="},
    {"type": "unknown", "data": "AA=="},
]


def message(payload: Any, **changes: Any) -> dict[str, Any]:
    return {"side": "client", "startedAt": None, "endedAt": AT, "payload": payload, **changes}


@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda payload: payload["type"])
def test_it_takes_every_type_of_message_from_either_side(payload: dict[str, Any]) -> None:
    messages = [
        message(payload, side=side, startedAt=started) for side in ("client", "server") for started in (None, AT)
    ]
    assert check("sessions/get_websocket_messages", answer(messages)) == messages


@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda payload: payload["type"])
def test_it_rejects_a_payload_without_one_of_its_keys_or_with_another(payload: dict[str, Any]) -> None:
    for key in payload:
        with pytest.raises(Rejected):
            check_messages([message({name: value for name, value in payload.items() if name != key})])
    with pytest.raises(Rejected, match="unknown 'extra'"):
        check_messages([message({**payload, "extra": 1})])


@pytest.mark.parametrize(
    "payload",
    [
        *(None, [], "text", {"text": "a"}, {"type": "Text", "text": "a"}, {"type": "continuation", "data": ""}),
        *({"type": None, "data": ""}, {"type": "text", "text": None}, {"type": "text", "text": "\udc80"}),
        *({"type": "close", "code": None, "reason": ""}, {"type": "close", "code": 65536, "reason": ""}),
        *({"type": "close", "code": True, "reason": ""}, {"type": "close", "code": 1000, "reason": None}),
    ],
)
def test_it_rejects_any_other_payload(payload: object) -> None:
    with pytest.raises(Rejected, match=r"messages\[0\].payload"):
        check_messages([message(payload)])


@pytest.mark.parametrize("type_", ["binary", "ping", "pong", "unknown"])
@pytest.mark.parametrize("wrong", ["A", "AA", "AA=", "-_8=", "AA==\n", " AA==", "AB==", "AA==AA==", None])
def test_it_rejects_what_is_no_padded_standard_base64(type_: str, wrong: object) -> None:
    with pytest.raises(Rejected, match=r"payload.data"):
        check_messages([message({"type": type_, "data": wrong})])


@pytest.mark.parametrize(
    "change", [{"side": "proxy"}, {"side": None}, {"startedAt": 1.0}, {"endedAt": "now"}, {"x": 1}]
)
def test_it_rejects_any_other_message(change: dict[str, Any]) -> None:
    with pytest.raises(Rejected, match=r"messages\[0\]"):
        check_messages([message(PAYLOADS[0], **change)])


def test_it_rejects_a_message_without_one_of_its_keys() -> None:
    for key in message(PAYLOADS[0]):
        with pytest.raises(Rejected, match=f"without {key}"):
            check_messages([{name: value for name, value in message(PAYLOADS[0]).items() if name != key}])


def test_it_rejects_a_message_that_ends_before_it_starts() -> None:
    with pytest.raises(Rejected, match="before it starts"):
        check_messages([message(PAYLOADS[0], startedAt="2026-11-24T14:55:06.902Z")])


# The other methods


@pytest.mark.parametrize(
    ("method", "right"),
    [
        ("sessions/list", []),
        ("sessions/list", [{"id": SESSION, "name": ""}]),
        ("sessions/get_entry_ids", None),
        ("sessions/get_entry_ids", [ID, SESSION]),
        ("sessions/get_listener_port", None),
        ("sessions/get_listener_port", 8080),
        ("sessions/get_entry", None),
        ("sessions/get_request_body", None),
        ("sessions/get_response_body", ""),
        ("sessions/get_websocket_messages", None),
        ("sessions/get_websocket_messages", []),
    ],
)
def test_it_takes_what_the_method_may_answer(method: str, right: object) -> None:
    assert check(method, answer(right)) == right


@pytest.mark.parametrize(
    ("method", "wrong"),
    [
        ("sessions/list", None),
        ("sessions/list", [SESSION]),
        ("sessions/list", [{"id": SESSION, "name": None}]),
        ("sessions/list", [{"id": "1", "name": ""}]),
        ("sessions/list", [{"id": SESSION, "name": "", "started": 1}]),
        ("sessions/list", [{"id": SESSION, "name": "a"}, {"id": SESSION, "name": "b"}]),
        ("sessions/get_entry_ids", {}),
        ("sessions/get_entry_ids", [None]),
        ("sessions/get_entry_ids", ["1"]),
        ("sessions/get_entry_ids", [ID, ID]),
        ("sessions/get_listener_port", "8080"),
        ("sessions/get_listener_port", 65536),
        ("sessions/get_entry", {}),
        ("sessions/get_entry", [ENTRY]),
        ("sessions/get_request_body", {}),
        ("sessions/get_response_body", []),
        ("sessions/get_websocket_messages", message(PAYLOADS[0])),
    ],
)
def test_it_rejects_what_the_method_may_not_answer(method: str, wrong: object) -> None:
    with pytest.raises(Rejected, match="result"):
        check(method, answer(wrong))


def test_a_body_that_was_asked_for_in_base64_is_base64() -> None:
    assert check("sessions/get_response_body", answer("\N{SNOWMAN}")) == "\N{SNOWMAN}"
    assert check("sessions/get_response_body", answer("AA=="), encoding="base64") == "AA=="
    assert check("sessions/get_response_body", answer(None), encoding="base64") is None
    with pytest.raises(Rejected, match="result: not base64"):
        check("sessions/get_response_body", answer("\N{SNOWMAN}"), encoding="base64")
    with pytest.raises(Rejected):
        check_base64("A")
    with pytest.raises(ValueError, match="hex"):
        check_result("sessions/get_response_body", None, encoding="hex")


# The text of an answer


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[]", "not an object"),
        ('{"jsonrpc":"2.0","id":1}', "not the keys of a success"),
        ('{"jsonrpc":"2.0","result":null}', "not the keys of a success"),
        ('{"jsonrpc":"2.0","id":1,"result":null,"more":1}', "not the keys of a success"),
        ('{"jsonrpc":"1.0","id":1,"result":null}', "not 2.0"),
        ('{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":""}}', "an error: .*-32603"),
        ('{"jsonrpc":"2.0","id":1,"result":null,"result":null}', "result: the same key twice"),
        ('{"jsonrpc":"2.0","id":1,"result":NaN}', "NaN is no JSON"),
        ('{"jsonrpc":"2.0","id":1,"result":-Infinity}', "-Infinity is no JSON"),
        ('{"jsonrpc":"2.0","id":1,"result":-0}', "-0"),
        ('{"jsonrpc":"2.0","id":1,"result":8080.0}', "not an integer"),
        ('{"jsonrpc":"2.0","id":"\\uD8fe","result":null}', "answer.id: a lone surrogate"),
        ('{"jsonrpc":"2.0","id":"\udc80","result":null}', "answer.id: a lone surrogate"),
        ('{"jsonrpc":"2.0","id":1,"result":{"\\udfff":1}}', "a key of answer.result: a lone surrogate"),
        ('{"jsonrpc":"2.0","id":1,"result":["\\ude00\\ud83d"]}', "a lone surrogate"),
    ],
)
def test_it_rejects_the_text(text: str, reason: str) -> None:
    with pytest.raises(Rejected, match=reason):
        check("sessions/get_listener_port", text)


def test_it_takes_an_escaped_pair_of_surrogates() -> None:
    assert check("sessions/get_request_body", '{"jsonrpc":"2.0","id":1,"result":"\\ud83d\\ude00"}') == "\U0001f600"


def test_ids_of_returns_every_id_that_there_is() -> None:
    plain = changed({"tls": NO_TLS, "http2": None})
    assert ids_of([ENTRY, plain]) == [ID, ENTRY["tls"]["connectionId"], ENTRY["http2"]["connectionId"], ID]


# Summaries and notifications

SUMMARY: dict[str, Any] = {
    "id": ID,
    "method": "GET",
    "url": "https://example.com/search?q=1",
    "statusCode": 200,
    "startedAt": "2026-11-24T14:55:06.836Z",
    "duration": 95,
    "requestBodySize": 0,
    "responseBodySize": 648,
    "mimeType": "text/html",
    "isWebSocket": False,
    "isFinished": True,
    "error": None,
}
UPDATED: dict[str, Any] = {
    "subscriptionId": "1",
    "sessionId": SESSION,
    "entry": SUMMARY,
    "changes": ["body", "finished"],
}


def notification(method: str, params: dict[str, Any], **members: Any) -> str:
    return json.dumps({"jsonrpc": "2.0", "method": f"sessions/{method}", "params": params} | members)


def test_notifications_and_pages_are_taken() -> None:
    check_result("sessions/query", {"entries": [SUMMARY], "next": ID})
    assert check_notification(notification("entry_updated", UPDATED)) == ("sessions/entry_updated", UPDATED)
    lagged = {"subscriptionId": "1", "sessionId": SESSION, "after": ID, "missed": 3}
    assert check_notification(notification("lagged", lagged)) == ("sessions/lagged", lagged)


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"mimeType": "text/html; charset=utf-8"}, "result.entries[0].mimeType"),
        ({"duration": 1.5}, "result.entries[0].duration"),
        ({"error": "reset", "duration": None}, "result.entries[0].duration"),
        ({"isFinished": None}, "result.entries[0].isFinished"),
    ],
)
def test_wrong_summary_is_rejected(change: dict[str, Any], path: str) -> None:
    with pytest.raises(Rejected) as rejected:
        check_result("sessions/query", {"entries": [SUMMARY | change], "next": None})
    assert rejected.value.path == path


@pytest.mark.parametrize(
    "text",
    [
        notification("entry_updated", UPDATED, id=1),
        notification("entry_changed", UPDATED),
        notification("entry_updated", UPDATED | {"changes": ["body", "body"]}),
        notification("entry_updated", UPDATED | {"entry": SUMMARY | {"isFinished": False}}),
        notification("entry_added", UPDATED),
        notification("lagged", {"subscriptionId": "1", "sessionId": SESSION, "after": None, "missed": 3}),
    ],
)
def test_wrong_notification_is_rejected(text: str) -> None:
    with pytest.raises(Rejected):
        check_notification(text)
