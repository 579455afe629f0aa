"""The API's description: valid, complete, and true of what is answered."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import TypeAdapter
from referencing import Registry
from referencing.jsonschema import DRAFT7

from rpc import catalogue, schema
from rpc.api import api
from rpc.openrpc import PATH, document
from rpc.store import SqliteStore
from tests import strict_client
from tests.peers.api import Api
from tests.peers.recorder import TOKEN, Recorder, recorder
from tests.test_readme import section

DOCUMENT: dict[str, Any] = json.loads(document())
PUBLISHED = Path(__file__).parent / "openrpc"
META: dict[str, Any] = json.loads((PUBLISHED / "meta_schema.json").read_text())
SCHEMAS = DRAFT7.create_resource(json.loads((PUBLISHED / "json_schema.json").read_text()))
REGISTRY: Registry[Any] = Registry().with_resources([("https://meta.json-schema.tools", SCHEMAS)])


def validator(of: dict[str, Any]) -> jsonschema.Draft7Validator:
    """A validator of a schema in the document."""
    return jsonschema.Draft7Validator(of | {"components": DOCUMENT["components"]})


def described(name: str) -> dict[str, Any]:
    (found,) = [one for one in (*DOCUMENT["methods"], *DOCUMENT["x-notifications"]) if one["name"] == name]
    return dict(found)


def meta_validator(**changed: Any) -> jsonschema.Draft7Validator:
    return jsonschema.Draft7Validator({**META, "$schema": DRAFT7_URI, **changed}, registry=REGISTRY)


DRAFT7_URI = jsonschema.Draft7Validator.META_SCHEMA["$schema"]


def test_document_fits_the_published_meta_schema() -> None:
    assert [error.message for error in meta_validator().iter_errors(DOCUMENT)] == []
    as_method = {"$ref": "#/definitions/methodObject", "definitions": META["definitions"]}
    for notification in DOCUMENT["x-notifications"]:
        jsonschema.Draft7Validator(as_method, registry=REGISTRY).validate(notification)


def test_document_that_does_not_fit_is_found_out() -> None:
    assert not meta_validator().is_valid(DOCUMENT | {"methods": [{"name": "without parameters"}]})


def test_every_method_is_described_and_nothing_else(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "entries.db")
    served = api(store, None).dispatcher.names
    store.close()
    assert served == [method["name"] for method in DOCUMENT["methods"]]


def test_every_notification_that_there_is_is_described() -> None:
    events = {f"sessions/{name}" for name in (*schema.EventName.__value__.__args__, "lagged")}
    assert {notification["name"] for notification in DOCUMENT["x-notifications"]} == events


def test_everything_has_a_description_and_an_example() -> None:
    for one in (*DOCUMENT["methods"], *DOCUMENT["x-notifications"]):
        assert one["summary"]
        assert one["examples"]
        assert [param["name"] for param in one["params"] if not param.get("description")] == []
    assert all(
        model.get("description") for model in DOCUMENT["components"]["schemas"].values() if "properties" in model
    )


@pytest.mark.parametrize("name", [offer.name for offer in catalogue.OFFERS])
def test_example_of_a_method_is_one(name: str) -> None:
    (offer,) = [one for one in catalogue.OFFERS if one.name == name]
    params = {param["name"]: param for param in described(name)["params"]}
    for param, value in offer.example.items():
        validator(params[param]["schema"]).validate(value)
    assert {param for param, is_there in params.items() if is_there["required"]} <= offer.example.keys()
    validator(described(name)["result"]["schema"]).validate(offer.answer)
    offer.params.model_validate_json(json.dumps(offer.example))
    TypeAdapter(offer.result).validate_json(json.dumps(offer.answer))
    if name != "rpc.discover":
        strict_client.check_result(name, offer.answer)


@pytest.mark.parametrize("name", [notification.name for notification in catalogue.NOTIFICATIONS])
def test_example_of_a_notification_is_one(name: str) -> None:
    (notification,) = [one for one in catalogue.NOTIFICATIONS if one.name == name]
    for param in described(name)["params"]:
        validator(param["schema"]).validate(notification.example[param["name"]])
    text = json.dumps({"jsonrpc": "2.0", "method": name, "params": notification.example})
    assert strict_client.check_notification(text) == (name, notification.example)


def test_pairs_are_told_from_longer_lists() -> None:
    headers = DOCUMENT["components"]["schemas"]["Request"]["properties"]["headers"]
    assert validator(headers).is_valid([["a", "b"]])
    assert not validator(headers).is_valid([["a", 1]])
    assert not validator(headers).is_valid([["a", "b", "c"]])


# Over the network


@pytest.fixture(scope="module")
def recording() -> Iterator[Recorder]:
    with recorder() as running:
        yield running
        running.end()


def get(recording: Recorder, target: str, **headers: str) -> tuple[int, str, bytes]:
    request = urllib.request.Request(f"http://127.0.0.1:{recording.port}{target}", headers=headers)
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, response.headers["Content-Type"], response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, "", b""


def test_discovery_answers_with_the_document(recording: Recorder) -> None:
    with Api(recording.url) as client:
        assert client.call("rpc.discover") == DOCUMENT


def test_document_is_there_over_http_for_those_with_the_token(recording: Recorder) -> None:
    status, kind, body = get(recording, f"{PATH}?token={TOKEN}")
    assert (status, kind, json.loads(body)) == (200, "application/json", DOCUMENT)
    assert get(recording, PATH, Authorization=f"Bearer {TOKEN}")[0] == 200
    assert get(recording, PATH)[0] == 401
    assert get(recording, f"/other.json?token={TOKEN}")[0] == 426


# The README


def test_readme_names_every_method_parameter_notification_and_error() -> None:
    told = section("The API")
    for method in DOCUMENT["methods"]:
        assert f"`{method['name']}`" in told
        for param in method["params"]:
            assert f"`{param['name']}`" in told or f'"{param["name"]}"' in told, (method["name"], param["name"])
    for notification in DOCUMENT["x-notifications"]:
        assert f"`{notification['name']}`" in told
        for param in notification["params"]:
            assert f"`{param['name']}`" in told, (notification["name"], param["name"])
    for error in DOCUMENT["components"]["errors"].values():
        assert f"| {error['code']} |" in told
