from __future__ import annotations

import os
from pathlib import Path

import pytest
from mitmproxy.exceptions import OptionsError
from mitmproxy.options import Options

from addon import access

TOKEN = "0123456789abcdefghij_-"


def options(**said: object) -> Options:
    known = Options()
    for name, kind, default, explanation in access.OPTIONS:
        known.add_option(name, kind, default, explanation)
    known.update(**said)
    return known


@pytest.mark.parametrize(
    "origin",
    [
        "https://app.example",
        "http://localhost:3000",
        "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
        "moz-extension://0f2bb2c0-1c3f-4c3c-9a4e-3d1e8a3c9d11",
        "http://[::1]:3000",
    ],
)
def test_origins_are_as_browsers_write_them(origin: str) -> None:
    said = options(rpc_allowed_origins=[origin])
    access.check(said)
    assert access.access(said).origins == (origin,)


@pytest.mark.parametrize(
    "origin",
    [
        "",
        "*",
        "null",
        "app.example",
        "https://",
        "https://app.example/",
        "https://*.app.example",
        "https://a@b",
        "file://",
    ],
)
def test_what_is_no_origin_of_one_site_is_refused(origin: str) -> None:
    with pytest.raises(OptionsError, match=r"^rpc_allowed_origins must be origins such as https://app\.example, not "):
        access.check(options(rpc_allowed_origins=[origin]))


def test_a_key_without_a_certificate_is_refused() -> None:
    with pytest.raises(OptionsError, match=r"^rpc_tls_key needs rpc_tls_cert\.$"):
        access.check(options(rpc_tls_key="key.pem"))


def test_paths_are_absolute_and_the_run_file_is_named_after_the_process(tmp_path: Path) -> None:
    said = options(rpc_tls_cert="~/cert.pem", rpc_tls_key="key.pem", confdir=str(tmp_path))
    found = access.access(said)
    assert found.certificate == str(Path.home() / "cert.pem")
    assert found.key == str(Path.cwd() / "key.pem")
    assert found.run_file == str(tmp_path / "entries" / f"{os.getpid()}.json")


# Tokens


def test_a_token_that_is_not_said_is_random_and_has_256_bits() -> None:
    tokens = {access.token(options()) for _ in range(100)}
    assert len(tokens) == 100
    assert {len(token) for token in tokens} == {43}
    for token in tokens:
        access.check(options(rpc_token=token, rpc_listen_host="0.0.0.0"))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_a_short_token_is_warned_of_where_only_this_machine_can_try(host: str) -> None:
    said = options(rpc_token=TOKEN[:-1], rpc_listen_host=host)
    access.check(said)
    assert [warning for warning in access.warnings(said) if "may guess it" in warning]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "box.example"])
def test_a_short_token_is_refused_where_others_can_try(host: str) -> None:
    with pytest.raises(OptionsError, match=r"^rpc_token must have 22 characters or more where others"):
        access.check(options(rpc_token=TOKEN[:-1], rpc_listen_host=host))
    access.check(options(rpc_token=TOKEN, rpc_listen_host=host))


# Warnings


def test_on_loopback_there_is_nothing_to_warn_of() -> None:
    for host in ("127.0.0.1", "::1", "localhost"):
        assert list(access.warnings(options(rpc_token=TOKEN, rpc_listen_host=host))) == []


def test_elsewhere_the_user_is_warned_that_others_can_come_and_can_read_along() -> None:
    plain = list(access.warnings(options(rpc_listen_host="0.0.0.0")))
    assert [warning.partition(":")[0] for warning in plain] == [
        "The entries endpoint listens on 0.0.0.0",
        "Without rpc_tls_cert, whoever is on the way can read the token and everything that is answered.",
    ]
    assert len(list(access.warnings(options(rpc_listen_host="0.0.0.0", rpc_tls_cert="cert.pem")))) == 1
