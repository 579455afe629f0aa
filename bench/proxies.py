"""What the benchmarks measure and what they measure it with: mitmdump, an nginx behind it, and wrk before it."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil

ROOT = Path(__file__).parent.parent
PACKAGES = {"curl": "curl", "nginx": "nginx-light", "wrk": "wrk"}
"""The programs that are needed beyond Python, and Debian's packages of them."""

BODY = b"x" * 1024

NGINX = """
daemon off; master_process off; worker_processes 1; pid {folder}/pid; error_log {folder}/error;
events {{ worker_connections 1024; }}
http {{
    access_log off; keepalive_requests 100000000;
    server {{ listen 127.0.0.1:{port}; root {folder}; default_type application/octet-stream; }}
}}
"""


class MissingError(Exception):
    """A program is not there; the sentence says how to get it."""


def program(name: str) -> str:
    """Return the path of a program. Raises `MissingError`."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if path is None:
        message = f"{name} is not installed: apt-get install {PACKAGES[name]}"
        raise MissingError(message)
    return path


def free_port() -> int:
    """Return a port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(port: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    message = f"{process.args} did not come up"
    raise RuntimeError(message)


@contextmanager
def _running(process: subprocess.Popen[str]) -> Iterator[None]:
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def server(folder: Path) -> Iterator[int]:
    """Run an nginx that answers `/body` with 1 KiB; yield its port."""
    (folder / "body").write_bytes(BODY)
    port = free_port()
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port))
    command = [program("nginx"), "-c", str(folder / "nginx.conf"), "-p", str(folder)]
    process = subprocess.Popen(command, text=True, stderr=subprocess.DEVNULL)
    with _running(process):
        _wait_for(port, process)
        yield port


class Proxy(NamedTuple):
    """A mitmdump that runs: its port, its process, and the endpoint's URL if it records."""

    port: int
    process: psutil.Process
    url: str | None

    def memory(self) -> tuple[float, ...]:
        """Return the resident memory of mitmdump and of its children, in MiB."""
        return tuple(p.memory_info().rss / 2**20 for p in (self.process, *self.process.children()))


@contextmanager
def mitmdump(upstream: int, *arguments: str, records: bool) -> Iterator[Proxy]:
    """Run mitmdump as a reverse proxy of `upstream`, with or without the addon."""
    port = free_port()
    command = [
        *(str(Path(sys.executable).parent / "mitmdump"), "-q"),
        *("--mode", f"reverse:http://127.0.0.1:{upstream}", "--listen-host", "127.0.0.1", "--listen-port", str(port)),
        *(("-s", str(ROOT / "addon/entries.py"), "--set", "rpc_listen_port=0") if records else ()),
        *arguments,
    ]
    process = subprocess.Popen(command, text=True, stdout=subprocess.PIPE)
    with _running(process):
        url = re.findall(r"ws://\S+", process.stdout.readline())[0] if records and process.stdout else None
        _wait_for(port, process)
        yield Proxy(port, psutil.Process(process.pid), url)


def requests_per_second(port: int, *headers: str, seconds: int, connections: int) -> float:
    """Load a proxy with wrk over kept-alive connections; return the rate. Raises RuntimeError if a request failed.

    With the header `Connection: close`, each request has a connection of its own.
    """
    command = [program("wrk"), "-t1", f"-c{connections}", f"-d{seconds}s", f"http://127.0.0.1:{port}/body"]
    command += [f"-H{header}" for header in headers]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in output or "Socket errors" in output:
        raise RuntimeError(output)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    assert rate is not None
    return float(rate[1])
