from __future__ import annotations

import re
import ssl
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from rpc.certificates import CertificateError, server_context

AUTHORITY = trustme.CA()


class Files:
    """A certificate and its key, apart and in one file, and another key."""

    def __init__(self, folder: Path) -> None:
        issued = AUTHORITY.issue_cert("localhost")
        self.certificate = folder / "cert.pem"
        self.key = folder / "key.pem"
        self.both = folder / "both.pem"
        self.other_key = folder / "other.pem"
        self.locked = folder / "locked.pem"
        self.certificate.write_bytes(issued.cert_chain_pems[0].bytes())
        self.key.write_bytes(issued.private_key_pem.bytes())
        self.both.write_bytes(issued.private_key_and_cert_chain_pem.bytes())
        self.other_key.write_bytes(AUTHORITY.issue_cert("other").private_key_pem.bytes())
        key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
        self.locked.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(b"password"),
            )
        )


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("certificates"))


def test_certificate_and_key_may_be_in_two_files_or_in_one(files: Files) -> None:
    for context in (server_context(str(files.certificate), str(files.key)), server_context(str(files.both), None)):
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize(
    ("certificate", "key"), [("certificate", "other_key"), ("key", "key"), ("certificate", "locked")]
)
def test_what_does_not_fit_or_has_a_password_is_refused_with_a_sentence(
    files: Files, certificate: str, key: str
) -> None:
    with pytest.raises(CertificateError, match=r"cannot be used \(rpc_tls_cert, rpc_tls_key\): check that they fit"):
        server_context(str(getattr(files, certificate)), str(getattr(files, key)))


def test_a_certificate_without_its_key_is_refused_with_a_sentence(files: Files) -> None:
    with pytest.raises(CertificateError, match=r"check that it has both"):
        server_context(str(files.certificate), None)


def test_a_file_that_is_not_there_is_named(files: Files) -> None:
    missing = str(files.key.with_name("missing.pem"))
    for certificate, key in ((missing, None), (str(files.certificate), missing)):
        with pytest.raises(CertificateError, match=re.escape(f"The file {missing} cannot be read")):
            server_context(certificate, key)
