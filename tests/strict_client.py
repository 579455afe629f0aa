"""A client that trusts nothing: it reads an answer as the published client library of this API does, or fails.

That library's parser is strict, so a single wrong value costs it the whole message. Everything here is written from
the specification of the methods alone: it shares no model with the program that it checks.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import json
import re
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, NoReturn

from pydantic_core import Url

U16, U32, U64 = 2**16 - 1, 2**32 - 1, 2**64 - 1

ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}", re.ASCII)
INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", re.ASCII)
URL = re.compile(r"(?P<scheme>https?)://(?P<host>\[[^\]@/?]+\]|[^:@/?\\\[\]]+)(?::(?P<port>\d+))?/.*", re.ASCII)
NOT_IN_URL = re.compile(r"[\x00-\x20\x7f#]")
"""What a URL parser drops, or takes as the beginning of a fragment."""
SURROGATE = re.compile("[\ud800-\udfff]")
STRAY_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
DEFAULT_PORTS = {"http": "80", "https": "443"}
HTTP_VERSIONS = ("HTTP/1.0", "HTTP/1.1", "HTTP/2", "HTTP/3")
MULTIPLEXED = ("HTTP/2", "HTTP/3")
TRANSACTION_TYPES = ("request", "push_promise")
SIDES = ("client", "server")
BODY_ENCODINGS = ("text", "base64")
NUMBERS = r"(?:\d+(?:-\d+)*)?"
JA3 = re.compile(rf"\d+(?:,{NUMBERS}){{4}}", re.ASCII)
MD5 = re.compile(r"[0-9a-f]{32}")
HEX_LIST = r"(?:[0-9a-f]{4}(?:,[0-9a-f]{4})*)?"
JA4_RAW = re.compile(
    rf"[tqd](?:\d\d|s\d|d\d)[di]\d{{4}}[0-9A-Za-z]{{2}}_{HEX_LIST}_{HEX_LIST}(?:_{HEX_LIST})?", re.ASCII
)

type Check = Callable[[Any, str], object]


class Rejected(AssertionError):  # noqa: N818 - what happened to the answer, and a test's failure
    """The published client would not have taken this answer; `path` says where in it."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path


def _reject(path: str, reason: str) -> NoReturn:
    raise Rejected(path, reason)


# Plain values


def string(value: Any, path: str) -> str:
    if not isinstance(value, str):
        _reject(path, f"not a string: {value!r}")
    if not value.isascii() and SURROGATE.search(value):
        _reject(path, f"a lone surrogate: {value!r}")
    return value


def boolean(value: Any, path: str) -> None:
    if not isinstance(value, bool):
        _reject(path, f"not a boolean: {value!r}")


def _unsigned(highest: int) -> Check:
    def check(value: Any, path: str) -> None:
        if type(value) is not int:
            _reject(path, f"not an integer: {value!r}")
        if not 0 <= value <= highest:
            _reject(path, f"not from 0 to {highest}: {value}")

    return check


u16, u32, u64 = _unsigned(U16), _unsigned(U32), _unsigned(U64)


def _one_of(allowed: tuple[str, ...]) -> Check:
    def check(value: Any, path: str) -> None:
        if string(value, path) not in allowed:
            _reject(path, f"not one of {', '.join(allowed)}: {value!r}")

    return check


http_version = _one_of(HTTP_VERSIONS)


def non_empty(value: Any, path: str) -> None:
    if not string(value, path):
        _reject(path, "empty")


def ulid(value: Any, path: str) -> None:
    if not ULID.fullmatch(string(value, path)):
        _reject(path, f"not a ULID in its canonical form: {value!r}")


def instant(value: Any, path: str) -> None:
    if not INSTANT.fullmatch(string(value, path)):
        _reject(path, f"not RFC 3339 in UTC with milliseconds and Z: {value!r}")
    try:
        datetime.fromisoformat(value)
    except ValueError:
        _reject(path, f"no such date or time: {value!r}")


def base64_data(value: Any, path: str) -> None:
    try:
        data = base64.b64decode(string(value, path), validate=True)
    except ValueError as error:
        _reject(path, f"not base64: {error}")
    if base64.b64encode(data).decode() != value:
        _reject(path, f"base64 with stray bits: {value!r}")


def ip_address(value: Any, path: str) -> None:
    try:
        address = ipaddress.ip_address(string(value, path))
    except ValueError:
        _reject(path, f"not an IP address: {value!r}")
    if "%" in value:
        _reject(path, f"an address with a zone: {value!r}")
    if getattr(address, "ipv4_mapped", None) is not None:
        _reject(path, f"IPv4-mapped IPv6: {value!r}")


def url(value: Any, path: str) -> None:
    if (bad := NOT_IN_URL.search(string(value, path))) is not None:
        _reject(path, f"{bad[0]!r} in a URL: {value!r}")
    match = URL.fullmatch(value)
    if match is None:
        _reject(path, f"not scheme://host[:port]/path: {value!r}")
    if match["port"] == DEFAULT_PORTS[match["scheme"]]:
        _reject(path, f"a default port: {value!r}")
    if STRAY_PERCENT.search(match["host"]):
        _reject(path, f"a percent sign that encodes nothing in the host: {value!r}")
    try:
        parsed = Url(value)  # WHATWG URL, by the library that the published client uses
    except ValueError as error:
        _reject(path, f"not a URL: {value!r}: {error}")
    if not parsed.host:
        _reject(path, f"no host: {value!r}")


# Composed values


def optional(check: Check) -> Check:
    def check_optional(value: Any, path: str) -> None:
        if value is not None:
            check(value, path)

    return check_optional


def array(check: Check) -> Check:
    def check_array(value: Any, path: str) -> None:
        if not isinstance(value, list):
            _reject(path, f"not an array: {value!r}")
        for index, item in enumerate(value):
            check(item, f"{path}[{index}]")

    return check_array


def fields(**checks: Check) -> Check:
    """Check an object that has every one of these keys and no other."""

    def check_object(value: Any, path: str) -> None:
        if not isinstance(value, dict):
            _reject(path, f"not an object: {value!r}")
        if missing := [key for key in checks if key not in value]:
            _reject(path, f"without {', '.join(missing)}")
        if extra := [key for key in value if key not in checks]:
            _reject(path, f"unknown {', '.join(map(repr, extra))}")
        for key, check in checks.items():
            check(value[key], f"{path}.{key}")

    return check_object


def all_of(*checks: Check) -> Check:
    def check_all(value: Any, path: str) -> None:
        for check in checks:
            check(value, path)

    return check_all


def unique(key: Callable[[Any], Any]) -> Check:
    def check_unique(value: Any, path: str) -> None:
        keys = [key(item) for item in value]
        if len(set(keys)) < len(keys):
            _reject(path, "the same id twice")

    return check_unique


# The types of the specification


def _header(value: Any, path: str) -> None:
    if not isinstance(value, list) or len(value) != 2:
        _reject(path, f"not a pair: {value!r}")
    string(value[0], f"{path}[0]")
    string(value[1], f"{path}[1]")


def _ja3_hash(value: Any, path: str) -> None:
    if not JA3.fullmatch(value["string"]):
        _reject(f"{path}.string", f"not a JA3 string: {value['string']!r}")
    if value["hash"] != hashlib.md5(value["string"].encode()).hexdigest():
        _reject(f"{path}.hash", f"not the MD5 of the string: {value['hash']!r}")


def _ja4_part(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12] if text else "0" * 12


def _ja4_hashed(value: Any, path: str) -> None:
    if not JA4_RAW.fullmatch(value["raw"]):
        _reject(f"{path}.raw", f"not JA4_r: {value['raw']!r}")
    first, second, third = value["raw"].split("_", 2)
    if value["hashed"] != f"{first}_{_ja4_part(second)}_{_ja4_part(third)}":
        _reject(f"{path}.hashed", f"not the hashed form of {value['raw']!r}: {value['hashed']!r}")


def _all_null_without_id(value: Any, path: str) -> None:
    if value["connectionId"] is None and any(field is not None for field in value.values()):
        _reject(path, "facts of a TLS connection that has no id")


def _ssl_is_part_of_connect(value: Any, path: str) -> None:
    ssl, connect = value["ssl"], value["connect"]
    if ssl is not None and (connect is None or ssl > connect):
        _reject(f"{path}.ssl", f"{ssl}, but connect is {connect}")


def _status_fits_version(value: Any, path: str) -> None:
    if value["httpVersion"] not in MULTIPLEXED:
        return
    if value["statusText"] is not None:
        _reject(f"{path}.statusText", f"{value['httpVersion']} has none: {value['statusText']!r}")
    first = value["headers"][0] if value["headers"] else None
    if first is None or first[0] != ":status":
        _reject(f"{path}.headers", f"{value['httpVersion']} without :status first")
    if value["statusCode"] is not None and first[1] != str(value["statusCode"]):
        _reject(f"{path}.headers[0]", f"{first[1]!r}, but statusCode is {value['statusCode']}")


def _ids_differ(value: Any, path: str) -> None:
    http2 = value["http2"] or {"connectionId": None}
    ids = [id_ for id_ in (value["id"], value["tls"]["connectionId"], http2["connectionId"]) if id_ is not None]
    if len(set(ids)) < len(ids):
        _reject(path, f"one id for different things: {ids}")


def _version_fits(value: Any, path: str) -> None:
    version = value["httpVersion"]
    if value["request"]["httpVersion"] not in (None, version):
        _reject(f"{path}.request.httpVersion", f"{value['request']['httpVersion']}, but the entry's is {version}")
    if value["http2"] is not None and version != "HTTP/2":
        _reject(f"{path}.http2", f"not null over {version}")
    if value["transactionType"] == "push_promise" and version not in MULTIPLEXED:
        _reject(f"{path}.transactionType", f"a push over {version}")


net_address = fields(ip=ip_address, port=optional(u16))
named_u16 = fields(value=u16, name=non_empty)
request = fields(
    method=optional(string),
    path=optional(non_empty),
    httpVersion=optional(http_version),
    headers=array(_header),
    bodySize=optional(u64),
)
response = all_of(
    fields(
        httpVersion=optional(http_version),
        statusCode=optional(u16),
        statusText=optional(string),
        headers=array(_header),
        bodySize=optional(u64),
    ),
    _status_fits_version,
)
tls_settings = all_of(
    fields(
        connectionId=optional(ulid),
        tlsVersion=optional(named_u16),
        cipherSuite=optional(named_u16),
        ja3=optional(all_of(fields(string=string, hash=string), _ja3_hash)),
        ja4=optional(all_of(fields(raw=string, hashed=string), _ja4_hashed)),
    ),
    _all_null_without_id,
)
timings = all_of(
    fields(
        startedAt=instant,
        blocked=optional(u64),
        dns=optional(u64),
        connect=optional(u64),
        send=optional(u64),
        wait=optional(u64),
        receive=optional(u64),
        ssl=optional(u64),
    ),
    _ssl_is_part_of_connect,
)
entry = all_of(
    fields(
        id=ulid,
        url=url,
        clientAddr=optional(net_address),
        remoteAddr=optional(net_address),
        httpVersion=http_version,
        transactionType=_one_of(TRANSACTION_TYPES),
        request=request,
        response=optional(response),
        isWebSocket=boolean,
        tls=tls_settings,
        http2=optional(fields(connectionId=ulid, streamId=u32)),
        timings=timings,
        process=optional(fields(pid=u32, name=optional(string))),
    ),
    _ids_differ,
    _version_fits,
)

_PAYLOADS: dict[str, Check] = {
    "text": fields(type=string, text=string),
    "binary": fields(type=string, data=base64_data),
    "close": fields(type=string, code=u16, reason=string),
    "ping": fields(type=string, data=base64_data),
    "pong": fields(type=string, data=base64_data),
    "unknown": fields(type=string, data=base64_data),
}


def payload(value: Any, path: str) -> None:
    if not isinstance(value, dict) or "type" not in value:
        _reject(path, f"not an object with a type: {value!r}")
    _one_of(tuple(_PAYLOADS))(value["type"], f"{path}.type")
    _PAYLOADS[value["type"]](value, path)


def _ends_after_it_starts(value: Any, path: str) -> None:
    started, ended = value["startedAt"], value["endedAt"]
    if started is not None and ended is not None and ended < started:
        _reject(path, f"ends at {ended}, before it starts at {started}")


message = all_of(
    fields(side=_one_of(SIDES), startedAt=optional(instant), endedAt=optional(instant), payload=payload),
    _ends_after_it_starts,
)
session = fields(id=ulid, name=string)

status = fields(
    isCaptured=boolean,
    isStored=boolean,
    entries=u64,
    bytes=u64,
    dropped=u64,
    droppedSince=optional(instant),
    droppedUntil=optional(instant),
    evictedBytes=u64,
    storeBytes=u64,
    storeLimit=optional(u64),
)


def _finished_with_its_duration(value: Any, path: str) -> None:
    if value["error"] is not None and value["isFinished"] and value["duration"] is None:
        _reject(f"{path}.duration", "null, but the exchange has failed")
    if value["mimeType"] is not None and (value["mimeType"] != value["mimeType"].lower() or ";" in value["mimeType"]):
        _reject(f"{path}.mimeType", f"not a lower-case type without parameters: {value['mimeType']!r}")


summary = all_of(
    fields(
        id=ulid,
        method=optional(string),
        url=url,
        statusCode=optional(u16),
        startedAt=instant,
        duration=optional(u64),
        requestBodySize=optional(u64),
        responseBodySize=optional(u64),
        mimeType=optional(non_empty),
        isWebSocket=boolean,
        isFinished=boolean,
        error=optional(string),
    ),
    _finished_with_its_duration,
)
page = fields(
    entries=all_of(array(summary), unique(lambda item: item["id"])),
    next=optional(ulid),
)


def _true(value: Any, path: str) -> None:
    if value is not True:
        _reject(path, f"not true: {value!r}")


_CHANGES = ("request", "response", "body", "process", "finished")


def _finished_when_said(value: Any, path: str) -> None:
    if "finished" in value["changes"] and not value["entry"]["isFinished"]:
        _reject(path, "finished, but the summary says that it is not")


_NOTIFICATIONS: dict[str, Check] = {
    "sessions/entry_added": fields(subscriptionId=non_empty, sessionId=ulid, entry=summary),
    "sessions/entry_updated": all_of(
        fields(
            subscriptionId=non_empty,
            sessionId=ulid,
            entry=summary,
            changes=all_of(array(_one_of(_CHANGES)), unique(lambda item: item)),
        ),
        _finished_when_said,
    ),
    "sessions/websocket_message_added": fields(
        subscriptionId=non_empty, sessionId=ulid, entryId=ulid, index=u64, message=optional(message)
    ),
    "sessions/body_chunk": fields(
        subscriptionId=non_empty,
        sessionId=ulid,
        entryId=ulid,
        side=_one_of(("request", "response")),
        offset=u64,
        data=base64_data,
    ),
    "sessions/opened": fields(subscriptionId=non_empty, session=session),
    "sessions/closed": fields(subscriptionId=non_empty, session=session),
    "sessions/lagged": fields(subscriptionId=non_empty, sessionId=ulid, after=ulid, missed=u64),
}


def _document(value: Any, path: str) -> None:
    if not isinstance(value, dict) or not string(value.get("openrpc"), f"{path}.openrpc").startswith("1."):
        _reject(path, "no OpenRPC document")


_RESULTS: dict[str, Check] = {
    "rpc.discover": _document,
    "sessions/query": optional(page),
    "sessions/subscribe": optional(non_empty),
    "sessions/unsubscribe": optional(_true),
    "sessions/list": all_of(array(session), unique(lambda item: item["id"])),
    "sessions/get_entry_ids": optional(all_of(array(ulid), unique(lambda item: item))),
    "sessions/get_listener_port": optional(u16),
    "sessions/get_status": optional(status),
    "sessions/get_entry": optional(entry),
    "sessions/get_request_body": optional(string),
    "sessions/get_response_body": optional(string),
    "sessions/get_websocket_messages": optional(array(message)),
}


# What a test calls


def check_entry(value: Any) -> None:
    """Reject what is no `SessionEntry`."""
    entry(value, "entry")


def check_messages(value: Any) -> None:
    """Reject what is no array of `WebSocketMessage`."""
    array(message)(value, "messages")


def check_base64(value: Any) -> None:
    """Reject what is not padded base64 in the standard alphabet."""
    base64_data(value, "data")


def ids_of(entries: Iterable[Any]) -> list[str]:
    """Return every id in these entries: of entries, TLS connections and HTTP/2 connections."""
    found = []
    for value in entries:
        found += [value["id"], value["tls"]["connectionId"], (value["http2"] or {}).get("connectionId")]
    return [id_ for id_ in found if id_ is not None]


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    if duplicate := next((key for key in keys if keys.count(key) > 1), None):
        _reject(duplicate, "the same key twice in one object")
    return dict(pairs)


def _integer(digits: str) -> int:
    if digits == "-0":
        _reject("answer", "-0 is no integer to many parsers")
    return int(digits)


def _not_a_number(name: str) -> NoReturn:
    _reject("answer", f"{name} is no JSON")


def parse(text: str) -> Any:
    """Return the value of a JSON text. Rejects duplicate keys, NaN, infinities and lone surrogates, also in keys."""
    try:
        value = json.loads(
            text, object_pairs_hook=_without_duplicates, parse_constant=_not_a_number, parse_int=_integer
        )
    except json.JSONDecodeError as error:
        _reject("answer", f"not JSON: {error}")
    _no_surrogate_anywhere(value, "answer")
    return value


def _no_surrogate_anywhere(value: Any, path: str) -> None:
    if isinstance(value, str):
        string(value, path)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _no_surrogate_anywhere(item, f"{path}[{index}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            string(key, f"a key of {path}")
            _no_surrogate_anywhere(item, f"{path}.{key}")


def check_result(method: str, result: Any, *, encoding: str = "text") -> None:
    """Reject what is no result of this method; `encoding` is what a body was asked for in."""
    if encoding not in BODY_ENCODINGS:
        raise ValueError(encoding)
    _RESULTS[method](result, "result")
    if method.endswith("_body") and encoding == "base64" and result is not None:
        base64_data(result, "result")


def check(method: str, text: str, *, encoding: str = "text") -> Any:
    """Return the result in the raw text of a JSON-RPC answer to this method. Raises `Rejected`."""
    answer = parse(text)
    if not isinstance(answer, dict):
        _reject("answer", f"not an object: {answer!r}")
    if "error" in answer:
        _reject("answer", f"an error: {answer['error']!r}")
    if set(answer) != {"jsonrpc", "id", "result"}:
        _reject("answer", f"not the keys of a success: {sorted(answer)}")
    if answer["jsonrpc"] != "2.0":
        _reject("answer.jsonrpc", f"not 2.0: {answer['jsonrpc']!r}")
    check_result(method, answer["result"], encoding=encoding)
    return answer["result"]


def check_notification(text: str) -> tuple[str, dict[str, Any]]:
    """Return method and parameters in the raw text of a notification. Raises `Rejected`."""
    notification = parse(text)
    fields(jsonrpc=_one_of(("2.0",)), method=_one_of(tuple(_NOTIFICATIONS)), params=lambda *_: None)(
        notification, "notification"
    )
    method, params = notification["method"], notification["params"]
    _NOTIFICATIONS[method](params, "params")
    return method, params
