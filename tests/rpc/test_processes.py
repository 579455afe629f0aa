"""Owners of real sockets, in every way that this machine offers to find them."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from rpc.client_socket import Answers, ClientSocket, Owner, Transport, client_socket
from rpc.linux_owners import LinuxOwners
from rpc.portable_owners import ProcessOwners, TableOwners
from rpc.processes import Owners, ProcessFinder, system_owners

PATIENCE = 60.0
ME = Owner(os.getpid(), Path(sys.executable).resolve().name)

CONNECT = """
import socket, sys
client = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
print(client.getsockname()[1], flush=True)
sys.stdin.read()
"""
HOLD = "import sys; sys.stdin.read()"
AS_ANOTHER_USER = """
import ctypes, encodings.idna, os, socket, sys
from rpc.client_socket import client_socket
from rpc.linux_owners import LinuxOwners
peer, local = (("127.0.0.1", int(port)) for port in sys.argv[1:])
os.setuid(65534)
PR_SET_DUMPABLE = 4  # becoming another user makes a process one that nobody may look into
ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1)
owners = LinuxOwners()
with socket.create_connection(local) as own:
    clients = [client_socket(peer, local, "tcp"), client_socket(own.getsockname(), local, "tcp")]
    answers = owners.find_thoroughly(clients)
    print(clients[0] in answers, answers[clients[1]].pid == os.getpid())
"""

type Make = Callable[[], Owners]


@pytest.fixture(params=[LinuxOwners, ProcessOwners, TableOwners])
def finder(request: pytest.FixtureRequest) -> Iterator[ProcessFinder]:
    """A finder of each kind: they all work on Linux."""
    with closing(ProcessFinder(request.param)) as finder:
        yield finder


@pytest.fixture
def linux_finder() -> Iterator[ProcessFinder]:
    with closing(ProcessFinder(LinuxOwners)) as finder:
        yield finder


def ends(client: socket.socket) -> ClientSocket:
    transport: Transport = "udp" if client.type == socket.SOCK_DGRAM else "tcp"
    found = client_socket(client.getsockname()[:2], client.getpeername()[:2], transport)
    assert found is not None
    return found


def find(finder: ProcessFinder, *clients: ClientSocket | None) -> list[Owner | None]:
    return [answer.result(PATIENCE) for answer in finder.submit(clients)]


@contextmanager
def connected(host: str = "127.0.0.1", family: socket.AddressFamily = socket.AF_INET) -> Iterator[socket.socket]:
    """A connection to a server of this process."""
    with (
        socket.create_server((host, 0), family=family) as server,
        socket.create_connection(server.getsockname()[:2]) as client,
    ):
        yield client


@contextmanager
def connecting_processes(server: socket.socket, count: int) -> Iterator[list[tuple[int, ClientSocket]]]:
    """Processes with one connection each: their ids and sockets."""
    port = server.getsockname()[1]
    with ExitStack() as running:
        processes = [
            running.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", CONNECT, str(port)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for _ in range(count)
        ]
        found = []
        for process in processes:
            assert process.stdout is not None
            peer = ("127.0.0.1", int(process.stdout.readline()))
            client = client_socket(peer, ("127.0.0.1", port), "tcp")
            assert client is not None
            found.append((process.pid, client))
        yield found


@contextmanager
def inheritor(client: socket.socket) -> Iterator[int]:
    """A child process that has the socket open too: its id."""
    with subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, pass_fds=[client.fileno()]) as process:
        yield process.pid


def test_the_owner_of_a_connection_is_found_with_its_name(finder: ProcessFinder) -> None:
    with connected() as client:
        assert find(finder, ends(client)) == [ME]


def test_so_it_is_over_ipv6(finder: ProcessFinder) -> None:
    with connected("::1", socket.AF_INET6) as client:
        assert find(finder, ends(client)) == [ME]


def test_an_ipv6_socket_that_is_connected_to_an_ipv4_address_is_found(finder: ProcessFinder) -> None:
    """As Java's are."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_INET6) as client:
        client.connect(("::ffff:127.0.0.1", server.getsockname()[1]))
        peer = ("127.0.0.1", client.getsockname()[1])
        assert find(finder, client_socket(peer, server.getsockname(), "tcp")) == [ME]


def test_a_proxy_that_listens_on_both_families_may_name_mapped_addresses(finder: ProcessFinder) -> None:
    with connected() as client:
        mapped = [(f"::ffff:{ip}", port) for ip, port in (client.getsockname(), client.getpeername())]
        assert find(finder, client_socket(mapped[0], mapped[1], "tcp")) == [ME]


def test_a_connected_udp_socket_is_found(finder: ProcessFinder) -> None:
    with (
        socket.socket(type=socket.SOCK_DGRAM) as server,
        socket.socket(type=socket.SOCK_DGRAM) as client,
    ):
        server.bind(("127.0.0.1", 0))
        client.connect(server.getsockname())
        assert find(finder, ends(client)) == [ME]


@pytest.mark.parametrize(
    ("family", "bound", "peer", "local"),
    [
        (socket.AF_INET, "127.0.0.1", "127.0.0.1", "127.0.0.1"),
        (socket.AF_INET, "0.0.0.0", "127.0.0.1", "0.0.0.0"),
        (socket.AF_INET6, "::", "::1", "::"),
        (socket.AF_INET6, "::", "127.0.0.1", "0.0.0.0"),
    ],
)
def test_a_udp_socket_that_is_not_connected_is_found(
    finder: ProcessFinder, family: socket.AddressFamily, bound: str, peer: str, local: str
) -> None:
    with socket.socket(family, socket.SOCK_DGRAM) as client:
        client.bind((bound, 0))
        assert find(finder, client_socket((peer, client.getsockname()[1]), (local, 9), "udp")) == [ME]


def test_a_connected_udp_socket_of_another_server_is_not_taken(finder: ProcessFinder) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.connect(("127.0.0.1", 9))
        assert find(finder, client_socket(client.getsockname(), ("127.0.0.1", 10), "udp")) == [None]


def test_many_processes_are_told_apart_at_once(finder: ProcessFinder) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, connecting_processes(server, 5) as running:
        owners = find(finder, *(client for _, client in running))
    assert owners == [Owner(pid, ME.name) for pid, _ in running]


def test_a_name_is_null_or_the_executables(finder: ProcessFinder) -> None:
    """A link to the executable does not change its name."""
    assert Path(sys.executable).is_symlink()
    with connected() as client:
        (owner,) = find(finder, ends(client))
    assert owner is not None
    assert owner.name == Path(sys.executable).resolve().name


def test_an_executable_that_was_replaced_keeps_its_name(linux_finder: ProcessFinder, tmp_path: Path) -> None:
    """As after an update of a program that goes on running."""
    program = tmp_path / "updated"
    shutil.copy("/bin/bash", program)
    with socket.create_server(("127.0.0.1", 0)) as server:
        script = f"exec 3<>/dev/tcp/127.0.0.1/{server.getsockname()[1]}; read"
        with subprocess.Popen([program, "-c", script], stdin=subprocess.PIPE) as process:
            accepted, peer = server.accept()
            program.unlink()
            with accepted:
                assert find(linux_finder, client_socket(peer, server.getsockname(), "tcp")) == [
                    Owner(process.pid, "updated")
                ]


def test_of_several_that_have_the_socket_the_one_that_opened_it_is_the_owner(linux_finder: ProcessFinder) -> None:
    with connected() as client, inheritor(client):
        assert find(linux_finder, ends(client)) == [ME]


def test_an_inherited_socket_is_the_heirs_once_the_other_has_closed_it(linux_finder: ProcessFinder) -> None:
    with connected() as client, inheritor(client) as pid:
        sought = ends(client)
        client.close()
        assert find(linux_finder, sought) == [Owner(pid, ME.name)]


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_an_address_of_another_machine_has_no_owner_here(finder: ProcessFinder, transport: Transport) -> None:
    """Not even if a socket of this machine could have sent from the same port."""
    with socket.socket(type=socket.SOCK_DGRAM) as other:
        other.bind(("0.0.0.0", 0))
        peer = ("192.0.2.1", other.getsockname()[1])
        assert find(finder, client_socket(peer, ("127.0.0.1", 9), transport)) == [None]


def test_a_port_that_nobody_has_has_no_owner(finder: ProcessFinder) -> None:
    with connected() as client:
        local = client.getpeername()
        assert find(finder, client_socket(("127.0.0.2", client.getsockname()[1]), local, "tcp")) == [None]
        assert find(finder, client_socket(client.getsockname(), ("127.0.0.1", 9), "tcp")) == [None]


def test_a_listener_on_the_clients_port_is_not_its_owner(finder: ProcessFinder) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        assert find(finder, client_socket(other.getsockname(), ("127.0.0.1", 9), "tcp")) == [None]


def test_a_closed_socket_has_no_owner(finder: ProcessFinder) -> None:
    with connected() as client:
        sought = ends(client)
        client.close()
        assert find(finder, sought) == [None]


def test_what_is_no_address_has_no_owner(finder: ProcessFinder) -> None:
    assert client_socket(("/run/socket", 0), ("127.0.0.1", 9), "tcp") is None
    assert find(finder, None) == [None]


def test_a_udp_sender_that_could_be_any_of_several_is_not_told(linux_finder: ProcessFinder) -> None:
    with ExitStack() as opened:
        port = 0
        for _ in range(2):
            client = opened.enter_context(socket.socket(type=socket.SOCK_DGRAM))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            client.bind(("0.0.0.0", port))
            port = client.getsockname()[1]
        assert find(linux_finder, client_socket(("127.0.0.1", port), ("127.0.0.1", 9), "udp")) == [None]


def test_a_socket_that_is_bound_to_an_interface_is_found(linux_finder: ProcessFinder) -> None:
    """As the clients of mitmproxy's local mode are on Linux: the kernel's hash table knows such under the interface."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
        client.connect(server.getsockname())
        assert find(linux_finder, ends(client)) == [ME]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_users_process_is_not_told_where_the_system_hides_it() -> None:
    with connected() as client:
        ports = [str(address[1]) for address in (client.getsockname(), client.getpeername())]
        command = [sys.executable, "-c", AS_ANOTHER_USER, *ports]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


class Counted:
    """Owners that count the passes, each of which takes as long as the test likes."""

    def __init__(self, *, is_prompt: bool, may_go_on: threading.Event | None = None) -> None:
        self.is_prompt = is_prompt
        self.passes: list[tuple[str, int]] = []
        self.has_begun = threading.Event()
        self.is_closed = threading.Event()
        self._may_go_on = may_go_on
        self._owners = LinuxOwners()

    def find_fast(self, clients: Collection[ClientSocket], /) -> Answers:
        return self._pass("fast", clients, self._owners.find_fast)

    def find_thoroughly(self, clients: Collection[ClientSocket], /) -> Answers:
        return self._pass("thorough", clients, self._owners.find_thoroughly)

    def _pass(
        self, kind: str, clients: Collection[ClientSocket], find: Callable[[Collection[ClientSocket]], Answers]
    ) -> Answers:
        self.passes.append((kind, len(clients)))
        self.has_begun.set()
        if self._may_go_on is not None:
            self._may_go_on.wait(PATIENCE)
        return find(clients)

    def close(self) -> None:
        self._owners.close()
        self.is_closed.set()


def test_one_pass_serves_all_that_wait() -> None:
    may_go_on = threading.Event()
    fast = Counted(is_prompt=False, may_go_on=may_go_on)
    thorough = Counted(is_prompt=False)
    made = iter((fast, thorough))
    with ExitStack() as opened, closing(ProcessFinder(lambda: next(made))) as finder:
        clients = [ends(opened.enter_context(connected())) for _ in range(20)]
        answers = finder.submit(clients[:1])
        assert fast.has_begun.wait(PATIENCE)
        for client in clients[1:]:
            answers += finder.submit([client])
        may_go_on.set()
        assert [answer.result(PATIENCE) for answer in answers] == [ME] * 20
    assert fast.passes == [("fast", 1), ("fast", 19)]
    assert sum(count for _, count in thorough.passes) <= 20


def test_what_is_found_at_once_is_not_looked_for_everywhere() -> None:
    fast, thorough = Counted(is_prompt=True), Counted(is_prompt=True)
    made = iter((fast, thorough))
    with connected() as client, closing(ProcessFinder(lambda: next(made))) as finder:
        assert find(finder, ends(client)) == [ME]  # the first time everywhere: this process is not new
        fast.find_thoroughly([ends(client)])
        known = len(thorough.passes)
        assert find(finder, ends(client)) == [ME]
        assert len(thorough.passes) == known


def test_two_searches_for_the_same_socket_are_both_answered(finder: ProcessFinder) -> None:
    with connected() as client:
        assert find(finder, ends(client), ends(client)) == [ME, ME]


class Broken:
    """Owners whose system fails."""

    def __init__(self, *, is_prompt: bool) -> None:
        self.is_prompt = is_prompt

    def find_fast(self, clients: Collection[ClientSocket], /) -> Answers:
        raise OSError(len(clients))

    find_thoroughly = find_fast

    def close(self) -> None:
        pass


@pytest.mark.parametrize("is_prompt", [True, False])
def test_a_system_that_fails_is_told_once_and_answers_null(is_prompt: bool, caplog: pytest.LogCaptureFixture) -> None:
    with connected() as client, closing(ProcessFinder(lambda: Broken(is_prompt=is_prompt))) as finder:
        with caplog.at_level(logging.ERROR):
            assert [find(finder, ends(client)) for _ in range(3)] == [[None]] * 3
        assert len([line for line in caplog.messages if "processes" in line]) == 2, "the fast look and the thorough one"


@pytest.mark.parametrize("is_prompt", [True, False])
def test_closing_lets_go_of_the_system(is_prompt: bool) -> None:
    owners = [Counted(is_prompt=is_prompt), Counted(is_prompt=is_prompt)]
    made = iter(owners)
    finder = ProcessFinder(lambda: next(made))
    finder.close()
    assert all(each.is_closed.wait(PATIENCE) for each in owners)


def test_this_system_has_owners_to_tell() -> None:
    with closing(system_owners()) as owners:
        assert isinstance(owners, LinuxOwners if sys.platform == "linux" else (ProcessOwners, TableOwners))


def test_where_the_kernel_does_not_tell_psutil_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: LinuxOwners) -> None:
        raise PermissionError

    monkeypatch.setattr(LinuxOwners, "__init__", refuse)
    with closing(system_owners()) as owners:
        assert isinstance(owners, ProcessOwners)
