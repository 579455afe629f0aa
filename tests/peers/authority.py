"""A certificate authority for the servers of the tests."""

from __future__ import annotations

import ssl
from pathlib import Path

import trustme


class Authority:
    """Issues one certificate for every name that the tests' servers go by."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        self.ca = folder / "ca.pem"
        authority.cert_pem.write_to_path(str(self.ca))
        issued = authority.issue_cert("localhost", "*.test", "*.names.test", "127.0.0.1", "::1")
        self.certificate = folder / "server.pem"
        issued.private_key_and_cert_chain_pem.write_to_path(str(self.certificate))

    def server_context(self, *, alpn: tuple[str, ...] = (), version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
        """Return what a server speaks TLS with; `version` alone if one is named."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate)
        if alpn:
            context.set_alpn_protocols(list(alpn))
        if version is not None:
            context.minimum_version = context.maximum_version = version
        return context
