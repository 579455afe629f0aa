"""The endpoint's TLS: a certificate and its key, read from PEM files."""

from __future__ import annotations

import ssl
from pathlib import Path


class CertificateError(Exception):
    """The files cannot be used; the sentence is for the user."""


def server_context(certificate: str, key: str | None) -> ssl.SSLContext:
    """Return what a server offers with a certificate, TLS 1.2 or newer. Raises `CertificateError`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    for path in (certificate, key):
        _check_readable(path)
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        reason = "they fit together, and the key has no password" if key else "it has both, the key without a password"
        message = f"The TLS certificate and key cannot be used (rpc_tls_cert, rpc_tls_key): check that {reason}."
        raise CertificateError(message) from error
    return context


def _check_readable(path: str | None) -> None:
    try:
        if path is not None:
            Path(path).open("rb").close()
    except OSError as error:
        message = f"The file {path} cannot be read (rpc_tls_cert, rpc_tls_key): {error.strerror}."
        raise CertificateError(message) from error


def _no_password() -> str:
    # Without it, the library would ask at the terminal.
    message = "the key has a password"
    raise ValueError(message)
