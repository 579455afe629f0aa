"""What is taken of a ClientHello, against hellos of many clients as mitmproxy reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from mitmproxy.tls import ClientHello

from addon.clients import handshake_message

VECTORS: list[dict[str, Any]] = json.loads((Path(__file__).parents[1] / "rpc" / "client_hellos.json").read_text())


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_the_message_is_the_one_of_the_wire(vector: dict[str, Any]) -> None:
    """mitmproxy leaves out the header of four bytes."""
    message = bytes.fromhex(vector["client_hello_hex"])
    assert handshake_message(ClientHello(message[4:]).raw_bytes(wrap_in_record=False)) == message
