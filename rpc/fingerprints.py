"""JA3 and JA4 of a TLS ClientHello: what its bytes say, and the two texts that are made of that.

Pure functions of bytes: no sockets, no proxy, no API types. A ClientHello is read once and only as far as the two
fingerprints need it; what they ignore (random, session id, key shares, ...) is stepped over, whatever it contains.

JA3 as published by Salesforce (salesforce/ja3); JA4 as specified by FoxIO (FoxIO-LLC/ja4, technical_details/JA4.md).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import md5, sha256
from string import ascii_letters, digits
from typing import Literal, NamedTuple

type Transport = Literal["tcp", "quic", "dtls"]
type Span = tuple[int, int]

CLIENT_HELLO = 1

HEADER_BYTES = 4
"""The handshake header: type and length."""

FRAGMENT_BYTES = 8
"""What DTLS adds to the header: sequence number, offset and length of the fragment (RFC 6347, section 4.2.2)."""

RANDOM_BYTES = 32

GREASE = frozenset(0x1010 * n + 0x0A0A for n in range(16))
"""The reserved values of RFC 8701: 0x0A0A, 0x1A1A, ..., 0xFAFA. 0x0A1A is none of them."""

SERVER_NAME, SUPPORTED_GROUPS, POINT_FORMATS, SIGNATURE_ALGORITHMS, ALPN, SUPPORTED_VERSIONS = 0, 10, 11, 13, 16, 43

JA4_TRANSPORT: dict[Transport, str] = {"tcp": "t", "quic": "q", "dtls": "d"}

JA4_VERSION = {
    0x0304: "13",
    0x0303: "12",
    0x0302: "11",
    0x0301: "10",
    0x0300: "s3",
    0x0002: "s2",
    0xFEFF: "d1",
    0xFEFD: "d2",
    0xFEFC: "d3",
}

JA4_UNKNOWN_VERSION = "00"
JA4_NO_ALPN = "00"
JA4_NO_VALUES = "000000000000"
JA4_MAX_COUNT = 99

JA4_IN_FIRST_PART = frozenset((SERVER_NAME, ALPN))
"""The extensions that the third part leaves out, because the first part already tells of them."""

ALPHANUMERIC = frozenset((ascii_letters + digits).encode())

CACHE_ENTRIES = 1024
"""How many ClientHellos `cached_fingerprints` remembers: those of the connections that are in use at a time."""

MAX_CACHED_BYTES = 8 * 1024
"""The longest ClientHello that is remembered: with post-quantum key shares they have about 2 KiB."""

_EXTENSION_HEADER = struct.Struct(">HH")


class MalformedHelloError(ValueError):
    """The bytes are no ClientHello: `problem` says why, `field` and `offset` (from the type byte) say where."""

    def __init__(self, field: str, offset: int, problem: str) -> None:
        super().__init__(field, offset, problem)
        self.field = field
        self.offset = offset
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.field} at offset {self.offset}: {self.problem}"


class ClientHello(NamedTuple):
    """What the fingerprints read of a ClientHello: numbers in wire order, duplicates kept, GREASE left out.

    The lists of an extension that is not there are empty. `alpn` is the first protocol name, empty if there is none.
    """

    legacy_version: int
    cipher_suites: tuple[int, ...]
    extensions: tuple[int, ...]
    supported_versions: tuple[int, ...]
    supported_groups: tuple[int, ...]
    point_formats: tuple[int, ...]
    signature_algorithms: tuple[int, ...]
    alpn: bytes


class Ja3(NamedTuple):
    """A JA3 fingerprint: the text, and its MD5 as 32 lower-case hexadecimal digits."""

    string: str
    hash: str


class Ja4(NamedTuple):
    """A JA4 fingerprint: JA4_r, whose sorted lists are spelled out, and JA4, where hashes stand for them."""

    raw: str
    hashed: str


def ja3(client_hello: bytes, transport: Transport = "tcp") -> Ja3:
    """Return the JA3 of a ClientHello. For the arguments and errors, see `parse`."""
    return _ja3(parse(client_hello, transport))


def ja4(client_hello: bytes, transport: Transport = "tcp") -> Ja4:
    """Return the JA4 of a ClientHello. For the arguments and errors, see `parse`."""
    return _ja4(parse(client_hello, transport), transport)


def fingerprints(client_hello: bytes, transport: Transport = "tcp") -> tuple[Ja3, Ja4]:
    """Return both fingerprints, reading the ClientHello once. For the arguments and errors, see `parse`."""
    hello = parse(client_hello, transport)
    return _ja3(hello), _ja4(hello, transport)


def cached_fingerprints(client_hello: bytes, transport: Transport = "tcp") -> tuple[Ja3, Ja4] | None:
    """Return both fingerprints, or None for malformed bytes; the latest answers, None too, are remembered."""
    if len(client_hello) > MAX_CACHED_BYTES:
        return _fingerprints_or_none(client_hello, transport)
    return _remembered(client_hello, transport)


def _fingerprints_or_none(client_hello: bytes, transport: Transport) -> tuple[Ja3, Ja4] | None:
    try:
        return fingerprints(client_hello, transport)
    except MalformedHelloError:
        return None


_remembered = lru_cache(maxsize=CACHE_ENTRIES)(_fingerprints_or_none)


def parse(client_hello: bytes, transport: Transport = "tcp") -> ClientHello:
    """Read a ClientHello.

    `client_hello` is the whole handshake message from its type byte on, without record headers, its fragments joined.
    Its header has 4 bytes (type, length), or the 12 of DTLS, which say that it is a single fragment (offset 0, length =
    length of the message: the form that RFC 6347, section 4.2.6 hashes); the two lengths tell which. A message with
    the header of DTLS has a cookie; one that came over DTLS with the short header (the form that RFC 9147, section 5.2
    hashes) is read with a cookie if that can be, else without.

    Raises `MalformedHelloError`, a `ValueError`, where lengths contradict each other or the bytes end early or late:
    in the message, in its list of extensions, and within the extensions that are read. Extensions whose content is
    not needed are not looked into; of several with the same type, the first counts. Empty lists are no error,
    although the RFCs ask for at least one element.
    """
    start = _start(client_hello)
    if start > HEADER_BYTES:
        return _parse(client_hello, start, has_cookie=True)
    if transport != "dtls":
        return _parse(client_hello, start, has_cookie=False)
    try:
        return _parse(client_hello, start, has_cookie=True)
    except MalformedHelloError:
        return _parse(client_hello, start, has_cookie=False)


def _parse(data: bytes, start: int, *, has_cookie: bool) -> ClientHello:
    """Read what follows the handshake header."""
    end = len(data)
    at = _skip(data, start, 2, "legacy_version")
    at = _skip(data, at, RANDOM_BYTES, "random")
    _, at = _vector(data, (at, end), 1, "session_id")
    if has_cookie:
        _, at = _vector(data, (at, end), 1, "cookie")
    suites = _vector(data, (at, end), 2, "cipher_suites")
    _, at = _vector(data, (suites[1], end), 1, "compression_methods")
    extensions, bodies = _extensions(data, (at, end))
    return ClientHello(
        int.from_bytes(data[start : start + 2]),
        _uint16s(data, suites, "cipher_suites"),
        extensions,
        _uint16s_of(data, bodies.get(SUPPORTED_VERSIONS), 1, "supported_versions"),
        _uint16s_of(data, bodies.get(SUPPORTED_GROUPS), 2, "supported_groups"),
        _point_formats(data, bodies.get(POINT_FORMATS)),
        _uint16s_of(data, bodies.get(SIGNATURE_ALGORITHMS), 2, "signature_algorithms"),
        _first_protocol(data, bodies.get(ALPN)),
    )


def _start(data: bytes) -> int:
    """Return where the handshake header ends, which must announce exactly the bytes that follow it."""
    start = _skip(data, 0, HEADER_BYTES, "handshake header")
    if data[0] != CLIENT_HELLO:
        raise MalformedHelloError("handshake type", 0, f"{data[0]} is not {CLIENT_HELLO}, a ClientHello")
    length, there = int.from_bytes(data[1:4]), len(data) - start
    if length == there:
        return start
    if length == there - FRAGMENT_BYTES and data[6:12] == bytes(3) + data[1:4]:
        return start + FRAGMENT_BYTES
    raise MalformedHelloError("handshake length", 1, f"{length} bytes announced, {there} there")


def _skip(data: bytes, at: int, size: int, field: str) -> int:
    """Return the offset after a field of fixed size."""
    if at + size > len(data):
        raise MalformedHelloError(field, at, f"{size} bytes expected, {len(data) - at} left")
    return at + size


def _vector(data: bytes, span: Span, width: int, field: str) -> Span:
    """Return the content of the vector at the beginning of `span`: `width` bytes of length, then that many bytes."""
    at, end = span
    start = at + width
    if start > end:
        raise MalformedHelloError(field, at, f"{width} bytes of length expected, {end - at} left")
    stop = start + int.from_bytes(data[at:start])
    if stop > end:
        raise MalformedHelloError(field, at, f"{stop - start} bytes announced, {end - start} left")
    return start, stop


def _sole_vector(data: bytes, span: Span, width: int, field: str) -> Span:
    """Return the content of the vector that fills `span`: nothing may follow it (RFC 8446, section 4.2)."""
    start, stop = _vector(data, span, width, field)
    if stop != span[1]:
        raise MalformedHelloError(field, stop, f"{span[1] - stop} bytes too many")
    return start, stop


def _extensions(data: bytes, span: Span) -> tuple[tuple[int, ...], dict[int, Span]]:
    """Return the types in wire order, and where the content of each is. The whole block may be missing."""
    types: list[int] = []
    bodies: dict[int, Span] = {}
    if span[0] == span[1]:
        return (), bodies
    at, end = _sole_vector(data, span, 2, "extensions")
    while at < end:
        if at + 4 > end:
            raise MalformedHelloError("extension header", at, f"4 bytes expected, {end - at} left")
        extension, size = _EXTENSION_HEADER.unpack_from(data, at)
        start, at = at + 4, at + 4 + size
        if at > end:
            raise MalformedHelloError(f"extension {extension}", start, f"{size} bytes announced, {end - start} left")
        types.append(extension)
        bodies.setdefault(extension, (start, at))
    return _without_grease(types), bodies


def _without_grease(values: Iterable[int]) -> tuple[int, ...]:
    return tuple([value for value in values if value not in GREASE])


def _uint16s(data: bytes, span: Span, field: str) -> tuple[int, ...]:
    size = span[1] - span[0]
    if size % 2:
        raise MalformedHelloError(field, span[0], f"{size} bytes hold no whole number of 16-bit values")
    return _without_grease(struct.unpack_from(f">{size // 2}H", data, span[0]))


def _uint16s_of(data: bytes, body: Span | None, width: int, field: str) -> tuple[int, ...]:
    return _uint16s(data, _sole_vector(data, body, width, field), field) if body else ()


def _point_formats(data: bytes, body: Span | None) -> tuple[int, ...]:
    if body is None:
        return ()
    start, stop = _sole_vector(data, body, 1, "ec_point_formats")
    return tuple(data[start:stop])


def _first_protocol(data: bytes, body: Span | None) -> bytes:
    if body is None:
        return b""
    names = _sole_vector(data, body, 2, "application_layer_protocol_negotiation")
    if names[0] == names[1]:
        return b""
    start, stop = _vector(data, names, 1, "application_layer_protocol_negotiation")
    return data[start:stop]


def _ja3(hello: ClientHello) -> Ja3:
    fields = (
        (hello.legacy_version,),
        hello.cipher_suites,
        hello.extensions,
        hello.supported_groups,
        hello.point_formats,
    )
    text = ",".join(["-".join(map(str, field)) for field in fields])
    return Ja3(text, md5(text.encode(), usedforsecurity=False).hexdigest())


def _ja4(hello: ClientHello, transport: Transport) -> Ja4:
    first = (
        f"{JA4_TRANSPORT[transport]}{_ja4_version(hello)}{'d' if SERVER_NAME in hello.extensions else 'i'}"
        f"{_ja4_count(hello.cipher_suites)}{_ja4_count(hello.extensions)}{_ja4_alpn(hello.alpn)}"
    )
    second = _hex_list(sorted(hello.cipher_suites))
    third = _hex_list(sorted([extension for extension in hello.extensions if extension not in JA4_IN_FIRST_PART]))
    if hello.signature_algorithms:
        third = f"{third}_{_hex_list(hello.signature_algorithms)}"
    return Ja4(f"{first}_{second}_{third}", f"{first}_{_short_hash(second)}_{_short_hash(third)}")


def _ja4_version(hello: ClientHello) -> str:
    """Return the two characters of the version: the numerically highest of supported_versions.

    Without that extension it is legacy_version. So it is if the extension names no version at all: the specification
    does not say what then, and legacy_version is the only one in the message.
    """
    version = max(hello.supported_versions, default=hello.legacy_version)
    return JA4_VERSION.get(version, JA4_UNKNOWN_VERSION)


def _ja4_count(values: Sequence[int]) -> str:
    return f"{min(len(values), JA4_MAX_COUNT):02}"


def _ja4_alpn(name: bytes) -> str:
    """Return the first and last character of a protocol name, or of its hexadecimal form if one is no letter or digit.

    GREASE names (RFC 8701, section 2) are not left out: the specification drops 16-bit numbers only.
    """
    if not name:
        return JA4_NO_ALPN
    text = name.decode("latin-1") if ALPHANUMERIC.issuperset((name[0], name[-1])) else name.hex()
    return text[0] + text[-1]


def _hex_list(values: Sequence[int]) -> str:
    return struct.pack(f">{len(values)}H", *values).hex(",", 2)


def _short_hash(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:12] if text else JA4_NO_VALUES
