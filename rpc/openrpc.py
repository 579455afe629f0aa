"""The API's description as an OpenRPC 1.3 document (https://spec.open-rpc.org), made from the models and the catalogue.

It is made once, when it is first asked for. Notifications have no place of their own in OpenRPC: they are methods
without a result in the extension `x-notifications`.
"""

from __future__ import annotations

from functools import cache
from importlib import metadata
from typing import Any, Literal

import msgspec
from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

from rpc.catalogue import ERRORS, NOTIFICATIONS, OFFERS, Notification, Offer
from rpc.jsonrpc import Method
from rpc.schema import Model, NoParams

VERSION = "1.3.2"
"""Of OpenRPC."""

PATH = "/openrpc.json"
"""Where the document is over HTTP."""

REF_TEMPLATE = "#/components/schemas/{model}"


type Schema = dict[str, Any]
type Mode = Literal["validation", "serialization"]


class _Draft7(GenerateJsonSchema):
    """JSON Schema of the draft that OpenRPC builds on, without the titles that pydantic makes up of fields' names."""

    def tuple_schema(self, schema: core_schema.TupleSchema) -> Schema:
        """Return an array whose items are listed, as this draft does it."""
        described = super().tuple_schema(schema)
        if "prefixItems" in described:
            described["items"] = described.pop("prefixItems")
        return described

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002
        return False


@cache
def document() -> str:
    """Return the document as JSON text."""
    schemas: dict[str, Schema] = {}
    described = {
        "openrpc": VERSION,
        "info": {
            "title": "Entries",
            "description": "What mitmproxy has recorded, and what happens, by JSON-RPC 2.0 over WebSocket.",
            "version": metadata.version("mitmproxy-entries"),
            "license": {"name": "MIT"},
        },
        "methods": [_method(offer, schemas) for offer in OFFERS],
        "components": {
            "schemas": schemas,
            "errors": {
                error.name: {"code": error.code, "message": error.message, "data": error.when} for error in ERRORS
            },
        },
        "x-notifications": [_notification(notification, schemas) for notification in NOTIFICATIONS],
    }
    return msgspec.json.encode(described).decode()


def methods() -> list[Method]:
    """Return the method that answers with the document."""
    return [Method("rpc.discover", NoParams, lambda _: document())]


def _method(offer: Offer, schemas: dict[str, Schema]) -> Schema:
    return {
        "name": offer.name,
        "summary": offer.summary,
        "description": offer.description,
        "paramStructure": "either",
        "params": _params(offer.params, "validation", schemas),
        "result": {"name": "result", "required": True, "schema": _schema(offer.result, "serialization", schemas)},
        "errors": [{"$ref": f"#/components/errors/{error.name}"} for error in ERRORS],
        "examples": [
            {
                "name": offer.summary,
                "params": [{"name": name, "value": value} for name, value in offer.example.items()],
                "result": {"name": "result", "value": offer.answer},
            }
        ],
    }


def _notification(notification: Notification, schemas: dict[str, Schema]) -> Schema:
    return {
        "name": notification.name,
        "summary": (notification.params.__doc__ or "").strip(),
        "paramStructure": "by-name",
        "params": _params(notification.params, "serialization", schemas),
        "examples": [
            {
                "name": notification.name,
                "params": [{"name": name, "value": value} for name, value in notification.example.items()],
            }
        ],
    }


def _params(model: type[Model], mode: Mode, schemas: dict[str, Schema]) -> list[Schema]:
    """Return a content descriptor for each of the model's fields."""
    described = model.model_json_schema(mode=mode, ref_template=REF_TEMPLATE, schema_generator=_Draft7)
    schemas.update(described.get("$defs", {}))
    required = described.get("required", [])
    return [_content(name, field, name in required) for name, field in described.get("properties", {}).items()]


def _content(name: str, field: Schema, is_required: bool) -> Schema:  # noqa: FBT001
    explained = {"description": field.pop("description")} if "description" in field else {}
    return {"name": name, **explained, "required": is_required, "schema": field}


def _schema(type_: Any, mode: Mode, schemas: dict[str, Schema]) -> Schema:
    described = TypeAdapter(type_).json_schema(mode=mode, ref_template=REF_TEMPLATE, schema_generator=_Draft7)
    schemas.update(described.pop("$defs", {}))
    if isinstance(type_, type) and issubclass(type_, Model):
        schemas[type_.__name__] = described
        return {"$ref": REF_TEMPLATE.format(model=type_.__name__)}
    return described
