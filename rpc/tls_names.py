"""The names that mitmproxy gives to TLS versions and cipher suites, as numbers and names of the wire.

Look-ups only: which names there are is data, and the long table has a file of its own.
"""

from __future__ import annotations

from rpc.cipher_suites import CIPHER_SUITES

TLS_1_3 = (0x0304, "TLS 1.3")

TLS_VERSIONS: dict[str, tuple[int, str]] = {
    "SSLv3": (0x0300, "SSL 3.0"),
    "TLSv1": (0x0301, "TLS 1.0"),
    "TLSv1.1": (0x0302, "TLS 1.1"),
    "TLSv1.2": (0x0303, "TLS 1.2"),
    "TLSv1.3": TLS_1_3,
    "DTLSv0.9": (0x0100, "DTLS 0.9"),  # a draft of DTLS 1.0 that some VPNs speak; OpenSSL calls it DTLS1_BAD_VER
    "DTLSv1": (0xFEFF, "DTLS 1.0"),
    "DTLSv1.2": (0xFEFD, "DTLS 1.2"),
    "QUICv1": TLS_1_3,  # QUIC's handshake is that of TLS 1.3 (RFC 9001, section 4.2)
}
"""The names of OpenSSL's `SSL_get_version`, and mitmproxy's own one for QUIC, to code point and display name."""


def tls_version(openssl_name: str) -> tuple[int, str] | None:
    """Return the wire code point and the display name of a version, or None for a name that is not known."""
    return TLS_VERSIONS.get(openssl_name)


def cipher_suite(openssl_name: str) -> tuple[int, str] | None:
    """Return the wire code point and the IANA name of a cipher suite, or None for a name that is not known.

    `openssl_name` is OpenSSL's, e.g. "ECDHE-RSA-AES128-GCM-SHA256", or aioquic's, e.g. "AES_128_GCM_SHA256".
    """
    return CIPHER_SUITES.get(openssl_name)
