"""JA3 and JA4 against published fingerprints, against their specifications, and against bytes that are no ClientHello.

`client_hellos.json` holds 118 ClientHellos with their fingerprints, each value backed by two independent
implementations. 95 are taken from the test data of FoxIO-LLC/ja4 (JA4: BSD-3-Clause), arkime/arkime and
gchq/CyberChef (both Apache-2.0) and plabayo/rama (MIT or Apache-2.0); a vector's `source` names the file. 23 were
constructed for rules that no public capture covers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from hashlib import md5, sha256
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from OpenSSL import SSL

from rpc import fingerprints as module
from rpc.fingerprints import (
    GREASE,
    ClientHello,
    Ja3,
    Ja4,
    MalformedHelloError,
    Transport,
    cached_fingerprints,
    fingerprints,
    ja3,
    ja4,
    parse,
)
from tests.peers import hellos

VECTORS: list[dict[str, Any]] = json.loads(Path(__file__).with_name("client_hellos.json").read_text())
CHROME = next(bytes.fromhex(v["client_hello_hex"]) for v in VECTORS if v["name"] == "foxio-tls-handshake-f0001")

TRANSPORTS: tuple[Transport, ...] = ("tcp", "quic", "dtls")

SNI, GROUPS, FORMATS, ALGORITHMS, ALPN, VERSIONS, KEY_SHARE = 0, 10, 11, 13, 16, 43, 51

WIDTHS = {GROUPS: (2, 2), FORMATS: (1, 1), ALGORITHMS: (2, 2), VERSIONS: (1, 2)}
"""The extensions that are a list of numbers: bytes of the list's length, bytes of a number."""

type Extensions = Sequence[tuple[int, bytes]]


def vector(width: int, content: bytes) -> bytes:
    return len(content).to_bytes(width) + content


def numbers(values: Iterable[int], width: int = 2) -> bytes:
    return b"".join(value.to_bytes(width) for value in values)


def number_list(extension: int, *values: int) -> tuple[int, bytes]:
    length_width, width = WIDTHS[extension]
    return extension, vector(length_width, numbers(values, width))


def alpn(*names: bytes) -> tuple[int, bytes]:
    return ALPN, vector(2, b"".join(vector(1, name) for name in names))


def message(body: bytes, transport: Transport = "tcp") -> bytes:
    length = len(body).to_bytes(3)
    fragment = bytes(5) + length if transport == "dtls" else b""
    return b"\x01" + length + fragment + body


def hello(
    extensions: Extensions | None = (),
    suites: Iterable[int] = (0x1301,),
    version: int = 0x0303,
    transport: Transport = "tcp",
) -> bytes:
    """A ClientHello made of its parts; without a block of extensions if they are None."""
    block = b"" if extensions is None else vector(2, b"".join(numbers([t]) + vector(2, b) for t, b in extensions))
    cookie = vector(1, b"cookie") if transport == "dtls" else b""
    start = version.to_bytes(2) + bytes(range(32)) + vector(1, b"session") + cookie
    return message(start + vector(2, numbers(suites)) + vector(1, b"\x00") + block, transport)


def as_id(value: object) -> str | None:
    return f"{len(value)} bytes" if isinstance(value, bytes) else None


def short_hash(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:12]


# Published fingerprints


def test_the_vectors_are_all_there() -> None:
    assert len(VECTORS) == len({vector["name"] for vector in VECTORS}) == 118


@pytest.mark.parametrize("expected", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_fingerprints_are_the_published_ones(expected: dict[str, Any]) -> None:
    data, transport = bytes.fromhex(expected["client_hello_hex"]), expected["transport"]
    found = Ja3(expected["ja3_string"], expected["ja3_hash"]), Ja4(expected["ja4_raw"], expected["ja4"])
    assert fingerprints(data, transport) == found
    assert (ja3(data), ja4(data, transport)) == found
    assert cached_fingerprints(data, transport) == found


@pytest.mark.parametrize("expected", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_the_first_protocol_is_the_published_one(expected: dict[str, Any]) -> None:
    assert parse(bytes.fromhex(expected["client_hello_hex"])).alpn.hex() == (expected["alpn_first_hex"] or "")


def test_the_specifications_own_example() -> None:
    """The lists of JA4.md, in its order, give its JA4 and its JA4_r."""
    suites = "1301,1302,1303,c02b,c02f,c02c,c030,cca9,cca8,c013,c014,009c,009d,002f,0035"
    types = "001b,0000,0033,0010,4469,0017,002d,000d,0005,0023,0012,002b,ff01,000b,000a,0015"
    algorithms = (0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601)
    filled = dict(
        [
            alpn(b"h2", b"http/1.1"),
            number_list(ALGORITHMS, *algorithms),
            number_list(VERSIONS, 0x0304, 0x0303),
            number_list(FORMATS, 0),
            number_list(GROUPS, 29),
        ]
    )
    extensions = [(int(t, 16), filled.get(int(t, 16), b"")) for t in types.split(",")]
    found = ja4(hello(extensions, [int(suite, 16) for suite in suites.split(",")]))
    assert found.hashed == "t13d1516h2_8daaf6152771_e5627efa2ab1"
    assert found.raw == (
        "t13d1516h2_002f,0035,009c,009d,1301,1302,1303,c013,c014,c02b,c02c,c02f,c030,cca8,cca9"
        "_0005,000a,000b,000d,0012,0015,0017,001b,0023,002b,002d,0033,4469,ff01"
        "_0403,0804,0401,0503,0805,0501,0806,0601"
    )


# JA4, its first part


@pytest.mark.parametrize(("transport", "letter"), [("tcp", "t"), ("quic", "q"), ("dtls", "d")])
def test_ja4_begins_with_the_transport(transport: Transport, letter: str) -> None:
    assert ja4(hello(transport=transport), transport).raw[0] == letter


@pytest.mark.parametrize(
    ("version", "text"),
    [
        (0x0304, "13"),
        (0x0303, "12"),
        (0x0302, "11"),
        (0x0301, "10"),
        (0x0300, "s3"),
        (0x0002, "s2"),
        (0xFEFF, "d1"),
        (0xFEFD, "d2"),
        (0xFEFC, "d3"),
        (0xFEFE, "00"),
        (0x0305, "00"),
        (0x0200, "00"),
        (0x0100, "00"),
        (0x0A0A, "00"),
        (0x7F1C, "00"),
    ],
)
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_ja4_has_the_version_of_the_table(transport: Transport, version: int, text: str) -> None:
    assert ja4(hello(version=version, transport=transport), transport).raw[1:3] == text
    versions = [number_list(VERSIONS, version)]
    if version not in GREASE:
        assert ja4(hello(versions, transport=transport), transport).raw[1:3] == text


@pytest.mark.parametrize(
    ("versions", "text"),
    [
        ((0x0302, 0x0304, 0x0303), "13"),  # the highest, not the first
        ((0xFAFA, 0x0303), "12"),  # GREASE is higher than all
        ((0x0302,), "11"),  # legacy_version is higher, but does not count
        ((0x7F1C, 0x0304), "00"),  # a draft of TLS 1.3: higher, and not in the table
        ((0x0A1A, 0x0304), "00"),  # looks like GREASE
        ((0xFEFC, 0xFEFD), "d2"),  # numerically; DTLS counts downwards
        ((), "12"),  # no version named: legacy_version
        ((0x0A0A, 0xFAFA), "12"),
    ],
)
def test_ja4_takes_the_numerically_highest_supported_version(versions: tuple[int, ...], text: str) -> None:
    assert ja4(hello([number_list(VERSIONS, *versions)], version=0x0303)).raw[1:3] == text


@pytest.mark.parametrize("content", [b"", b"\x00\x00", b"\xff" * 7, b"\x00\x0c\x00\x00\x09localhost"])
def test_ja4_has_d_for_any_server_name_extension(content: bytes) -> None:
    assert ja4(hello([(SNI, content)])).raw[3] == "d"
    assert ja4(hello([(KEY_SHARE, content)])).raw[3] == "i"


@pytest.mark.parametrize(("count", "text"), [(0, "00"), (1, "01"), (98, "98"), (99, "99"), (100, "99"), (1000, "99")])
def test_ja4_counts_to_99_but_lists_everything(count: int, text: str) -> None:
    values = range(0x1000, 0x1000 + count)
    found = ja4(hello([(value, b"") for value in values], values))
    listed = ",".join(f"{value:04x}" for value in values)
    assert found.raw == f"t12i{text}{text}00_{listed}_{listed}"
    part = short_hash(listed) if count else "000000000000"
    assert found.hashed == f"t12i{text}{text}00_{part}_{part}"


def test_ja4_counts_signalling_and_private_suites() -> None:
    assert ja4(hello(suites=[0x00FF, 0x5600, 0xFE00, 0xFEFF])).raw == "t12i040000_00ff,5600,fe00,feff_"


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ((), "00"),
        ((b"", b"h2"), "00"),
        ((b"h2", b""), "h2"),
        ((b"http/1.1", b"h2"), "h1"),
        ((b"H2",), "H2"),
        ((b"a",), "aa"),
        ((b"0",), "00"),
        ((b"Zz",), "Zz"),
        ((b"h\xff2",), "h2"),
        ((b"\xab",), "ab"),
        ((b" ",), "20"),
        ((b"\x00",), "00"),
        ((b"\xab\xcd",), "ad"),
        ((b" a",), "21"),
        ((b"0\xab",), "3b"),
        ((b"a ",), "60"),
        ((b"01\xab\xcd",), "3d"),
        ((b"0\xab\xcd1",), "01"),
        ((b"/h2",), "22"),  # beside the digits and letters: 2f 68 32, 68 3a, 40 68, 68 5b, 60 68, 68 7b
        ((b"h:",), "6a"),
        ((b"@h",), "48"),
        ((b"h[",), "6b"),
        ((b"`h",), "68"),
        ((b"h{",), "6b"),
        (("é".encode(),), "c9"),
        ((b"\x0a\x0a", b"h2"), "0a"),  # GREASE of RFC 8701, which the specification drops from numbers only
        ((b"ZZ", b"h2"), "ZZ"),
        ((b"x" * 255,), "xx"),
    ],
)
def test_ja4_has_the_ends_of_the_first_protocol(names: tuple[bytes, ...], text: str) -> None:
    assert ja4(hello([alpn(*names)])).raw[8:10] == text


def test_ja4_has_00_without_protocols() -> None:
    assert ja4(hello([])).raw[8:10] == ja4(hello(None)).raw[8:10] == "00"


# JA4, its second and third part


def test_ja4_sorts_suites_and_keeps_duplicates() -> None:
    found = ja4(hello(suites=[0xC02F, 0x1301, 0x002F, 0x1301]))
    assert found.raw == "t12i040000_002f,1301,1301,c02f_"
    assert found.hashed == f"t12i040000_{short_hash('002f,1301,1301,c02f')}_000000000000"


def test_ja4_says_so_where_a_list_is_empty() -> None:
    assert ja4(hello(None, suites=[])) == Ja4("t12i000000__", "t12i000000_000000000000_000000000000")
    assert ja4(hello([], suites=[0x0A0A])) == Ja4("t12i000000__", "t12i000000_000000000000_000000000000")


def test_ja4_lists_neither_server_name_nor_protocols() -> None:
    found = ja4(hello([alpn(b"h2"), (KEY_SHARE, b""), (SNI, b""), (5, b"")]))
    assert found.raw == "t12d0104h2_1301_0005,0033"
    assert ja4(hello([alpn(b"h2"), (SNI, b"")])) == Ja4(
        "t12d0102h2_1301_", f"t12d0102h2_{short_hash('1301')}_000000000000"
    )


def test_ja4_keeps_signature_algorithms_in_wire_order_with_duplicates() -> None:
    found = ja4(hello([number_list(ALGORITHMS, 0x0804, 0x0403, 0xDADA, 0x0804, 0x0A1A), (5, b"")]))
    assert found.raw == "t12i010200_1301_0005,000d_0804,0403,0804,0a1a"
    assert found.hashed.endswith(short_hash("0005,000d_0804,0403,0804,0a1a"))


@pytest.mark.parametrize("algorithms", [(), (0x0A0A,), (0xFAFA, 0x1A1A)])
def test_ja4_has_no_underscore_without_signature_algorithms(algorithms: tuple[int, ...]) -> None:
    assert ja4(hello([number_list(ALGORITHMS, *algorithms)])).raw == "t12i010100_1301_000d"
    assert ja4(hello([(5, b"")])).raw == "t12i010100_1301_0005"


def test_ja4_does_not_take_signature_algorithms_of_other_extensions() -> None:
    """Those for certificates (50) and for delegated credentials (34) have the same form."""
    _, content = number_list(ALGORITHMS, 0x0403)
    assert ja4(hello([(50, content), (34, content)])).raw == "t12i010200_1301_0022,0032"


# JA3


@pytest.mark.parametrize(
    ("client_hello", "text"),
    [
        (hello(None, [4, 5], 0x0301), "769,4-5,,,"),
        (hello([], [4, 5], 0x0301), "769,4-5,,,"),
        (hello([], []), "771,,,,"),
        (hello([], [0x0A0A]), "771,,,,"),
        (hello([number_list(VERSIONS, 0x0304)]), "771,4865,43,,"),
        (hello([], version=0x0304), "772,4865,,,"),
        (hello([(0x1A1A, b"\x00"), (SNI, b""), alpn(b"h2"), (0xEAEA, b"")]), "771,4865,0-16,,"),
        (hello([number_list(GROUPS, 29, 0x2A2A, 4588, 0x2A3A)]), "771,4865,10,29-4588-10810,"),
        (hello([number_list(FORMATS, 2, 0, 1)]), "771,4865,11,,2-0-1"),
        (hello([number_list(FORMATS, 0x0A, 0xFA)]), "771,4865,11,,10-250"),  # GREASE has 16 bits
        (hello([number_list(FORMATS), number_list(GROUPS)]), "771,4865,11-10,,"),
        (hello([(65281, b"\x00"), (SNI, b"")], [0xC02F, 0x00FF, 0xC02F]), "771,49199-255-49199,65281-0,,"),
    ],
    ids=as_id,
)
def test_ja3_lists_decimals_in_wire_order(client_hello: bytes, text: str) -> None:
    assert ja3(client_hello) == Ja3(text, md5(text.encode()).hexdigest())


def test_ja3_of_dtls_steps_over_header_and_cookie() -> None:
    assert ja3(hello([number_list(GROUPS, 29)], version=0xFEFD, transport="dtls"), "dtls").string == "65277,4865,10,29,"


def test_a_dtls_message_of_openssl_is_read() -> None:
    """The first datagram: a record header of 13 bytes (RFC 6347, section 4.1), then the message in one fragment."""
    client = SSL.Connection(SSL.Context(SSL.DTLS_METHOD))
    client.set_tlsext_host_name(b"example.test")
    client.set_connect_state()
    with pytest.raises(SSL.WantReadError):
        client.do_handshake()
    datagram = client.bio_read(4096)
    first, second = fingerprints(datagram[13:], "dtls")
    assert first.string.startswith("65277,")
    assert second.raw.startswith("dd2d")


# Extensions that appear twice or are not read


def test_every_extension_of_a_type_is_listed_and_the_first_is_read() -> None:
    pairs = [
        number_list(ALGORITHMS, 0x0403),
        number_list(GROUPS, 29),
        number_list(VERSIONS, 0x0303),
        alpn(b"h2"),
        (SNI, b""),
        number_list(ALGORITHMS, 0x0804),
        number_list(GROUPS, 23),
        number_list(VERSIONS, 0x0304),
        alpn(b"x1"),
        (SNI, b""),
    ]
    first, second = fingerprints(hello(pairs))
    assert first.string == "771,4865,13-10-43-16-0-13-10-43-16-0,29,"
    assert second.raw == "t12d0110h2_1301_000a,000a,000d,000d,002b,002b_0403"


@pytest.mark.parametrize("extension", [ALGORITHMS, GROUPS, FORMATS, VERSIONS, ALPN])
def test_the_second_extension_of_a_type_is_not_looked_into(extension: int) -> None:
    parse(
        hello([(extension, b"\x00\x00" if extension in {ALGORITHMS, GROUPS, ALPN} else b"\x00"), (extension, b"\xff")])
    )


@pytest.mark.parametrize("extension", [SNI, 1, 5, 21, 27, 35, 41, 44, 45, 50, KEY_SHARE, 57, 0x0A0A, 0xFE0D, 0xFF01])
@pytest.mark.parametrize("content", [b"", b"\xff", b"\xff\xff\x00"])
def test_an_extension_that_is_not_needed_is_not_looked_into(extension: int, content: bytes) -> None:
    expected = () if extension in GREASE else (extension,)
    assert parse(hello([(extension, content)])).extensions == expected


def test_the_other_protocols_are_not_looked_into() -> None:
    assert parse(hello([(ALPN, vector(2, vector(1, b"h2") + b"\xff"))])).alpn == b"h2"


# Bytes that are no ClientHello

PREFIX = bytes.fromhex("0303") + bytes(32)
"""legacy_version and random: offsets 4 to 38 of the message."""


@pytest.mark.parametrize(
    ("data", "field", "offset", "problem"),
    [
        (b"", "handshake header", 0, "4 bytes expected, 0 left"),
        (b"\x01\x00\x00", "handshake header", 0, "4 bytes expected, 3 left"),
        (b"\x02" + hello()[1:], "handshake type", 0, "2 is not 1, a ClientHello"),
        (b"\x16\x03\x01\x02\x00" + hello(), "handshake type", 0, "22 is not 1, a ClientHello"),
        # SSL 2.0's CLIENT-HELLO: version, lengths of specs, id and challenge (RFC 5246, appendix E.2)
        (
            bytes.fromhex("010301000300000010000035") + bytes(16),
            "handshake length",
            1,
            "196864 bytes announced, 24 there",
        ),
        (bytes.fromhex("801c010301000300000010000035") + bytes(16), "handshake type", 0, "128 is not 1, a ClientHello"),
        (hello() + b"\x00", "handshake length", 1, "50 bytes announced, 51 there"),
        (hello() + bytes(8), "handshake length", 1, "50 bytes announced, 58 there"),
        (hello()[:-1], "handshake length", 1, "50 bytes announced, 49 there"),
        (hello()[4:], "handshake type", 0, "3 is not 1, a ClientHello"),
        (message(b""), "legacy_version", 4, "2 bytes expected, 0 left"),
        (message(b"\x03"), "legacy_version", 4, "2 bytes expected, 1 left"),
        (message(PREFIX[:-1]), "random", 6, "32 bytes expected, 31 left"),
        (message(PREFIX), "session_id", 38, "1 bytes of length expected, 0 left"),
        (message(PREFIX + b"\x01"), "session_id", 38, "1 bytes announced, 0 left"),
        (message(PREFIX + b"\x00\x00"), "cipher_suites", 39, "2 bytes of length expected, 1 left"),
        (message(PREFIX + b"\x00\x00\x04\x00\x01"), "cipher_suites", 39, "4 bytes announced, 2 left"),
        (message(PREFIX + b"\x00\x00\x00"), "compression_methods", 41, "1 bytes of length expected, 0 left"),
        (message(PREFIX + b"\x00\x00\x00\x02\x00"), "compression_methods", 41, "2 bytes announced, 1 left"),
        (
            message(PREFIX + b"\x00\x00\x03abc\x01\x00"),
            "cipher_suites",
            41,
            "3 bytes hold no whole number of 16-bit values",
        ),
        (message(PREFIX + b"\x00\x00\x00\x01\x00" + b"\x00"), "extensions", 43, "2 bytes of length expected, 1 left"),
        (message(PREFIX + b"\x00\x00\x00\x01\x00" + b"\x00\x01"), "extensions", 43, "1 bytes announced, 0 left"),
        (message(PREFIX + b"\x00\x00\x00\x01\x00" + b"\x00\x00!"), "extensions", 45, "1 bytes too many"),
        (
            message(PREFIX + b"\x00\x00\x00\x01\x00" + vector(2, b"\x00\x05\x00")),
            "extension header",
            45,
            "4 bytes expected, 3 left",
        ),
        (
            message(PREFIX + b"\x00\x00\x00\x01\x00" + vector(2, b"\x00\x05\x00\x01")),
            "extension 5",
            49,
            "1 bytes announced, 0 left",
        ),
    ],
    ids=as_id,
)
def test_a_malformed_message_is_refused_with_the_place(data: bytes, field: str, offset: int, problem: str) -> None:
    with pytest.raises(MalformedHelloError) as caught:
        parse(data)
    assert (caught.value.field, caught.value.offset, caught.value.problem) == (field, offset, problem)


@pytest.mark.parametrize(
    ("extension", "content", "field", "offset", "problem"),
    [
        (GROUPS, b"", "supported_groups", 58, "2 bytes of length expected, 0 left"),
        (GROUPS, b"\x00\x03abc", "supported_groups", 60, "3 bytes hold no whole number of 16-bit values"),
        (GROUPS, b"\x00\x04\x00\x1d", "supported_groups", 58, "4 bytes announced, 2 left"),
        (GROUPS, b"\x00\x02\x00\x1d!", "supported_groups", 62, "1 bytes too many"),
        (FORMATS, b"", "ec_point_formats", 58, "1 bytes of length expected, 0 left"),
        (FORMATS, b"\x02\x00", "ec_point_formats", 58, "2 bytes announced, 1 left"),
        (FORMATS, b"\x01\x00!", "ec_point_formats", 60, "1 bytes too many"),
        (ALGORITHMS, b"\x00", "signature_algorithms", 58, "2 bytes of length expected, 1 left"),
        (ALGORITHMS, b"\x00\x01a", "signature_algorithms", 60, "1 bytes hold no whole number of 16-bit values"),
        (ALGORITHMS, b"\x00\x04\x04\x03", "signature_algorithms", 58, "4 bytes announced, 2 left"),
        (VERSIONS, b"", "supported_versions", 58, "1 bytes of length expected, 0 left"),
        (VERSIONS, b"\x03\x03\x04", "supported_versions", 58, "3 bytes announced, 2 left"),
        (VERSIONS, b"\x03abc", "supported_versions", 59, "3 bytes hold no whole number of 16-bit values"),
        (ALPN, b"", "application_layer_protocol_negotiation", 58, "2 bytes of length expected, 0 left"),
        (ALPN, b"\x00\x03\x02h", "application_layer_protocol_negotiation", 58, "3 bytes announced, 2 left"),
        (ALPN, b"\x00\x02\x02h", "application_layer_protocol_negotiation", 60, "2 bytes announced, 1 left"),
        (ALPN, b"\x00\x03\x02h2!", "application_layer_protocol_negotiation", 63, "1 bytes too many"),
    ],
    ids=as_id,
)
def test_a_malformed_extension_that_is_read_is_refused_with_the_place(
    extension: int, content: bytes, field: str, offset: int, problem: str
) -> None:
    with pytest.raises(MalformedHelloError) as caught:
        parse(hello([(extension, content)]))
    assert (caught.value.field, caught.value.offset, caught.value.problem) == (field, offset, problem)


def test_the_error_is_a_value_error_that_reads_well() -> None:
    with pytest.raises(ValueError, match=r"^supported_versions at offset 58: 3 bytes announced, 2 left$"):
        fingerprints(hello([(VERSIONS, b"\x03\x03\x04")]))


@pytest.mark.parametrize(
    "header",
    [
        "000000 0000 000000 0000",
        "000033 0000 000000 000033",  # of another length
        "000032 0000 000001 000032",  # a fragment that does not begin at the beginning
        "000032 0000 000000 000031",  # or ends before the end
    ],
)
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_dtls_header_of_anything_but_one_whole_fragment_is_refused(header: str, transport: Transport) -> None:
    with pytest.raises(MalformedHelloError) as caught:
        parse(b"\x01" + bytes.fromhex(header) + hello(transport="dtls")[12:], transport)
    assert caught.value.field == "handshake length"


def test_a_dtls_header_is_known_by_its_lengths() -> None:
    """JA3 has no transport: a caller need not say what carried the message."""
    data = hello([number_list(GROUPS, 29)], version=0xFEFD, transport="dtls")
    assert ja3(data) == ja3(data, "dtls")
    assert parse(data) == parse(data, "dtls")


@pytest.mark.parametrize("cookie", [b"", b"cookie", bytes(255)])
def test_a_dtls_message_with_the_short_header_is_read_with_its_cookie(cookie: bytes) -> None:
    """The form that DTLS 1.3 hashes (RFC 9147, section 5.2)."""
    start = b"\xfe\xfd" + bytes(32) + vector(1, b"") + vector(1, cookie)
    data = message(start + vector(2, numbers([0x1301, 0x1302])) + vector(1, b"\x00"))
    assert ja4(data, "dtls").raw == "dd2i020000_1301,1302_"


@pytest.mark.parametrize("expected", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_a_message_without_a_cookie_differs_over_dtls_in_its_first_letter_alone(expected: dict[str, Any]) -> None:
    data = bytes.fromhex(expected["client_hello_hex"])
    assert ja4(data, "dtls") == Ja4("d" + expected["ja4_raw"][1:], "d" + expected["ja4"][1:])


def test_the_sequence_number_of_a_dtls_message_does_not_matter() -> None:
    data = bytearray(hello(transport="dtls", version=0xFEFD))
    data[4:6] = b"\x00\x01"
    assert ja4(bytes(data), "dtls").raw == "dd2i010000_1301_"


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_message_that_is_cut_off_anywhere_is_refused(transport: Transport) -> None:
    data = CHROME if transport != "dtls" else hello([number_list(GROUPS, 29)], transport="dtls")
    parse(data, transport)
    for size in range(len(data)):
        with pytest.raises(MalformedHelloError):
            parse(data[:size], transport)


def test_a_message_that_ends_early_by_its_own_account_is_refused_anywhere_but_before_the_extensions() -> None:
    whole = hello(None, [0x1301, 0x1302])
    data = hello([number_list(GROUPS, 29), (SNI, b""), alpn(b"h2")], [0x1301, 0x1302])
    for size in range(len(data) - 4):
        cut = message(data[4 : 4 + size])
        if cut == whole:
            assert parse(cut).extensions == ()
            continue
        with pytest.raises(MalformedHelloError):
            parse(cut)


# The cache


def test_an_answer_is_remembered() -> None:
    data = hello([(5, b"an answer is remembered")])
    assert cached_fingerprints(data) is cached_fingerprints(bytes(bytearray(data)))


def test_the_cache_tells_transports_apart() -> None:
    first, second = cached_fingerprints(hello(), "tcp"), cached_fingerprints(hello(), "quic")
    assert first
    assert second
    assert (first[1].raw[0], second[1].raw[0]) == ("t", "q")


def test_malformed_bytes_are_remembered_as_none() -> None:
    data = hello() + b"malformed bytes are remembered"
    assert cached_fingerprints(data) is None
    hits = module._remembered.cache_info().hits
    assert cached_fingerprints(data) is None
    assert module._remembered.cache_info().hits == hits + 1


def test_a_very_long_message_is_answered_but_not_remembered() -> None:
    data = hello([(21, bytes(module.MAX_CACHED_BYTES))])
    before = module._remembered.cache_info()
    assert cached_fingerprints(data) == fingerprints(data)
    assert module._remembered.cache_info() == before


def test_the_cache_is_bounded() -> None:
    assert module._remembered.cache_info().maxsize == module.CACHE_ENTRIES


# Properties


class Parts(NamedTuple):
    """What a generated ClientHello is made of."""

    version: int
    suites: list[int]
    lists: dict[int, list[int]]
    protocols: list[bytes] | None
    others: dict[int, bytes]

    def extensions(self) -> list[tuple[int, bytes]]:
        known = [number_list(extension, *values) for extension, values in self.lists.items()]
        protocols = [] if self.protocols is None else [alpn(*self.protocols)]
        return known + protocols + list(self.others.items())


uint16s = st.integers(0, 0xFFFF) | st.sampled_from(sorted(GREASE))
other_types = uint16s.filter(lambda extension: extension not in WIDTHS and extension != ALPN)

parts = st.builds(
    Parts,
    version=uint16s,
    suites=st.lists(uint16s, max_size=120),
    lists=st.fixed_dictionaries(
        {},
        optional={
            FORMATS: st.lists(st.integers(0, 0xFF), max_size=8),
            GROUPS: st.lists(uint16s, max_size=8),
            ALGORITHMS: st.lists(uint16s, max_size=12),
            VERSIONS: st.lists(uint16s, max_size=6),
        },
    ),
    protocols=st.none() | st.lists(st.binary(max_size=12), max_size=4),
    others=st.dictionaries(other_types, st.binary(max_size=16), max_size=12),
)

transports = st.sampled_from(TRANSPORTS)

relaxed = settings(deadline=None)
"""The machine that runs the tests may be busy."""


def without_grease(values: Iterable[int]) -> tuple[int, ...]:
    return tuple(value for value in values if not (value & 0x0F0F == 0x0A0A and value >> 8 == value & 0xFF))


@relaxed
@given(parts, transports, st.data())
def test_a_message_reads_back_as_the_parts_it_was_built_of(
    made: Parts, transport: Transport, data: st.DataObject
) -> None:
    extensions = data.draw(st.permutations(made.extensions()))
    read = parse(hello(extensions, made.suites, made.version, transport), transport)
    assert read == ClientHello(
        legacy_version=made.version,
        cipher_suites=without_grease(made.suites),
        extensions=without_grease(extension for extension, _ in extensions),
        supported_versions=without_grease(made.lists.get(VERSIONS, [])),
        supported_groups=without_grease(made.lists.get(GROUPS, [])),
        point_formats=tuple(made.lists.get(FORMATS, [])),
        signature_algorithms=without_grease(made.lists.get(ALGORITHMS, [])),
        alpn=(made.protocols or [b""])[0],
    )


@relaxed
@given(parts, st.data())
def test_grease_anywhere_changes_neither_fingerprint(made: Parts, data: st.DataObject) -> None:
    grease = st.sampled_from(sorted(GREASE))

    def greased(values: list[int]) -> list[int]:
        at = data.draw(st.integers(0, len(values)))
        return values[:at] + data.draw(st.lists(grease, min_size=1, max_size=3)) + values[at:]

    lists = {extension: values if extension == FORMATS else greased(values) for extension, values in made.lists.items()}
    extensions = made._replace(lists=lists).extensions()
    at = data.draw(st.integers(0, len(extensions)))
    extensions.insert(at, (data.draw(grease), data.draw(st.binary(max_size=4))))
    plain = hello(made.extensions(), made.suites, made.version)
    assert fingerprints(hello(extensions, greased(made.suites), made.version)) == fingerprints(plain)


@relaxed
@given(parts, st.data())
def test_the_order_of_extensions_changes_ja3_but_not_ja4(made: Parts, data: st.DataObject) -> None:
    extensions = made.extensions()
    shuffled = data.draw(st.permutations(extensions))
    assume(without_grease(t for t, _ in shuffled) != without_grease(t for t, _ in extensions))
    first = fingerprints(hello(extensions, made.suites, made.version))
    second = fingerprints(hello(shuffled, made.suites, made.version))
    assert second[1] == first[1]
    assert second[0] != first[0]


@relaxed
@given(parts, st.data())
def test_the_order_of_suites_changes_ja3_but_not_ja4(made: Parts, data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(made.suites))
    assume(without_grease(shuffled) != without_grease(made.suites))
    first, second = fingerprints(hello([], made.suites)), fingerprints(hello([], shuffled))
    assert second[1] == first[1]
    assert second[0] != first[0]


JA3_FORM = re.compile(r"\d+(,(\d+(-\d+)*)?){4}")
JA4_FORM = re.compile(r"[tqd](1[0-3]|s[23]|d[123]|00)[di]\d{4}[0-9A-Za-z]{2}_[0-9a-f]{12}_[0-9a-f]{12}")


def answer(data: bytes, transport: Transport) -> tuple[Ja3, Ja4] | MalformedHelloError:
    try:
        return fingerprints(data, transport)
    except MalformedHelloError as error:
        return error


def reads_or_refuses(data: bytes, transport: Transport) -> bool:
    """Whether there is a well-formed answer, or the one error with a place within the bytes."""
    found = answer(data, transport)
    if isinstance(found, MalformedHelloError):
        return 0 <= found.offset <= len(data)
    return bool(JA3_FORM.fullmatch(found[0].string) and JA4_FORM.fullmatch(found[1].hashed))


@relaxed
@given(st.binary(max_size=200), transports)
def test_any_bytes_are_read_or_refused(data: bytes, transport: Transport) -> None:
    assert reads_or_refuses(data, transport)
    assert reads_or_refuses(message(data, transport), transport)


@relaxed
@given(
    st.sampled_from(
        [bytes.fromhex(vector["client_hello_hex"])[4:] for vector in VECTORS] + [hello(transport="dtls")[12:]]
    ),
    st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 255)), max_size=6),
    st.none() | st.integers(0, 1000),
    transports,
)
def test_a_damaged_message_is_read_or_refused(
    body: bytes, edits: list[tuple[int, int]], size: int | None, transport: Transport
) -> None:
    damaged = bytearray(body[:size])
    for at, value in edits:
        if at < len(damaged):
            damaged[at] = value
    assert reads_or_refuses(message(bytes(damaged), transport), transport)


@relaxed
@given(parts, transports)
def test_a_second_reading_of_the_specifications_gives_the_same(made: Parts, transport: Transport) -> None:
    data = hello(made.extensions(), made.suites, made.version, "tcp")
    first, second = fingerprints(data, transport)
    assert hellos.fingerprints(data, transport[0]) == {"ja3": first._asdict(), "ja4": second._asdict()}


@pytest.mark.parametrize("expected", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_the_second_reading_agrees_with_the_published_fingerprints(expected: dict[str, Any]) -> None:
    found = hellos.fingerprints(bytes.fromhex(expected["client_hello_hex"]), expected["transport"][0])
    assert found["ja3"] == {"string": expected["ja3_string"], "hash": expected["ja3_hash"]}
    assert found["ja4"] == {"raw": expected["ja4_raw"], "hashed": expected["ja4"]}
