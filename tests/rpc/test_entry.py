"""An entry as it is rendered: from hand-made records, and from whatever bytes and numbers there are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpc import records
from rpc.entry import Body, Connection, Entry, Owner, render, started
from rpc.timings import CONNECTING, EXCHANGE, Instants
from tests import strict_client

ID, TLS_ID, HTTP2_ID = "01JD8Z7V2NDQ31SRQS54PZAQA0", "01JD8Z7TXQ4S8F5B3T9GZ1MNPR", "01JD8Z7TXS0V6C2H8N4K7QWERT"
VECTORS: list[dict[str, Any]] = json.loads(Path(__file__).with_name("client_hellos.json").read_text())
HELLO = next(vector for vector in VECTORS if vector["ja3_string"].startswith("771,"))

TLS = records.Tls(TLS_ID, bytes.fromhex(HELLO["client_hello_hex"]), "TLSv1.3", "TLS_AES_128_GCM_SHA256", "tcp")
NO_TLS = dict.fromkeys(("connectionId", "tlsVersion", "cipherSuite", "ja3", "ja4"))


def rendered(entry: Entry) -> Any:
    value = json.loads(render(entry))
    strict_client.check_entry(value)
    return value


def connection(**changes: Any) -> Connection:
    facts = {"peer": ("127.0.0.1", 57230), "tls": TLS, "http2": HTTP2_ID, "owner": owner(4711, "curl")}
    return Connection(**{**facts, **changes})


def owner(pid: int, name: str | None) -> Owner:
    return Owner(records.Process(pid, name), known=True)


def request(**changes: Any) -> records.RequestHead:
    facts = {
        "method": b"GET",
        "scheme": b"https",
        "host": "93.184.215.14",
        "port": 443,
        "authority": b"example.com",
        "path": b"/search?q=1",
        "http_version": b"HTTP/2.0",
        "fields": ((b"accept", b"*/*"),),
        "pseudo": (b":method", b":path", b":scheme", b":authority"),
    }
    return records.RequestHead(**{**facts, **changes})


def response(**changes: Any) -> records.ResponseHead:
    facts = {"status_code": 200, "reason": b"", "http_version": b"HTTP/2.0", "fields": ((b"a", b"b"),)}
    return records.ResponseHead(**{**facts, **changes})


def finished(**changes: Any) -> Entry:
    facts: dict[str, Any] = {
        "id": ID,
        "started": 1764000000.836,
        "connection": connection(),
        "request": request(),
        "stream": 1,
        "instants": Instants(
            request_start=0,
            request_end=0.001,
            sent=0.05,
            response_start=0.080,
            response_end=0.082,
            connecting=records.Connecting(
                queued=0.001,
                opened=0.002,
                resolving=0.002,
                resolved=0.014,
                connected=0.025,
                securing=0.025,
                secured=0.05,
            ),
        ),
        "request_body": Body(0, 0),
        "response": response(),
        "response_body": Body(648, 648, ((b"x-trailer", b"t"),)),
        "remote": ("93.184.215.14", 443),
        "ended": True,
    }
    return Entry(**{**facts, **changes})


HTTP1 = {
    "request": request(http_version=b"HTTP/1.1", pseudo=None, authority=b"", fields=((b"Host", b"a"),)),
    "response": response(http_version=b"HTTP/1.1", reason=b"OK"),
    "stream": None,
}


def test_an_entry_has_every_field_of_the_contract() -> None:
    assert rendered(finished()) == {
        "id": ID,
        "url": "https://example.com/search?q=1",
        "clientAddr": {"ip": "127.0.0.1", "port": 57230},
        "remoteAddr": {"ip": "93.184.215.14", "port": 443},
        "httpVersion": "HTTP/2",
        "transactionType": "request",
        "request": {
            "method": "GET",
            "path": "/search?q=1",
            "httpVersion": "HTTP/2",
            "headers": [
                [":method", "GET"],
                [":path", "/search?q=1"],
                [":scheme", "https"],
                [":authority", "example.com"],
                ["accept", "*/*"],
            ],
            "bodySize": 0,
        },
        "response": {
            "httpVersion": "HTTP/2",
            "statusCode": 200,
            "statusText": None,
            "headers": [[":status", "200"], ["a", "b"], ["x-trailer", "t"]],
            "bodySize": 648,
        },
        "isWebSocket": False,
        "tls": {
            "connectionId": TLS_ID,
            "tlsVersion": {"value": 772, "name": "TLS 1.3"},
            "cipherSuite": {"value": 4865, "name": "TLS_AES_128_GCM_SHA256"},
            "ja3": {"string": HELLO["ja3_string"], "hash": HELLO["ja3_hash"]},
            "ja4": {"raw": HELLO["ja4_raw"], "hashed": HELLO["ja4"]},
        },
        "http2": {"connectionId": HTTP2_ID, "streamId": 1},
        "timings": {
            "startedAt": "2025-11-24T16:00:00.836Z",
            "blocked": 1,
            "dns": 12,
            "connect": 36,
            "send": 1,
            "wait": 30,
            "receive": 2,
            "ssl": 25,
        },
        "process": {"pid": 4711, "name": "curl"},
    }


def test_an_entry_begins_with_its_request_alone() -> None:
    record = records.EntryStarted(ID, 1, 1764000000.836, 0.0, None, request(), 3)
    entry = rendered(started(record, connection(owner=Owner(None, known=False))))
    assert entry["request"]["bodySize"] is None
    assert entry["http2"]["streamId"] == 3
    absent = ("response", "remoteAddr", "process")
    assert [entry[key] for key in absent] == [None] * len(absent)
    assert {key for key, value in entry["timings"].items() if value is not None} == {"startedAt"}


def test_trailers_follow_the_headers() -> None:
    entry = rendered(finished(request_body=Body(0, 0, ((b"X-Sum", b"1"),))))
    assert entry["request"]["headers"][-2:] == [["accept", "*/*"], ["X-Sum", "1"]]
    assert entry["response"]["headers"][-2:] == [["a", "b"], ["x-trailer", "t"]]


def test_a_websocket_is_one() -> None:
    assert rendered(finished(**HTTP1, websocket=True))["isWebSocket"] is True


def test_a_pushed_response_is_told_of_as_a_push() -> None:
    assert rendered(finished(pushed=True, stream=2))["transactionType"] == "push_promise"
    assert rendered(finished(**HTTP1, pushed=True))["transactionType"] == "request"


def test_over_http1_the_response_has_a_reason_and_there_is_no_stream() -> None:
    entry = rendered(finished(**HTTP1))
    assert entry["url"] == "https://a/search?q=1"
    assert entry["httpVersion"] == entry["request"]["httpVersion"] == entry["response"]["httpVersion"] == "HTTP/1.1"
    assert entry["response"]["statusText"] == "OK"
    assert entry["response"]["headers"] == [["a", "b"], ["x-trailer", "t"]]
    assert entry["http2"] is None


def test_an_empty_reason_is_empty_and_not_null() -> None:
    assert rendered(finished(response=response(http_version=b"HTTP/1.1")))["response"]["statusText"] == ""


def test_either_leg_has_its_own_version() -> None:
    entry = rendered(finished(response=response(http_version=b"HTTP/1.0", reason=b"OK")))
    assert (entry["httpVersion"], entry["response"]["httpVersion"]) == ("HTTP/2", "HTTP/1.0")


@pytest.mark.parametrize(
    "changes",
    [
        {"stream": None},
        {"stream": 0},
        {"stream": 2**31},
        {"connection": connection(http2=None)},
        {"request": request(http_version=b"HTTP/3")},
        {"request": request(http_version=b"HTTP/1.1")},
    ],
)
def test_http2_is_null_unless_the_clients_stream_is_known(changes: dict[str, Any]) -> None:
    assert rendered(finished(**changes))["http2"] is None


def test_on_a_plain_connection_every_field_of_tls_is_null() -> None:
    assert rendered(finished(connection=connection(tls=None)))["tls"] == NO_TLS


def test_what_was_not_seen_of_a_tls_connection_is_null() -> None:
    tls = records.Tls(TLS_ID, None, None, None, "tcp")
    assert rendered(finished(connection=connection(tls=tls)))["tls"] == {**NO_TLS, "connectionId": TLS_ID}
    tls = records.Tls(TLS_ID, b"\x01broken", "no such version", "no such suite", "tcp")
    assert rendered(finished(connection=connection(tls=tls)))["tls"] == {**NO_TLS, "connectionId": TLS_ID}


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_the_strict_client_takes_every_fingerprint(vector: dict[str, Any]) -> None:
    tls = records.Tls(TLS_ID, bytes.fromhex(vector["client_hello_hex"]), "TLSv1.2", None, vector["transport"])
    assert rendered(finished(connection=connection(tls=tls)))["tls"]["ja4"]["hashed"] == vector["ja4"]


@pytest.mark.parametrize("status", [-1, 65536, 2**63])
def test_a_status_code_that_the_contract_cannot_carry_is_null(status: int) -> None:
    assert rendered(finished(response=response(status_code=status)))["response"]["statusCode"] is None


def test_a_connect_has_no_path() -> None:
    entry = rendered(finished(request=request(method=b"CONNECT", path=b"", scheme=b"")))
    assert (entry["request"]["path"], entry["url"]) == (None, "https://example.com/")


def test_bytes_that_are_not_utf8_are_latin1() -> None:
    head = request(method=b"G\xe9T", path=b"/\xe9", fields=((b"\xe9", b"\xe9"),), pseudo=None)
    answer = response(http_version=b"HTTP/1.1", reason=b"\xe9", fields=((b"\xe9", b"\xe9"),))
    entry = rendered(finished(request=head, response=answer, response_body=Body(None)))
    assert (entry["request"]["method"], entry["request"]["path"]) == ("G\u00e9T", "/\u00e9")
    assert entry["request"]["headers"] == entry["response"]["headers"] == [["\u00e9", "\u00e9"]]
    assert entry["response"]["statusText"] == "\u00e9"


@pytest.mark.parametrize(
    ("process", "expected"),
    [
        (None, None),
        (records.Process(1, None), {"pid": 1, "name": None}),
        (records.Process(1, "caf\udce9"), {"pid": 1, "name": "caf\u00e9"}),
        (records.Process(-1, "a"), None),
        (records.Process(2**32, "a"), None),
    ],
)
def test_a_process_is_told_where_it_is_one(process: records.Process | None, expected: dict[str, Any] | None) -> None:
    assert rendered(finished(connection=connection(owner=Owner(process, known=True))))["process"] == expected


@pytest.mark.parametrize("ends", [("peer", "clientAddr"), ("remote", "remoteAddr")])
def test_an_end_that_is_no_ip_address_is_null(ends: tuple[str, str]) -> None:
    name, told = ends
    for address, expected in (
        (None, None),
        (("localhost", 1), None),
        (("::ffff:10.0.0.1", 0), {"ip": "10.0.0.1", "port": None}),
    ):
        changes = {"connection": connection(peer=address)} if name == "peer" else {name: address}
        assert rendered(finished(**changes))[told] == expected


# Whatever there is

any_integer = st.integers(-(2**63), 2**64 - 1)
any_number = st.floats() | st.floats(0, 10)
sizes = st.none() | st.integers(0, 2**63)
odd_bytes = st.binary(max_size=24) | st.sampled_from([b"", b"\x00", b"\xff", b"\xed\xa0\x80", b"a\r\nb", b":status"])
odd_text = st.text(max_size=12) | st.sampled_from(["", "a b", "::1%eth0", "\x00", "xn--a", "[", "::ffff:1.2.3.4"])
surrogates = st.text(st.characters(exclude_categories=()), max_size=12)
fields = st.lists(st.tuples(odd_bytes, odd_bytes), max_size=3).map(tuple)
addresses = st.none() | st.tuples(odd_text | st.ip_addresses().map(str), any_integer)
versions = odd_bytes | st.sampled_from([b"HTTP/1.0", b"HTTP/1.1", b"HTTP/2.0", b"HTTP/3"])
hellos = st.none() | odd_bytes | st.sampled_from([bytes.fromhex(vector["client_hello_hex"]) for vector in VECTORS])
tls_connections = st.none() | st.builds(
    records.Tls,
    st.just(TLS_ID),
    hellos,
    st.none() | odd_text | st.sampled_from(["TLSv1", "TLSv1.3", "QUICv1"]),
    st.none() | odd_text | st.just("ECDHE-RSA-AES128-GCM-SHA256"),
    st.sampled_from(["tcp", "quic", "dtls"]),
)
owners = st.builds(Owner, st.none() | st.builds(records.Process, any_integer, st.none() | surrogates), st.booleans())
connections = st.builds(Connection, addresses, tls_connections, st.none() | st.just(HTTP2_ID), owners)
request_heads = st.builds(
    records.RequestHead,
    odd_bytes,
    odd_bytes | st.sampled_from([b"http", b"https"]),
    odd_text,
    any_integer,
    odd_bytes,
    odd_bytes | odd_bytes.map(lambda path: b"/" + path),
    versions,
    fields,
    st.none() | st.lists(odd_bytes | st.sampled_from([b":method", b":path", b":authority"]), max_size=4).map(tuple),
)
response_heads = st.builds(records.ResponseHead, any_integer | st.integers(100, 599), odd_bytes, versions, fields)
offsets = st.none() | any_number
connecting = st.builds(records.Connecting, **dict.fromkeys(CONNECTING, offsets))
instants = st.builds(Instants, **dict.fromkeys(EXCHANGE, offsets), connecting=st.none() | connecting)
bodies = st.builds(Body, sizes, sizes, fields)
entries = st.builds(
    Entry,
    id=st.just(ID),
    started=any_number,
    connection=connections,
    request=request_heads,
    stream=st.none() | any_integer | st.integers(0, 9),
    instants=instants,
    request_body=bodies,
    response=st.none() | response_heads,
    response_body=bodies,
    remote=addresses,
    websocket=st.booleans(),
    pushed=st.booleans(),
    ended=st.booleans(),
)


@given(entries)
def test_whatever_an_entry_is_built_from_the_strict_client_takes_it(entry: Entry) -> None:
    text = render(entry).decode()
    strict_client.check("sessions/get_entry", f'{{"jsonrpc":"2.0","id":1,"result":{text}}}')


@given(entries)
def test_an_unfinished_entry_that_was_written_down_is_rendered_as_before(entry: Entry) -> None:
    entry.connection.owner.process = None
    state = msgspec.msgpack.encode(entry)
    assert render(msgspec.msgpack.decode(state, type=Entry)) == render(entry)
