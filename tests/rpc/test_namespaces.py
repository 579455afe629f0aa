"""A container's sockets, by means of a real network namespace with an interface that leads to it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from rpc.client_socket import Owner, client_socket
from rpc.linux_owners import LinuxOwners
from tests.peers.programs import program

HERE, THERE = "198.18.77.1", "198.18.77.2"
"""Addresses that are set aside for tests of networks (RFC 2544)."""

CLIENT = f"""
import socket, sys
sys.stdin.readline()
tcp = socket.create_connection(("{HERE}", int(sys.argv[1])))
udp = socket.socket(type=socket.SOCK_DGRAM)
udp.bind(("0.0.0.0", 0))
print(tcp.getsockname()[1], udp.getsockname()[1], flush=True)
sys.stdin.read()
"""

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can make a network namespace")


def ip(*arguments: str) -> None:
    done = subprocess.run([program("ip"), *arguments], check=False, capture_output=True, text=True)
    if "not permitted" in done.stderr or "not supported" in done.stderr:
        pytest.skip(f"this system does not let us make a network: {done.stderr}")
    assert done.returncode == 0, done.stderr


@contextmanager
def container(port: int) -> Iterator[subprocess.Popen[str]]:
    """Run a client in a namespace of its own that has a way to this one."""
    name = f"entries{os.getpid()}"[:14]
    command = [program("unshare"), "--net", sys.executable, "-c", CLIENT, str(port)]
    with ExitStack() as made:
        process = made.enter_context(
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        )
        made.callback(process.kill)
        while Path(f"/proc/{process.pid}/ns/net").readlink() == Path("/proc/self/ns/net").readlink():
            assert process.poll() is None
        ip("link", "add", f"{name}a", "type", "veth", "peer", "name", f"{name}b", "netns", str(process.pid))
        made.callback(ip, "link", "del", f"{name}a")
        ip("addr", "add", f"{HERE}/30", "dev", f"{name}a")
        ip("link", "set", f"{name}a", "up")
        enter = [program("nsenter"), f"--net=/proc/{process.pid}/ns/net", program("ip")]
        subprocess.run([*enter, "addr", "add", f"{THERE}/30", "dev", f"{name}b"], check=True)
        subprocess.run([*enter, "link", "set", f"{name}b", "up"], check=True)
        yield process


def test_a_containers_clients_are_found_by_the_addresses_it_has() -> None:
    with socket.create_server(("0.0.0.0", 0)) as server, container(server.getsockname()[1]) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("go\n")
        process.stdin.flush()
        tcp, udp = map(int, process.stdout.readline().split())
        local = (HERE, server.getsockname()[1])
        clients = [
            client_socket((THERE, tcp), local, "tcp"),
            client_socket((THERE, udp), ("0.0.0.0", 9), "udp"),
            client_socket((THERE, tcp), (HERE, 9), "tcp"),
        ]
        assert None not in clients
        with closing(LinuxOwners()) as owners:
            found = owners.find_thoroughly([client for client in clients if client])
    owner = Owner(process.pid, Path(sys.executable).resolve().name)
    assert [found.get(client) for client in clients if client] == [owner, owner, None]
