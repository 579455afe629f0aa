"""HAR 1.2: entries as they are answered, in the form that browsers' developer tools read. Pure values in and out.

http://www.softwareishard.com/blog/har-12-spec/ says what each field is; what it has no field for is in fields that
begin with an underscore, as it provides. Where Chromium writes such a field itself, it is written as Chromium does.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import parse_qsl

from rpc.charsets import TextReader, charset_of

type Json = dict[str, Any]
type Headers = Sequence[Sequence[str]]

VERSION = "1.2"
UNAVAILABLE = -1
"""What HAR writes for a size or time that is not known or does not apply."""

OPTIONAL_PHASES = ("blocked", "dns", "connect", "ssl")
REQUIRED_PHASES = ("send", "wait", "receive")
"""What HAR has to be a number of zero or more; `_timings` tells which were not observed."""

ADDED_PHASES = ("blocked", "dns", "connect", "send", "wait", "receive")
"""The phases that make up an entry's time; `ssl` is a part of `connect`."""

OPCODES = {"text": 1, "binary": 2, "close": 8, "ping": 9, "pong": 10}
"""The opcodes of RFC 6455 section 5.2."""
SENDERS = {"client": "send", "server": "receive"}

TEXT_CONTROLS = frozenset("\t\n\f\r\x1b")
"""Control characters that text may have in it: what has others is a file of bytes."""

PROBE = 64 * 1024
"""Characters that are looked at for control characters."""


def entry(
    told: Json, request_body: bytes | None, response_body: bytes | None, messages: Iterable[Json] | None = None
) -> Json:
    """Return an entry of the API in HAR's form.

    The bodies have their content encoding undone, and are null if they are not kept. `messages` are those of a
    WebSocket.
    """
    timings: Json = told["timings"]
    made = {
        "startedDateTime": timings["startedAt"],
        "time": sum(timings[phase] or 0 for phase in ADDED_PHASES),
        "request": _request(told, request_body),
        "response": _response(told["response"], response_body),
        "cache": {},
        "timings": _timings(timings),
        **_connection(told),
        **_extras(told),
    }
    if told["isWebSocket"]:
        made["_resourceType"] = "websocket"
        if messages is not None:
            made["_webSocketMessages"] = [_message(message) for message in messages]
    return made


def _connection(told: Json) -> Json:
    """Return the server's address, if it is known: browsers write its port as the connection, and read it as that."""
    remote = told["remoteAddr"]
    known = {"serverIPAddress": remote and remote["ip"], "connection": remote and remote["port"]}
    return {name: str(value) for name, value in known.items() if value is not None}


def _extras(told: Json) -> Json:
    return {
        "_id": told["id"],
        "_transactionType": told["transactionType"],
        "_clientAddr": told["clientAddr"],
        "_remoteAddr": told["remoteAddr"],
        "_tls": told["tls"],
        "_http2": told["http2"],
        "_process": told["process"],
        "_timings": {name: value for name, value in told["timings"].items() if name != "startedAt"},
    }


def _timings(timings: Json) -> Json:
    optional = {phase: UNAVAILABLE if timings[phase] is None else timings[phase] for phase in OPTIONAL_PHASES}
    return optional | {phase: timings[phase] or 0 for phase in REQUIRED_PHASES}


def _request(told: Json, body: bytes | None) -> Json:
    request: Json = told["request"]
    headers: Headers = request["headers"]
    made = {
        "method": request["method"] or "",
        "url": told["url"],
        "httpVersion": request["httpVersion"] or "",
        "cookies": list(_request_cookies(headers)),
        "headers": _headers(headers),
        "queryString": _query(told["url"]),
        "headersSize": UNAVAILABLE,
        "bodySize": _known(request["bodySize"]),
        "_path": request["path"],
    }
    if body:
        made["postData"] = _post_data(headers, body)
    return made


def _response(response: Json | None, body: bytes | None) -> Json:
    """Return a response. HAR has no way to say that there was none: browsers write status 0."""
    if response is None:
        nothing = {"httpVersion": "", "statusCode": 0, "statusText": "", "headers": [], "bodySize": None}
        return _response(nothing, None)
    headers: Headers = response["headers"]
    return {
        "status": response["statusCode"] or 0,
        "statusText": response["statusText"] or "",
        "httpVersion": response["httpVersion"] or "",
        "cookies": list(_response_cookies(headers)),
        "headers": _headers(headers),
        "content": _content(response, headers, body),
        "redirectURL": next(_values(headers, "location"), ""),
        "headersSize": UNAVAILABLE,
        "bodySize": _known(response["bodySize"]),
    }


def _known(size: int | None) -> int:
    return UNAVAILABLE if size is None else size


def _headers(headers: Headers) -> list[Json]:
    return [{"name": name, "value": value} for name, value in headers]


def _values(headers: Headers, name: str) -> Iterator[str]:
    return (value for field, value in headers if field.lower() == name)


def _mime_type(headers: Headers) -> str:
    return next(_values(headers, "content-type"), "")


def _query(url: str) -> list[Json]:
    pairs = parse_qsl(url.partition("?")[2], keep_blank_values=True, errors="replace")
    return [{"name": name, "value": value} for name, value in pairs]


# Bodies


def _content(response: Json, headers: Headers, body: bytes | None) -> Json:
    size, encoded_size = None if body is None else len(body), response["bodySize"]
    is_encoded = any(_values(headers, "content-encoding"))
    content: Json = {
        "size": _known(encoded_size if size is None and not is_encoded else size),
        "mimeType": _mime_type(headers),
    }
    if size is not None and encoded_size is not None and is_encoded:
        content["compression"] = size - encoded_size
    if body is not None:
        content |= _text_or_base64(body, content["mimeType"])
    return content


def _text_or_base64(body: bytes, content_type: str) -> Json:
    """Return a body that is text as such, any other in base64."""
    text = TextReader(charset_of(content_type)).read(body, last=True)
    if _is_text(text):
        return {"text": text}
    return {"text": base64.b64encode(body).decode("ascii"), "encoding": "base64"}


def _is_text(text: str) -> bool:
    if "\ufffd" in text:
        return False
    return all(character >= " " or character in TEXT_CONTROLS for character in text[:PROBE])


def _post_data(headers: Headers, body: bytes) -> Json:
    """Return a request's body. HAR has only text for it: of other bytes, `_base64` has them all."""
    mime_type = _mime_type(headers)
    text = TextReader(charset_of(mime_type)).read(body, last=True)
    made: Json = {"mimeType": mime_type, "params": [], "text": text}
    if not _is_text(text):
        made["_base64"] = base64.b64encode(body).decode("ascii")
    return made


# Cookies


def _request_cookies(headers: Headers) -> Iterator[Json]:
    """Yield the pairs of Cookie fields (RFC 6265 section 4.2)."""
    for field in _values(headers, "cookie"):
        for pair in field.split(";"):
            if pair.strip():
                yield _pair(pair)


def _response_cookies(headers: Headers) -> Iterator[Json]:
    """Yield the cookies of Set-Cookie fields, read as RFC 6265 section 5.2 says."""
    for field in _values(headers, "set-cookie"):
        first, *attributes = field.split(";")
        cookie = _pair(first)
        for attribute in attributes:
            name, _, value = attribute.partition("=")
            cookie |= _attribute(name.strip().lower(), value.strip())
        yield cookie


def _pair(pair: str) -> Json:
    name, equals, value = pair.partition("=")
    return {"name": name.strip(), "value": value.strip()} if equals else {"name": "", "value": name.strip()}


def _attribute(name: str, value: str) -> Json:
    match name:
        case "path" | "domain":
            return {name: value}
        case "secure":
            return {"secure": True}
        case "httponly":
            return {"httpOnly": True}
        case "expires":
            return {"expires": expires} if (expires := _instant(value)) else {}
        case "max-age":
            return {"_maxAge": value}
        case "samesite":
            return {"_sameSite": value}
        case _:
            return {}


def _instant(date: str) -> str | None:
    """Return the instant that a header field's date names, also in the old forms with hyphens; null if it is none."""
    try:
        parsed = parsedate_to_datetime(date)
        instant = parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return datetime.isoformat(instant, timespec="milliseconds").replace("+00:00", "Z")


# WebSocket messages


def _message(message: Json) -> Json:
    """Return a message as Chromium's HAR files have it; bytes are in base64."""
    payload: Json = message["payload"]
    at = message["endedAt"] or message["startedAt"]
    made: Json = {
        "type": SENDERS[message["side"]],
        "time": datetime.fromisoformat(at).timestamp() if at else UNAVAILABLE,
        "opcode": OPCODES.get(payload["type"], UNAVAILABLE),
        "data": payload.get("text") or payload.get("data") or payload.get("reason") or "",
    }
    if message["startedAt"]:
        made["_startedAt"] = message["startedAt"]
    if payload["type"] == "close":
        made["_code"] = payload["code"]
    return made
