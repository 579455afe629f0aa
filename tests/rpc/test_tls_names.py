"""The table of names against the OpenSSL libraries of this machine, and against what RFCs and the registry say."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from typing import get_args

import pytest
from aioquic.tls import CipherSuite
from mitmproxy.connection import TlsVersion
from OpenSSL import SSL

from rpc.cipher_suites import CIPHER_SUITES
from rpc.tls_names import cipher_suite, tls_version

EVERYTHING = "ALL:COMPLEMENTOFALL:@SECLEVEL=0"


def python_suites() -> list[tuple[str, int]]:
    """The name and the code point of each suite that Python's OpenSSL can be asked for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_ciphers(EVERYTHING)
    return [(suite["name"], suite["id"] & 0xFFFF) for suite in context.get_ciphers()]


def pyopenssl_suites() -> list[str]:
    """The name of each suite that mitmproxy's OpenSSL can be asked for."""
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_cipher_list(EVERYTHING.encode())
    return SSL.Connection(context).get_cipher_list()


def command_line_suites() -> list[tuple[str, int, str]]:
    """The name, code point and standard name of each suite that the command `openssl` lists."""
    command = shutil.which("openssl")
    if command is None:
        pytest.skip("there is no openssl command")
    listing = [command, "ciphers", "-V", "-stdname", EVERYTHING]
    run = subprocess.run(listing, capture_output=True, text=True, check=False)
    if run.returncode:
        pytest.skip("this openssl command does not know the standard names")
    rows = [line.split() for line in run.stdout.splitlines() if "UNKNOWN" not in line]
    return [(row[4], int(row[0].replace("0x", "").replace(",", ""), 16), row[2]) for row in rows]


def test_every_suite_of_pythons_openssl_has_its_code_point() -> None:
    suites = python_suites()
    assert len(suites) > 50
    assert {name: (cipher_suite(name) or (None,))[0] for name, _ in suites} == dict(suites)


def test_every_suite_of_mitmproxys_openssl_is_known() -> None:
    suites = pyopenssl_suites()
    assert len(suites) > 50
    assert [name for name in suites if cipher_suite(name) is None] == []


def test_every_suite_of_the_openssl_command_has_its_code_point_and_standard_name() -> None:
    suites = command_line_suites()
    assert len(suites) > 50
    assert {name: cipher_suite(name) for name, _, _ in suites} == {name: (code, std) for name, code, std in suites}


@pytest.mark.parametrize("suite", [suite for suite in CipherSuite if suite.name != "EMPTY_RENEGOTIATION_INFO_SCSV"])
def test_every_suite_of_aioquic_has_its_code_point_and_the_prefix_of_the_registry(suite: CipherSuite) -> None:
    assert cipher_suite(suite.name) == (suite.value, f"TLS_{suite.name}")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # RFC 8446, appendix B.4
        ("TLS_AES_128_GCM_SHA256", (4865, "TLS_AES_128_GCM_SHA256")),
        ("TLS_AES_256_GCM_SHA384", (4866, "TLS_AES_256_GCM_SHA384")),
        ("TLS_CHACHA20_POLY1305_SHA256", (4867, "TLS_CHACHA20_POLY1305_SHA256")),
        ("TLS_AES_128_CCM_SHA256", (4868, "TLS_AES_128_CCM_SHA256")),
        ("TLS_AES_128_CCM_8_SHA256", (4869, "TLS_AES_128_CCM_8_SHA256")),
        # RFC 9150, section 9
        ("TLS_SHA256_SHA256", (0xC0B4, "TLS_SHA256_SHA256")),
        ("TLS_SHA384_SHA384", (0xC0B5, "TLS_SHA384_SHA384")),
        # RFC 5289, section 3.2
        ("ECDHE-RSA-AES128-GCM-SHA256", (0xC02F, "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256")),
        # suites that builds of today leave out
        ("DES-CBC3-SHA", (0x000A, "TLS_RSA_WITH_3DES_EDE_CBC_SHA")),
        ("RC4-SHA", (0x0005, "TLS_RSA_WITH_RC4_128_SHA")),
        ("ECDHE-RSA-RC4-SHA", (0xC011, "TLS_ECDHE_RSA_WITH_RC4_128_SHA")),
        # RFC 9189, section 9.1; the older code point of the same suite
        ("GOST2012-KUZNYECHIK-KUZNYECHIKOMAC", (0xC100, "TLS_GOSTR341112_256_WITH_KUZNYECHIK_CTR_OMAC")),
        ("IANA-GOST2012-GOST8912-GOST8912", (0xC102, "TLS_GOSTR341112_256_WITH_28147_CNT_IMIT")),
        ("LEGACY-GOST2012-GOST8912-GOST8912", (0xFF85, "TLS_GOSTR341112_256_WITH_28147_CNT_IMIT")),
        # the two whose registered name has its parts in another order than their neighbours' (RFC 6655, section 6)
        ("DHE-PSK-AES128-CCM8", (0xC0AA, "TLS_PSK_DHE_WITH_AES_128_CCM_8")),
        ("DHE-PSK-AES256-CCM8", (0xC0AB, "TLS_PSK_DHE_WITH_AES_256_CCM_8")),
    ],
)
def test_a_suite_has_its_registered_code_point_and_name(name: str, expected: tuple[int, str]) -> None:
    assert cipher_suite(name) == expected


@pytest.mark.parametrize("name", ["", "UNKNOWN", "(NONE)", "tls_aes_128_gcm_sha256", "TLS_RSA_WITH_AES_128_CBC_SHA"])
def test_a_suite_that_openssl_does_not_name_so_is_unknown(name: str) -> None:
    assert cipher_suite(name) is None


def test_a_code_point_has_one_registered_name() -> None:
    assert len(set(CIPHER_SUITES.values())) == len({code for code, _ in CIPHER_SUITES.values()})


def test_code_points_fit_the_contract() -> None:
    assert all(0 < code <= 0xFFFF for code, _ in CIPHER_SUITES.values())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("SSLv3", (768, "SSL 3.0")),
        ("TLSv1", (769, "TLS 1.0")),
        ("TLSv1.1", (770, "TLS 1.1")),
        ("TLSv1.2", (771, "TLS 1.2")),
        ("TLSv1.3", (772, "TLS 1.3")),
        ("DTLSv0.9", (256, "DTLS 0.9")),
        ("DTLSv1", (65279, "DTLS 1.0")),
        ("DTLSv1.2", (65277, "DTLS 1.2")),
        ("QUICv1", (772, "TLS 1.3")),
    ],
)
def test_a_version_has_its_code_point_and_display_name(name: str, expected: tuple[int, str]) -> None:
    assert tls_version(name) == expected


@pytest.mark.parametrize("name", get_args(TlsVersion))
def test_every_version_of_mitmproxy_is_known(name: str) -> None:
    assert tls_version(name) is not None


@pytest.mark.parametrize("name", ["", "unknown", "TLS 1.3", "tlsv1.3", "TLSv1.4"])
def test_any_other_version_is_unknown(name: str) -> None:
    assert tls_version(name) is None
