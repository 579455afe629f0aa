"""The models against the specification, field by field, and what they refuse."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from rpc import schema
from rpc.schema import NetAddress, SessionEntry, Timings, WebSocketMessage
from tests import strict_client
from tests.test_strict_client import ENTRY

HEADERS = "Array<[string, string]>"

SPECIFICATION: dict[str, dict[str, str]] = {
    "SessionEntry": {
        "id": "string",
        "url": "string",
        "clientAddr": "Option<NetAddress>",
        "remoteAddr": "Option<NetAddress>",
        "httpVersion": "string",
        "transactionType": '"request" | "push_promise"',
        "request": "Request",
        "response": "Option<Response>",
        "isWebSocket": "boolean",
        "tls": "TlsSettings",
        "http2": "Option<Http2StreamRef>",
        "timings": "Timings",
        "process": "Option<ProcessInfo>",
    },
    "NetAddress": {"ip": "string", "port": "Option<number>"},
    "Request": {
        "method": "Option<string>",
        "path": "Option<string>",
        "httpVersion": "Option<string>",
        "headers": HEADERS,
        "bodySize": "Option<number>",
    },
    "Response": {
        "httpVersion": "Option<string>",
        "statusCode": "Option<number>",
        "statusText": "Option<string>",
        "headers": HEADERS,
        "bodySize": "Option<number>",
    },
    "TlsSettings": {
        "connectionId": "Option<string>",
        "tlsVersion": "Option<NamedU16>",
        "cipherSuite": "Option<NamedU16>",
        "ja3": "Option<Ja3>",
        "ja4": "Option<Ja4>",
    },
    "Ja3": {"string": "string", "hash": "string"},
    "Ja4": {"raw": "string", "hashed": "string"},
    "Http2StreamRef": {"connectionId": "string", "streamId": "number"},
    "Timings": {
        "startedAt": "string",
        "blocked": "Option<number>",
        "dns": "Option<number>",
        "connect": "Option<number>",
        "send": "Option<number>",
        "wait": "Option<number>",
        "receive": "Option<number>",
        "ssl": "Option<number>",
    },
    "ProcessInfo": {"pid": "number", "name": "Option<string>"},
    "NamedU16": {"value": "number", "name": "string"},
    "WebSocketMessage": {
        "side": '"client" | "server"',
        "startedAt": "Option<string>",
        "endedAt": "Option<string>",
        "payload": "Text | Binary | Close",
    },
    "Text": {"type": '"text"', "text": "string"},
    "Binary": {"type": '"binary" | "ping" | "pong" | "unknown"', "data": "string"},
    "Close": {"type": '"close"', "code": "number", "reason": "string"},
    "Session": {"id": "string", "name": "string"},
    "NoParams": {},
    "SessionParams": {"sessionId": "string"},
    "EntryParams": {"sessionId": "string", "entryId": "string"},
    "BodyParams": {"sessionId": "string", "entryId": "string", "encoding": '"text" | "base64"'},
}
"""Every type as the specification writes it; of a payload, one type for each of its forms."""

SIMPLE = {"string": "string", "integer": "number", "boolean": "boolean"}


def written(field: dict[str, Any]) -> str:
    """Return a type of JSON Schema as the specification writes it."""
    if "anyOf" in field:
        some, null = field["anyOf"]
        assert null == {"type": "null"}
        return f"Option<{written(some)}>"
    if "oneOf" in field:
        return " | ".join(written(form) for form in field["oneOf"])
    if "$ref" in field:
        return str(field["$ref"]).removeprefix("#/$defs/")
    if field.get("type") == "array":
        return f"Array<[{', '.join(map(written, field['items']['prefixItems']))}]>"
    names = [field["const"]] if "const" in field else field.get("enum")
    return " | ".join(f'"{name}"' for name in names) if names else SIMPLE[field["type"]]


def models() -> dict[str, type[BaseModel]]:
    found = {name: value for name, value in vars(schema).items() if isinstance(value, type)}
    return {
        name: value for name, value in found.items() if issubclass(value, schema.Model) and value is not schema.Model
    }


def test_every_type_of_the_specification_is_a_model() -> None:
    assert SPECIFICATION.keys() <= models().keys()


@pytest.mark.parametrize("name", SPECIFICATION)
def test_a_model_has_the_fields_of_the_specification_in_its_order_and_no_other(name: str) -> None:
    generated = models()[name].model_json_schema(mode="serialization")
    assert {field: written(type_) for field, type_ in generated["properties"].items()} == SPECIFICATION[name]
    assert list(generated["properties"]) == list(SPECIFICATION[name])
    assert generated.get("required", []) == list(SPECIFICATION[name])
    assert generated["additionalProperties"] is False


def integers(name: str) -> dict[str, tuple[int, int | None]]:
    """Return the least and the greatest value of each integer of a model."""
    found = {}
    for field, type_ in models()[name].model_json_schema()["properties"].items():
        for form in type_.get("anyOf", [type_]):
            if form.get("type") == "integer":
                found[field] = (form["minimum"], form.get("maximum"))
    return found


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("NetAddress", {"port": (0, 65535)}),
        ("Request", {"bodySize": (0, None)}),
        ("Response", {"statusCode": (0, 65535), "bodySize": (0, None)}),
        ("NamedU16", {"value": (0, 65535)}),
        ("Http2StreamRef", {"streamId": (1, 2**31 - 1)}),
        ("Timings", dict.fromkeys(("blocked", "dns", "connect", "send", "wait", "receive", "ssl"), (0, None))),
        ("ProcessInfo", {"pid": (0, 2**32 - 1)}),
        ("Close", {"code": (0, 65535)}),
    ],
)
def test_an_integer_is_unsigned_and_as_wide_as_the_client_reads_it(name: str, expected: dict[str, Any]) -> None:
    assert integers(name) == expected


def test_an_entry_is_rendered_as_it_is_read() -> None:
    text = schema.render_entry(SessionEntry.model_validate_json(json.dumps(ENTRY)))
    assert json.loads(text) == ENTRY
    assert text == json.dumps(ENTRY, separators=(",", ":")).encode()


def test_an_entry_keeps_its_nulls() -> None:
    timings = Timings(started_at="2026-11-24T14:55:06.836Z")
    assert json.loads(timings.model_dump_json(by_alias=True)) == {
        "startedAt": "2026-11-24T14:55:06.836Z",
        **dict.fromkeys(("blocked", "dns", "connect", "send", "wait", "receive", "ssl")),
    }


def test_messages_and_sessions_are_rendered_under_their_names_on_the_wire() -> None:
    close = {"type": "close", "code": 1000, "reason": ""}
    message = schema.render_message({"side": "server", "started_at": None, "ended_at": None, "payload": close})
    assert json.loads(message) == {"side": "server", "startedAt": None, "endedAt": None, "payload": close}
    sessions = [{"id": ENTRY["id"], "name": "\u00fc"}]
    strict_client.check_result("sessions/list", json.loads(schema.render_sessions(sessions)))
    assert schema.render_sessions([]) == b"[]"


@pytest.mark.parametrize("port", [True, 1.0, "1", -1, 65536])
def test_a_value_of_another_type_or_out_of_its_range_is_refused(port: Any) -> None:
    with pytest.raises(ValidationError):
        NetAddress(ip="127.0.0.1", port=port)


@pytest.mark.parametrize(
    "facts", [{"ip": "127.0.0.1"}, {"ip": "127.0.0.1", "port": 1, "name": "a"}, {"ip": None, "port": 1}]
)
def test_a_key_too_few_or_too_many_is_refused(facts: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        NetAddress(**facts)


def test_a_lone_surrogate_is_not_let_out() -> None:
    with pytest.raises(PydanticSerializationError, match="surrogate"):
        schema.render_sessions([{"id": ENTRY["id"], "name": "\udc80"}])


def test_a_payload_of_another_type_is_refused() -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(WebSocketMessage).validate_python(
            {"side": "client", "started_at": None, "ended_at": None, "payload": {"type": "continuation", "data": ""}}
        )


def test_models_do_not_change() -> None:
    address = NetAddress(ip="127.0.0.1", port=1)
    with pytest.raises(ValidationError):
        address.port = 2
