"""Programs that are not Python's: a test that needs one which is not there is skipped, but fails where CI runs."""

from __future__ import annotations

import os
import shutil

import pytest

PACKAGES = {
    "chromium": "chromium",
    "curl": "curl",
    "h2load": "nghttp2-client",
    "ip": "iproute2",
    "nghttp": "nghttp2-client",
    "nghttpd": "nghttp2-server",
    "node": "nodejs",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "wget": "wget",
}
"""The Debian packages that have them."""


def program(name: str) -> str:
    """Return the path of a program."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if path is not None:
        return path
    message = f"{name} is not installed: apt-get install {PACKAGES[name]}"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)
