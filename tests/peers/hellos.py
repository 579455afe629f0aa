"""A second reading of ClientHellos, written from the specifications alone: it shares nothing with the program.

It takes what a client has sent, as it crossed the wire: TLS records, also behind what a proxy's client says first, or
QUIC datagrams.
"""

from __future__ import annotations

import hashlib
import hmac
import io
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

VERSION_CODES = {"0304": "13", "0303": "12", "0302": "11", "0301": "10", "0300": "s3"}
GREASE = {f"{digit}a{digit}a" for digit in "0123456789abcdef"}


def hello_in_records(stream: bytes) -> bytes:
    """Return the first handshake message in a stream of TLS records (RFC 8446 section 5.1)."""
    source, message = io.BytesIO(stream), b""
    while len(message) < 4 or len(message) < 4 + int.from_bytes(message[1:4]):
        kind, _, length = source.read(1), source.read(2), source.read(2)
        assert kind == b"\x16", kind
        message += source.read(int.from_bytes(length))
    return message[: 4 + int.from_bytes(message[1:4])]


def hellos_in_stream(stream: bytes) -> list[bytes]:
    """Return the ClientHellos with which a client's stream begins: a second one if the server asked for it."""
    found = []
    while stream[:1] == b"\x16":
        found.append(hello_in_records(stream))
        stream = stream[5 + int.from_bytes(stream[3:5]) :]
        if stream[:6] == b"\x14\x03\x03\x00\x01\x01":
            stream = stream[6:]
    return [message for message in found if message[0] == 1]


def _hex_numbers(data: bytes, size: int = 2) -> list[str]:
    return [data[at : at + size].hex() for at in range(0, len(data), size)]


class Hello:
    """The parts of a handshake message, numbers as hexadecimal digits, GREASE kept."""

    def __init__(self, message: bytes) -> None:
        source = io.BytesIO(message)

        def vector(width: int) -> bytes:
            return source.read(int.from_bytes(source.read(width)))

        assert source.read(4)[0] == 1
        self.version = source.read(2).hex()
        source.read(32)
        vector(1)
        self.suites = _hex_numbers(vector(2))
        vector(1)
        block = io.BytesIO(vector(2))
        self.extensions: list[tuple[str, bytes]] = []
        while kind := block.read(2):
            self.extensions.append((kind.hex(), block.read(int.from_bytes(block.read(2)))))

    def content(self, extension: str, skipped: int) -> bytes:
        """Return what is in an extension without the length in front."""
        return next((content[skipped:] for kind, content in self.extensions if kind == extension), b"")


def _plain(values: list[str]) -> list[str]:
    return [value for value in values if value not in GREASE]


def _decimal(values: list[str]) -> str:
    return "-".join(str(int(value, 16)) for value in _plain(values))


def _ja3(hello: Hello) -> dict[str, str]:
    kinds = [kind for kind, _ in hello.extensions]
    groups, formats = _hex_numbers(hello.content("000a", 2)), _hex_numbers(hello.content("000b", 1), 1)
    text = ",".join([str(int(hello.version, 16)), *map(_decimal, (hello.suites, kinds, groups, formats))])
    return {"string": text, "hash": hashlib.md5(text.encode()).hexdigest()}


def _ends(name: bytes) -> str:
    if not name:
        return "00"
    ends = bytes([name[0], name[-1]])
    return ends.decode() if ends.isalnum() else name.hex()[0] + name.hex()[-1]


def _twelve(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12] if text else "0" * 12


def _ja4(hello: Hello, letter: str) -> dict[str, str]:
    kinds, suites = _plain([kind for kind, _ in hello.extensions]), _plain(hello.suites)
    version = max(_plain(_hex_numbers(hello.content("002b", 1))), default=hello.version)
    names = hello.content("0010", 2)
    first = letter + VERSION_CODES.get(version, "00") + ("d" if "0000" in kinds else "i")
    first += f"{min(len(suites), 99):02}{min(len(kinds), 99):02}" + _ends(names[1 : 1 + names[0]] if names else b"")
    second = ",".join(sorted(suites))
    third = ",".join(sorted(kind for kind in kinds if kind not in {"0000", "0010"}))
    if algorithms := ",".join(_plain(_hex_numbers(hello.content("000d", 2)))):
        third += f"_{algorithms}"
    return {"raw": f"{first}_{second}_{third}", "hashed": f"{first}_{_twelve(second)}_{_twelve(third)}"}


def fingerprints(message: bytes, letter: str = "t") -> dict[str, Any]:
    """Return JA3 and JA4 of a handshake message as an entry has them."""
    hello = Hello(message)
    return {"ja3": _ja3(hello), "ja4": _ja4(hello, letter)}


# QUIC version 1: the first packets are protected with keys that anyone can derive (RFC 9001 section 5.2)

SALT = bytes.fromhex("38762cf7f55934b34d179ae6a4c80cadccbb7f0a")


def _expanded(secret: bytes, label: str, length: int) -> bytes:
    name = b"tls13 " + label.encode()
    info = length.to_bytes(2) + bytes([len(name)]) + name + b"\x00"
    return HKDFExpand(SHA256(), length, info).derive(secret)


def _number(source: io.BytesIO) -> int:
    """Read a variable-length integer (RFC 9000 section 16)."""
    first = source.read(1)[0]
    return int.from_bytes(bytes([first & 0x3F]) + source.read((1 << (first >> 6)) - 1))


class _Packets:
    """Takes the protection off a client's Initial packets. Retry is not known here."""

    def __init__(self) -> None:
        self._keys: tuple[AESGCM, bytes, bytes] | None = None

    def payload(self, datagram: bytes) -> bytes:
        """Return the frames of the Initial packet at the start of a datagram; none if it starts with another packet."""
        if datagram[0] & 0xF0 != 0xC0 or datagram[1:5] != b"\x00\x00\x00\x01":
            return b""
        source = io.BytesIO(datagram[5:])
        destination = source.read(source.read(1)[0])
        source.read(source.read(1)[0])
        source.read(_number(source))
        length = _number(source)
        at = 5 + source.tell()
        aead, iv, mask_key = self._keys = self._keys or self._derived(destination)
        mask = Cipher(algorithms.AES(mask_key), modes.ECB()).encryptor().update(datagram[at + 4 : at + 20])
        first = datagram[0] ^ (mask[0] & 0x0F)
        size = (first & 3) + 1
        number = bytes(a ^ b for a, b in zip(datagram[at : at + size], mask[1:], strict=False))
        header = bytes([first]) + datagram[1:at] + number
        nonce = (int.from_bytes(iv) ^ int.from_bytes(number)).to_bytes(12)
        return aead.decrypt(nonce, datagram[at + size : at + length], header)

    @staticmethod
    def _derived(destination: bytes) -> tuple[AESGCM, bytes, bytes]:
        initial = hmac.digest(SALT, destination, "sha256")
        secret = _expanded(initial, "client in", 32)
        key, iv, mask_key = (
            _expanded(secret, f"quic {what}", size) for what, size in (("key", 16), ("iv", 12), ("hp", 16))
        )
        return AESGCM(key), iv, mask_key


def _crypto_frames(payload: bytes) -> dict[int, bytes]:
    """Return what the CRYPTO frames carry, by offset (RFC 9000 section 19)."""
    source, found = io.BytesIO(payload), {}
    while kind := source.read(1):
        if kind in {b"\x02", b"\x03"}:
            _, _, ranges, _ = (_number(source) for _ in range(4))
            for _ in range(2 * ranges + 3 * (kind == b"\x03")):
                _number(source)
        elif kind == b"\x06":
            offset = _number(source)
            found[offset] = source.read(_number(source))
        else:
            assert kind in {b"\x00", b"\x01"}, kind
    return found


def hello_in_datagrams(datagrams: list[bytes]) -> bytes:
    """Return the first handshake message in what a client has sent over QUIC."""
    packets, message = _Packets(), b""
    carried: dict[int, bytes] = {}
    for datagram in datagrams:
        carried |= _crypto_frames(packets.payload(datagram))
        message = b""
        while len(message) in carried and carried[len(message)]:
            message += carried[len(message)]
        if len(message) >= 4 and len(message) >= 4 + int.from_bytes(message[1:4]):
            return message
    raise AssertionError(f"no whole message, only {len(message)} bytes")
