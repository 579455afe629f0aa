"""HTTP/3 through the proxy: real clients over QUIC, a real server behind, and datagrams that are read a second time."""

from __future__ import annotations

import base64
import hashlib
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import curl_cffi
import pytest
from aioquic.tls import CipherSuite
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from curl_cffi import CurlHttpVersion

from tests.peers.api import Entry, eventually
from tests.peers.authority import Authority
from tests.peers.clients import chromium
from tests.peers.hellos import fingerprints, hello_in_datagrams
from tests.peers.http3 import Fields, http3, http3_server
from tests.peers.proxy import Proxy, recording
from tests.peers.relay import UdpRelay, udp_relay


class Setup:
    """A proxy in reverse mode before an HTTP/3 server, and a relay in front that notes datagrams."""

    def __init__(self, proxy: Proxy, between: UdpRelay, flow_file: Path) -> None:
        self.api = proxy.api
        self.mitmdump = proxy.mitmdump
        self.ca = proxy.ca
        self.port = between.port
        self.flow_file = flow_file
        self._sent = between.sent

    def fingerprints(self, entry: Entry) -> dict[str, Any]:
        """Return what a second reading of the datagrams on the entry's connection gives."""
        return fingerprints(hello_in_datagrams(self._sent[entry["clientAddr"]["port"]]), "q")


@pytest.fixture(scope="module")
def setup(
    confdir: Path, authority: Authority, trusting: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Setup]:
    flow_file = tmp_path_factory.mktemp("flows") / "http3.flow"
    with ExitStack() as stack:
        # Not the certificate of all names: the library refuses a wildcard right below the root.
        server = stack.enter_context(http3_server(authority.issue("localhost", file="http3.pem")))
        arguments = ("--mode", f"reverse:https://localhost:{server}", "-w", str(flow_file), *trusting)
        proxy = stack.enter_context(recording(confdir, *arguments))
        yield Setup(proxy, stack.enter_context(udp_relay(proxy.port)), flow_file)


def request(method: bytes, path: str, *fields: tuple[bytes, bytes]) -> Fields:
    """Return the fields of a request, the pseudo-header fields in an order that is nobody's habit."""
    return [
        (b":path", path.encode()),
        (b":authority", b"localhost"),
        (b":scheme", b"https"),
        (b":method", method),
        *fields,
    ]


def test_an_exchange_is_recorded_whole(setup: Setup) -> None:
    fields = request(b"POST", "/whole?a=1", (b"x-twice", b"1"), (b"x-other", b""), (b"x-twice", b"2"))
    ((_, body),) = http3(setup.port, (fields, b"sent"))
    assert body == b"sent"
    entry = setup.api.wait_for("/whole?a=1")
    authority = entry["url"].removeprefix("https://").removesuffix("/whole?a=1")
    assert entry["httpVersion"] == "HTTP/3"
    assert entry["request"] == {
        "method": "POST",
        "path": "/whole?a=1",
        "httpVersion": "HTTP/3",
        "headers": [
            [":path", "/whole?a=1"],
            [":authority", authority],
            [":scheme", "https"],
            [":method", "POST"],
            ["x-twice", "1"],
            ["x-other", ""],
            ["x-twice", "2"],
        ],
        "bodySize": 4,
    }
    assert entry["response"] == {
        "httpVersion": "HTTP/3",
        "statusCode": 200,
        "statusText": None,
        "headers": [[":status", "200"], ["content-type", "text/plain"], ["x-path", "/whole?a=1"], ["x-path", "2"]],
        "bodySize": 4,
    }
    assert entry["http2"] is None
    assert entry["transactionType"] == "request"
    assert not entry["isWebSocket"]
    assert setup.api.body("request", entry) == setup.api.body("response", entry) == "sent"
    assert None not in (entry["timings"]["send"], entry["timings"]["wait"], entry["timings"]["receive"])


@pytest.mark.parametrize(
    ("suite", "code", "name"),
    [
        (CipherSuite.AES_128_GCM_SHA256, 0x1301, "TLS_AES_128_GCM_SHA256"),
        (CipherSuite.AES_256_GCM_SHA384, 0x1302, "TLS_AES_256_GCM_SHA384"),
        (CipherSuite.CHACHA20_POLY1305_SHA256, 0x1303, "TLS_CHACHA20_POLY1305_SHA256"),
    ],
)
def test_the_tls_of_quic_is_tls_1_3(setup: Setup, suite: CipherSuite, code: int, name: str) -> None:
    path = f"/suite/{name}"
    http3(setup.port, (request(b"GET", path), b""), cipher_suites=[suite])
    entry = setup.api.wait_for(path)
    assert entry["tls"].pop("connectionId")
    assert entry["tls"] == {
        "tlsVersion": {"value": 0x0304, "name": "TLS 1.3"},
        "cipherSuite": {"value": code, "name": name},
        **setup.fingerprints(entry),
    }
    assert entry["tls"]["ja4"]["raw"].startswith("q13d0107h3_")


def test_requests_on_one_connection_share_its_tls(setup: Setup) -> None:
    http3(setup.port, (request(b"GET", "/shared/1"), b""), (request(b"GET", "/shared/2"), b""))
    http3(setup.port, (request(b"GET", "/shared/3"), b""))
    first, second, third = (setup.api.wait_for(f"/shared/{number}")["tls"] for number in (1, 2, 3))
    assert first == second
    assert first["connectionId"] != third["connectionId"]


@pytest.mark.parametrize(
    ("browser", "pseudo"),
    [
        ("chrome", [":method", ":authority", ":scheme", ":path"]),
        ("chrome131", [":method", ":authority", ":scheme", ":path"]),
        ("edge", [":method", ":authority", ":scheme", ":path"]),
        ("safari", [":method", ":scheme", ":authority", ":path"]),
    ],
)
def test_a_browsers_hello_and_field_order_are_told(setup: Setup, browser: Any, pseudo: list[str]) -> None:
    """The hellos of newer browsers have post-quantum key shares, and so come in two datagrams."""
    path = f"/browser/{browser}"
    received = curl_cffi.get(
        f"https://localhost:{setup.port}{path}", http_version=CurlHttpVersion.V3ONLY, impersonate=browser, verify=False
    )
    assert (received.status_code, received.text) == (200, "hello")
    entry = setup.api.wait_for(path)
    assert entry["httpVersion"] == "HTTP/3"
    assert {name: entry["tls"][name] for name in ("ja3", "ja4")} == setup.fingerprints(entry)
    assert [name for name, _ in entry["request"]["headers"] if name.startswith(":")] == pseudo
    assert [name.startswith(":") for name, _ in entry["request"]["headers"][:5]] == [True] * 4 + [False]


def test_chromiums_hello_is_told(setup: Setup, tmp_path: Path) -> None:
    """Over QUIC it trusts only keys that it is given by their hashes."""
    authority = x509.load_pem_x509_certificate(setup.ca.read_bytes())
    key = authority.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    flags = (
        f"--origin-to-force-quic-on=localhost:{setup.port}",
        f"--ignore-certificate-errors-spki-list={base64.b64encode(hashlib.sha256(key).digest()).decode()}",
    )
    assert "hello" in chromium(tmp_path, f"https://localhost:{setup.port}/chromium", *flags)
    entry = setup.api.wait_for("/chromium")
    assert entry["httpVersion"] == "HTTP/3"
    assert {name: entry["tls"][name] for name in ("ja3", "ja4")} == setup.fingerprints(entry)
    assert [name for name, _ in entry["request"]["headers"][:4]] == [":method", ":authority", ":scheme", ":path"]


def test_a_hello_that_is_malformed_where_only_fingerprints_look_gives_nulls(setup: Setup) -> None:
    """TLS 1.3 does not read ec_point_formats, here with three bytes announced and none there."""
    http3(setup.port, (request(b"GET", "/malformed"), b""), extensions=[(11, b"\x03")])
    tls = setup.api.wait_for("/malformed")["tls"]
    assert tls.pop("connectionId")
    assert tls == {
        "tlsVersion": {"value": 0x0304, "name": "TLS 1.3"},
        "cipherSuite": {"value": 0x1302, "name": "TLS_AES_256_GCM_SHA384"},
        "ja3": None,
        "ja4": None,
    }
    assert "Recording is incomplete" not in setup.mitmdump.output


def test_a_client_that_distrusts_the_proxy_leaves_no_entry(setup: Setup) -> None:
    before = setup.api.entry_ids()
    with pytest.raises(ConnectionError):
        http3(setup.port, (request(b"GET", "/distrusted"), b""), verify_mode=ssl.CERT_REQUIRED)
    http3(setup.port, (request(b"GET", "/sentinel"), b""))
    sentinel = setup.api.wait_for("/sentinel")
    assert setup.api.entry_ids() == [*before, sentinel["id"]]


def test_a_saved_flow_replays_to_the_same_entry(setup: Setup, confdir: Path) -> None:
    http3(setup.port, (request(b"GET", "/replayed", (b"x-field", b"1")), b""))
    entry = setup.api.wait_for("/replayed")
    assert entry["tls"]["ja4"]
    eventually(lambda: b"/replayed" in setup.flow_file.read_bytes(), bool)
    arguments = ("-n", "-r", str(setup.flow_file), "--set", "keepserving=true")
    with recording(confdir, *arguments, listens=False) as replaying:
        assert replaying.api.wait_for("/replayed") == setup.api.wait_for("/replayed")
