"""A certificate authority for the servers of the tests."""

from __future__ import annotations

import ssl
from pathlib import Path

import trustme


class Authority:
    """Issues certificates: one for every name that the tests' servers go by, others when asked."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._authority = trustme.CA()
        self.ca = folder / "ca.pem"
        self._authority.cert_pem.write_to_path(str(self.ca))
        self.certificate = self.issue("localhost", "*.names.test", "127.0.0.1", "::1", file="server.pem")

    def issue(self, *names: str, file: str, key: trustme.KeyType = trustme.KeyType.ECDSA) -> Path:
        """Issue another certificate, and return the file that has its key and chain."""
        path = self._folder / file
        self._authority.issue_cert(*names, key_type=key).private_key_and_cert_chain_pem.write_to_path(str(path))
        return path

    def server_context(self, *, alpn: tuple[str, ...] = (), version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
        """Return what a server speaks TLS with; `version` alone if one is named."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate)
        if alpn:
            context.set_alpn_protocols(list(alpn))
        if version is not None:
            context.minimum_version = context.maximum_version = version
        return context
