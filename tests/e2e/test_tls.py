"""TLS identity over real sockets: what was negotiated with the client, and the fingerprints of what it has sent."""

from __future__ import annotations

import json
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import curl_cffi
import pytest
import trustme
from mitmproxy.io import FlowReader
from OpenSSL import SSL

from tests.peers.api import PATIENCE, Api, eventually
from tests.peers.authority import Authority
from tests.peers.clients import curl
from tests.peers.hellos import fingerprints, hello_in_records, hellos_in_stream
from tests.peers.listener import HOST
from tests.peers.origin import Origin, answer
from tests.peers.proxy import ENDPOINT, LISTENING, Proxy, recording, running, with_script
from tests.peers.relay import relay
from tests.peers.tls import Stream, TlsStream, any_context, dial, free_port, get, tunnel

EVERYTHING = "ALL:COMPLEMENTOFALL:@SECLEVEL=0"
TLS_1_0, TLS_1_1 = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
TLS_1_2, TLS_1_3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3

VECTORS = json.loads((Path(__file__).parents[1] / "rpc" / "client_hellos.json").read_text())
PUBLISHED = [bytes.fromhex(vector["client_hello_hex"]) for vector in VECTORS]

NAMES = {TLS_1_0: "TLS 1.0", TLS_1_1: "TLS 1.1", TLS_1_2: "TLS 1.2", TLS_1_3: "TLS 1.3"}


@pytest.fixture(scope="module")
def lenient(confdir: Path, authority: Authority, trusting: tuple[str, ...], tls_origin: Origin) -> Iterator[Proxy]:
    """A reverse proxy that accepts every version and suite; it has an ECDSA certificate for one name, else RSA."""
    ecdsa = authority.issue("ecdsa.test", file="ecdsa.pem")
    options = ("tls_version_client_min=TLS1", f"ciphers_client={EVERYTHING}", f"certs=ecdsa.test={ecdsa}")
    settings = [argument for option in options for argument in ("--set", option)]
    with recording(confdir, *trusting, *settings, "--mode", f"reverse:https://localhost:{tls_origin.port}") as recorded:
        yield recorded


@pytest.fixture(scope="module")
def flow_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("flows") / "strict.flow"


@pytest.fixture(scope="module")
def strict(confdir: Path, trusting: tuple[str, ...], tls_origin: Origin, flow_file: Path) -> Iterator[Proxy]:
    """A reverse proxy that asks for a certificate and for a key share that clients do not send unasked; it saves."""
    options = ("tls_ecdh_curve_client=secp384r1", "request_client_cert=true", f"save_stream_file={flow_file}")
    settings = [argument for option in options for argument in ("--set", option)]
    with recording(confdir, *trusting, *settings, "--mode", f"reverse:https://localhost:{tls_origin.port}") as recorded:
        yield recorded


def tls_of(proxy: Proxy, path: str) -> dict[str, Any]:
    """Return the TLS facts of the one entry with this path, without the connection's id."""
    tls: dict[str, Any] = proxy.api.wait_for(path)["tls"]
    assert tls.pop("connectionId")
    return tls


def named(value: int, name: str) -> dict[str, Any]:
    return {"value": value, "name": name}


def facts(stream: TlsStream, version: ssl.TLSVersion, code: int, name: str) -> dict[str, Any]:
    """Return the TLS facts that a client knows of its own connection."""
    return {
        "tlsVersion": named(version.value, NAMES[version]),
        "cipherSuite": named(code, name),
        **fingerprints(hello_in_records(stream.sent)),
    }


def is_ok(received: bytes) -> bool:
    return received.startswith(b"HTTP/1.1 200 ")


# What was negotiated


@pytest.mark.parametrize(
    ("version", "cipher", "name", "code", "registered"),
    [
        (TLS_1_0, "AES128-SHA", "rsa.test", 0x002F, "TLS_RSA_WITH_AES_128_CBC_SHA"),
        (TLS_1_0, "ECDHE-ECDSA-AES256-SHA", "ecdsa.test", 0xC00A, "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA"),
        (TLS_1_1, "DHE-RSA-AES256-SHA", "rsa.test", 0x0039, "TLS_DHE_RSA_WITH_AES_256_CBC_SHA"),
        (TLS_1_1, "ECDHE-ECDSA-AES128-SHA", "ecdsa.test", 0xC009, "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA"),
        (TLS_1_2, "ECDHE-RSA-AES128-GCM-SHA256", "rsa.test", 0xC02F, "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"),
        (
            TLS_1_2,
            "ECDHE-ECDSA-CHACHA20-POLY1305",
            "ecdsa.test",
            0xCCA9,
            "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        ),
        (TLS_1_3, None, "rsa.test", 0x1302, "TLS_AES_256_GCM_SHA384"),
        (TLS_1_3, None, "ecdsa.test", 0x1302, "TLS_AES_256_GCM_SHA384"),
    ],
)
def test_version_and_suite_are_those_of_the_wire(
    lenient: Proxy,
    tls_origin: Origin,
    version: ssl.TLSVersion,
    cipher: str | None,
    name: str,
    code: int,
    registered: str,
) -> None:
    path = f"/negotiated/{version.name}/{cipher}/{name}"
    tls_origin.answers[path] = answer(b"")
    context = any_context(ciphers=cipher and f"{cipher}:@SECLEVEL=0", version=version)
    stream = TlsStream(dial(lenient.port), context, name)
    assert is_ok(get(stream, path))
    assert tls_of(lenient, path) == facts(stream, version, code, registered)


@pytest.mark.parametrize("version", NAMES)
@pytest.mark.parametrize("name", ["rsa.test", "ecdsa.test"])
def test_every_suite_that_can_be_negotiated_here_has_its_code_point(
    lenient: Proxy, tls_origin: Origin, version: ssl.TLSVersion, name: str
) -> None:
    """Offered alone, one after the other; what OpenSSL says it has agreed to is what the entry says."""
    codes = {suite["name"]: suite["id"] & 0xFFFF for suite in any_context(ciphers=EVERYTHING).get_ciphers()}
    offers = ["ALL"] if version is TLS_1_3 else [suite for suite in codes if not suite.startswith("TLS_")]
    start = f"/suites/{version.name}/{name}/"
    expected: dict[str, int] = {}
    for offer in offers:
        path = start + offer
        tls_origin.answers[path] = answer(b"")
        context = any_context(ciphers=f"{offer}:@SECLEVEL=0", version=version)
        try:
            stream = TlsStream(dial(lenient.port), context, name)
        except (ssl.SSLError, ConnectionError):
            continue
        assert is_ok(get(stream, path))
        agreed = stream.tls.cipher()
        assert agreed is not None
        expected[path] = codes[agreed[0]]
    assert len(expected) >= {TLS_1_0: 3, TLS_1_1: 3, TLS_1_2: 8, TLS_1_3: 1}[version]
    entries = lenient.api.wait(lambda entry: start in entry["url"], count=len(expected))
    assert {entry["request"]["path"]: entry["tls"]["cipherSuite"]["value"] for entry in entries} == expected
    assert all(entry["tls"]["tlsVersion"] == named(version.value, NAMES[version]) for entry in entries)


@pytest.mark.parametrize(
    ("suite", "code"),
    [("TLS_AES_128_GCM_SHA256", 0x1301), ("TLS_AES_256_GCM_SHA384", 0x1302), ("TLS_CHACHA20_POLY1305_SHA256", 0x1303)],
)
def test_the_suites_of_tls_1_3_are_named(proxy: Proxy, tls_origin: Origin, suite: str, code: int) -> None:
    path = f"/tls13/{suite}"
    tls_origin.answers[path] = answer(b"")
    curl(proxy, tls_origin.url(path, "localhost"), "--tls13-ciphers", suite)
    assert tls_of(proxy, path)["cipherSuite"] == named(code, suite)


# Resumption


@pytest.mark.parametrize(
    ("version", "options"), [(TLS_1_2, ssl.Options(0)), (TLS_1_2, ssl.OP_NO_TICKET), (TLS_1_3, ssl.Options(0))]
)
def test_a_resumed_session_is_a_connection_of_its_own(
    proxy: Proxy, tls_origin: Origin, version: ssl.TLSVersion, options: ssl.Options
) -> None:
    """By a ticket, by a session id, by a pre-shared key: version and suite are known although little is negotiated.

    The proxy's OpenSSL does not resume each time: it may have forgotten a session.
    """
    context = any_context(version=version)
    context.options |= options
    start = f"/resumed/{version.name}/{options:x}/"
    streams: list[TlsStream] = []
    while not (streams and streams[-1].tls.session_reused) and len(streams) < 8:
        path = f"{start}{len(streams)}"
        tls_origin.answers[path] = answer(b"")
        session = streams[-1].tls.session if streams else None
        under = tunnel(dial(proxy.port), "localhost", tls_origin.port)
        streams.append(TlsStream(under, context, "localhost", session))
        assert is_ok(get(streams[-1], path))
    first, resumed = streams[0], streams[-1]
    assert not first.tls.session_reused
    assert resumed.tls.session_reused
    entries = [proxy.api.wait_for(f"{start}{number}") for number in (0, len(streams) - 1)]
    assert entries[0]["tls"].pop("connectionId") != entries[1]["tls"].pop("connectionId")
    for entry, stream in zip(entries, (first, resumed), strict=True):
        suite = entry["tls"]["cipherSuite"]
        assert entry["tls"] == facts(stream, version, suite["value"], suite["name"])
    assert entries[0]["tls"]["cipherSuite"] == entries[1]["tls"]["cipherSuite"]
    offers_key = ["0029" in entry["tls"]["ja4"]["raw"] for entry in entries]
    assert offers_key == [False, version is TLS_1_3]


# More than one hello, and hellos in pieces


def saved_hello(flow_file: Path, path: str) -> bytes | None:
    """Return the ClientHello that the flow with this path has saved; null while it is not in the file."""
    with flow_file.open("rb") as file:
        flows = {flow.request.path: flow for flow in FlowReader(file).stream()}  # type: ignore[attr-defined]
    hello: bytes | None = flows[path].metadata["entries"]["client"]["tls"]["client_hello"] if path in flows else None
    return hello


def test_the_first_hello_counts_where_the_server_asks_for_another(
    strict: Proxy, tls_origin: Origin, flow_file: Path
) -> None:
    """HelloRetryRequest: the second has another key share (RFC 8446 section 4.1.4)."""
    tls_origin.answers["/retried"] = answer(b"")
    stream = TlsStream(dial(strict.port), any_context(version=TLS_1_3), "localhost")
    assert is_ok(get(stream, "/retried"))
    first, second = hellos_in_stream(stream.sent)
    assert first != second
    assert tls_of(strict, "/retried") == facts(stream, TLS_1_3, 0x1302, "TLS_AES_256_GCM_SHA384")
    assert eventually(lambda: saved_hello(flow_file, "/retried"), bool) == first


def in_small_pieces(records: bytes) -> list[bytes]:
    """Put the first record's content into records of 300 bytes, and cut each of these in two."""
    size = int.from_bytes(records[3:5])
    content, rest = records[5 : 5 + size], records[5 + size :]
    pieces = [content[at : at + 300] for at in range(0, size, 300)]
    smaller = [records[:3] + len(piece).to_bytes(2) + piece for piece in pieces]
    return [part for record in smaller for part in (record[:100], record[100:])] + ([rest] if rest else [])


def test_a_hello_over_several_records_and_segments_is_read_whole(lenient: Proxy, tls_origin: Origin) -> None:
    """As Chrome's is: with a post-quantum key share (4588, X25519MLKEM768) and a greased ECH extension (fe0d)."""
    tls_origin.answers["/pieces"] = answer(b"")
    with relay(lenient.port, in_small_pieces) as between:
        received = curl_cffi.get(f"https://localhost:{between.port}/pieces", impersonate="chrome", verify=False)
        assert received.status_code == 200
        entry = lenient.api.wait_for("/pieces")
        hello = hello_in_records(between.sent[entry["clientAddr"]["port"]])
    assert len(hello) > 1500
    tls = entry["tls"]
    assert {name: tls[name] for name in ("ja3", "ja4")} == fingerprints(hello)
    assert "4588-" in tls["ja3"]["string"]
    assert "fe0d" in tls["ja4"]["raw"]
    assert tls["tlsVersion"] == named(0x0304, "TLS 1.3")


# What a client leaves out or adds


@pytest.mark.parametrize(
    ("alpn", "end"), [((), "00"), (("http/1.1",), "h1"), (("h2", "http/1.1"), "h2"), (("x",), "xx"), (("~~",), "7e")]
)
@pytest.mark.parametrize("name", ["localhost", None])
def test_server_name_and_protocols_are_as_the_client_sends_them(
    lenient: Proxy, tls_origin: Origin, alpn: tuple[str, ...], end: str, name: str | None
) -> None:
    path = f"/offer/{end}/{name}"
    tls_origin.answers[path] = answer(b"")
    stream = TlsStream(dial(lenient.port), any_context(alpn=alpn), name)
    assert is_ok(get(stream, path))
    tls = tls_of(lenient, path)
    assert tls == facts(stream, TLS_1_3, 0x1302, "TLS_AES_256_GCM_SHA384")
    assert tls["ja4"]["raw"][3] == ("d" if name else "i")
    assert tls["ja4"]["raw"][8:10] == end


@pytest.mark.parametrize("version", [TLS_1_2, TLS_1_3])
def test_a_client_certificate_changes_nothing(
    strict: Proxy, tls_origin: Origin, authority: Authority, version: ssl.TLSVersion
) -> None:
    path = f"/certificate/{version.name}"
    tls_origin.answers[path] = answer(b"")
    context = any_context(version=version)
    context.load_cert_chain(authority.issue("client.test", file="client.pem", key=trustme.KeyType.RSA))
    stream = TlsStream(dial(strict.port), context, "localhost")
    assert is_ok(get(stream, path))
    tls = tls_of(strict, path)
    assert tls == facts(stream, version, tls["cipherSuite"]["value"], tls["cipherSuite"]["name"])


def test_a_saved_flow_replays_to_the_same_identity(
    strict: Proxy, tls_origin: Origin, flow_file: Path, confdir: Path
) -> None:
    tls_origin.answers["/replayed"] = answer(b"")
    assert is_ok(get(TlsStream(dial(strict.port), any_context(), "localhost"), "/replayed"))
    tls = strict.api.wait_for("/replayed")["tls"]
    assert tls["ja3"]
    assert eventually(lambda: saved_hello(flow_file, "/replayed"), bool)
    arguments = ("-n", "-r", str(flow_file), "--set", "keepserving=true")
    with recording(confdir, *arguments, listens=False) as replaying:
        assert replaying.api.wait_for("/replayed")["tls"] == tls


# TLS in TLS, and other ways to the proxy


def https_proxy(proxy: Proxy, **options: Any) -> TlsStream:
    """Speak TLS to the proxy itself, with a hello that no other client here sends."""
    return TlsStream(dial(proxy.port), any_context(version=TLS_1_2, alpn=("http/1.1",), **options), "proxy.test")


@pytest.mark.parametrize("version", [TLS_1_2, TLS_1_3])
def test_inside_a_tunnel_to_an_https_proxy_the_inner_tls_counts(
    proxy: Proxy, tls_origin: Origin, version: ssl.TLSVersion
) -> None:
    path = f"/inner/{version.name}"
    tls_origin.answers[path] = answer(b"")
    outer = https_proxy(proxy)
    tunnelled = tunnel(outer, "localhost", tls_origin.port)
    inner = TlsStream(tunnelled, any_context(version=version, ciphers="ECDHE+CHACHA20"), "localhost")
    assert is_ok(get(inner, path))
    tls = tls_of(proxy, path)
    assert tls == facts(inner, version, tls["cipherSuite"]["value"], tls["cipherSuite"]["name"])
    assert tls["ja4"] != fingerprints(hello_in_records(outer.sent))["ja4"]


def test_a_plain_request_to_an_https_proxy_has_the_tls_of_the_clients_leg(proxy: Proxy, plain_origin: Origin) -> None:
    plain_origin.answers["/outer"] = answer(b"")
    outer = https_proxy(proxy, ciphers="ECDHE-RSA-AES256-GCM-SHA384")
    assert is_ok(get(outer, plain_origin.url("/outer")))
    entry = proxy.api.wait_for("/outer")
    assert entry["url"].startswith("http://")
    assert tls_of(proxy, "/outer") == facts(outer, TLS_1_2, 0xC030, "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384")


def test_a_refused_tunnel_through_an_https_proxy_has_the_tls_of_the_clients_leg(proxy: Proxy) -> None:
    port = free_port()
    outer = https_proxy(proxy, ciphers="ECDHE-RSA-AES256-GCM-SHA384")
    with pytest.raises(ConnectionError):
        tunnel(outer, "localhost", port)
    (entry,) = proxy.api.wait(lambda entry: entry["request"]["method"] == "CONNECT" and f":{port}" in entry["url"])
    entry["tls"].pop("connectionId")
    assert entry["tls"] == facts(outer, TLS_1_2, 0xC030, "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384")


@pytest.fixture(scope="module")
def silent() -> Iterator[socket.socket]:
    """A server that takes datagrams and says nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((HOST, 0))
        server.settimeout(PATIENCE)
        yield server


@pytest.fixture(scope="module")
def modes(confdir: Path, proxy: Proxy, tls_origin: Origin, silent: socket.socket) -> Iterator[Proxy]:
    """A mitmdump that listens in several modes, and passes the connections for one name through."""
    listeners = (
        f"reverse:https://localhost:{tls_origin.port}",
        f"upstream:{proxy.http_url}",
        "socks5",
        f"reverse:dtls://{HOST}:{silent.getsockname()[1]}",
    )
    arguments = [argument for mode in listeners for argument in ("--mode", f"{mode}@{free_port()}")]
    with recording(confdir, "--ssl-insecure", "--ignore-hosts", r"ignored\.test", *arguments) as recorded:
        yield recorded


def port_of(proxy: Proxy, mode: str) -> int:
    """Return the port on which a proxy of several modes listens; `mode` is how its log names the one."""
    return int(proxy.mitmdump.wait_for_line(re.compile(rf"{mode}.*listening at [0-9.]+:(\d+)\.")))


def to_socks(stream: Stream, port: int) -> Stream:
    """Ask for a connection to a port of localhost (RFC 1928 sections 3 and 4)."""
    stream.sendall(b"\x05\x01\x00")
    assert stream.recv(2) == b"\x05\x00"
    stream.sendall(b"\x05\x01\x00\x03" + bytes([len(b"localhost")]) + b"localhost" + port.to_bytes(2))
    assert stream.recv(10)[:2] == b"\x05\x00"
    return stream


def reached(modes: Proxy, mode: str, server: Origin) -> Stream:
    """Return a stream on which TLS with a server can begin, through a proxy in this mode."""
    under: Stream = dial(port_of(modes, mode))
    if mode == "upstream":
        return tunnel(under, "localhost", server.port)
    return to_socks(under, server.port) if mode == "SOCKS" else under


CLIENT_MODES = ("reverse proxy to https", "upstream", "SOCKS")


@pytest.mark.parametrize("mode", CLIENT_MODES)
def test_every_mode_tells_of_the_clients_tls(modes: Proxy, tls_origin: Origin, mode: str) -> None:
    path = f"/mode/{mode.partition(' ')[0]}"
    tls_origin.answers[path] = answer(b"")
    under = reached(modes, mode, tls_origin)
    stream = TlsStream(under, any_context(), "localhost")
    assert is_ok(get(stream, path))
    assert tls_of(modes, path) == facts(stream, TLS_1_3, 0x1302, "TLS_AES_256_GCM_SHA384")


# Connections without an entry


@pytest.fixture
def _leaves_nothing(modes: Proxy, tls_origin: Origin) -> Iterator[None]:
    """After the test, a whole exchange is recorded, and nothing else has been since before it; nothing has failed."""
    before = modes.api.entry_ids()
    yield
    path = f"/sentinel/{len(before)}"
    tls_origin.answers[path] = answer(b"")
    assert is_ok(get(TlsStream(dial(port_of(modes, "reverse proxy to https")), any_context(), "localhost"), path))
    sentinel = modes.api.wait_for(path)
    assert modes.api.entry_ids() == [*before, sentinel["id"]]
    assert "Recording is incomplete" not in modes.mitmdump.output
    assert "has crashed" not in modes.mitmdump.output


@pytest.mark.usefixtures("_leaves_nothing")
@pytest.mark.parametrize("version", [TLS_1_2, TLS_1_3])
@pytest.mark.parametrize("mode", CLIENT_MODES)
def test_a_client_that_distrusts_the_proxy_leaves_no_entry(
    modes: Proxy, tls_origin: Origin, mode: str, version: ssl.TLSVersion
) -> None:
    context = ssl.create_default_context()
    context.minimum_version = context.maximum_version = version
    under = reached(modes, mode, tls_origin)
    with pytest.raises(ssl.SSLCertVerificationError):
        TlsStream(under, context, "localhost")


@pytest.mark.usefixtures("_leaves_nothing")
def test_a_client_with_which_nothing_can_be_agreed_leaves_no_entry(modes: Proxy) -> None:
    context = any_context(version=TLS_1_1, ciphers="ALL:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError):
        TlsStream(dial(port_of(modes, "reverse proxy to https")), context, "localhost")


@pytest.mark.usefixtures("_leaves_nothing")
def test_a_connection_that_is_passed_through_leaves_no_entry(
    modes: Proxy, tls_origin: Origin, authority: Authority
) -> None:
    tls_origin.answers["/ignored"] = answer(b"")
    context = ssl.create_default_context(cafile=authority.ca)  # trusts the server alone
    context.check_hostname = False
    stream = TlsStream(dial(port_of(modes, "reverse proxy to https")), context, "ignored.test")
    assert is_ok(get(stream, "/ignored"))


MALFORMED = {
    "cut off by its own account": b"\x01\x00\x00\x05\x03\x03abc",
    "with lengths that contradict each other": b"\x01\x00\x00\x26\x03\x03" + bytes(32) + b"\xff\x00\x00\x00",
    "of another type": b"\x02\x00\x00\x26\x03\x03" + bytes(32) + b"\x00\x00\x00\x00",
    "without suites": b"\x01\x00\x00\x28\x03\x03" + bytes(32) + b"\x00\x00\x00\x01\x00\x00",
    "empty": b"\x01\x00\x00\x00",
}


@pytest.mark.usefixtures("_leaves_nothing")
@pytest.mark.parametrize("hello", MALFORMED)
def test_a_malformed_hello_leaves_no_entry(modes: Proxy, hello: str) -> None:
    message = MALFORMED[hello]
    with dial(port_of(modes, "reverse proxy to https")) as client:
        client.sendall(b"\x16\x03\x01" + len(message).to_bytes(2) + message)
        with suppress(ConnectionError):
            while client.recv(4096):
                pass


@pytest.mark.usefixtures("_leaves_nothing")
def test_hellos_of_many_clients_that_go_no_further_leave_no_entry(modes: Proxy) -> None:
    """Those of the published vectors, in records of their own length and in tiny ones."""
    port = port_of(modes, "reverse proxy to https")
    for number, hello in enumerate(PUBLISHED):
        size = len(hello) if number % 2 else 700
        pieces = [hello[at : at + size] for at in range(0, len(hello), size)]
        with dial(port) as client, suppress(OSError):
            client.settimeout(2)  # mitmproxy does not answer one of them, which offers a protocol without a name
            client.sendall(b"".join(b"\x16\x03\x01" + len(piece).to_bytes(2) + piece for piece in pieces))
            client.recv(1)  # the answer, an alert or the end


@pytest.mark.usefixtures("_leaves_nothing")
def test_dtls_leaves_no_entry(modes: Proxy, silent: socket.socket) -> None:
    client = SSL.Connection(SSL.Context(SSL.DTLS_METHOD))
    client.set_connect_state()
    with pytest.raises(SSL.WantReadError):
        client.do_handshake()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect((HOST, port_of(modes, "reverse proxy to dtls")))
        sender.send(b"\x16\xfe\xfd" + client.bio_read(4096)[3:])  # mitmproxy knows DTLS by these three bytes
        assert silent.recv(4096)  # the proxy has read the hello, and begins with the server


# Connections that are older than the recording

RELOADED = """
from addon.entries import Entries

addons = [Entries()]
"""


def test_tls_that_was_there_before_the_recording_is_known_but_for_its_hello(
    confdir: Path, trusting: tuple[str, ...], tls_origin: Origin, tmp_path: Path
) -> None:
    """As when the script is reloaded: mitmproxy tells of a hello once."""
    tls_origin.answers["/old"] = answer(b"")
    script = tmp_path / "script.py"
    script.write_text(RELOADED)
    arguments = ("-s", str(script), *with_script(confdir)[2:], *trusting)
    with running(*arguments) as mitmdump:
        mitmdump.wait_for_line(ENDPOINT)
        under = tunnel(dial(int(mitmdump.wait_for_line(LISTENING))), "localhost", tls_origin.port)
        stream = TlsStream(under, any_context(), "localhost")
        script.touch()
        _, again = eventually(lambda: list(filter(ENDPOINT.search, mitmdump.lines)), lambda lines: len(lines) == 2)
        assert is_ok(get(stream, "/old"))
        with Api(again.removeprefix("Entries endpoint: ")) as api:
            tls = api.wait_for("/old")["tls"]
    assert tls.pop("connectionId")
    assert tls == {
        "tlsVersion": named(0x0304, "TLS 1.3"),
        "cipherSuite": named(0x1302, "TLS_AES_256_GCM_SHA384"),
        "ja3": None,
        "ja4": None,
    }
