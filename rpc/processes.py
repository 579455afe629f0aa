"""Which process of this machine owns a client's socket: looked up at once, beside the loop, one pass for all that wait.

Two threads. The first looks where the owner most likely is, and is never held up for long: a short-lived client is
gone within milliseconds. What it does not find goes to the second, which looks everywhere, but only part of the time.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import Future
from queue import SimpleQueue
from typing import NamedTuple, Protocol

from rpc.client_socket import Answers, ClientSocket, Owner, Transport, client_socket
from rpc.records import Address

logger = logging.getLogger(__name__)

REST = 19
"""How many times as long as a look everywhere took the next one waits: it costs a twentieth of one core at the most."""

type Answer = Future[Owner | None]


class Owners(Protocol):
    """What a system can tell of sockets' owners."""

    def find_fast(self, clients: Collection[ClientSocket], /) -> Answers:
        """Return what can be found at once; what is missing may still be found thoroughly."""

    def find_thoroughly(self, clients: Collection[ClientSocket], /) -> Answers:
        """Return what can be found at all; what is missing cannot be known."""

    def close(self) -> None:
        """Close what is open."""


class Wish(NamedTuple):
    """A look-up that somebody waits for."""

    client: ClientSocket
    answer: Answer


class ProcessFinder:
    """Finds the owners of clients' sockets. `owners` is called once for each of the two threads."""

    def __init__(self, owners: Callable[[], Owners] | None = None) -> None:
        make = owners or system_owners
        fast, thorough = make(), make()
        self._thorough = _Looker("thorough", thorough, thorough.find_thoroughly, self._give_up, rest=REST)
        self._fast = _Looker("fast", fast, fast.find_fast, self._thorough.add)

    def submit(self, peer: Address | None, local: Address | None, transport: Transport) -> Answer:
        """Begin to look for the owner of the socket at `peer`, whose other end is `local`. Any thread may call this.

        The answer is null if there is no owner on this machine or the system does not tell.
        """
        answer: Answer = Future()
        client = client_socket(peer, local, transport) if peer and local else None
        if client is None:
            answer.set_result(None)
        else:
            self._fast.add(Wish(client, answer))
        return answer

    def close(self) -> None:
        """End both threads; look-ups under way are not answered any more."""
        self._fast.close()
        self._thorough.close()

    def _give_up(self, wish: Wish) -> None:
        _answer(wish, None)


class _Looker:
    """A thread that answers wishes, all that wait at once, and passes on those that it cannot answer."""

    def __init__(
        self,
        name: str,
        owners: Owners,
        find: Callable[[Collection[ClientSocket]], Answers],
        pass_on: Callable[[Wish], None],
        *,
        rest: float = 0,
    ) -> None:
        self._owners = owners
        self._find = find
        self._pass_on = pass_on
        self._rest = rest
        self._has_failed = False
        self._is_closed = threading.Event()
        self._wishes: SimpleQueue[Wish | None] = SimpleQueue()
        threading.Thread(target=self._run, name=f"processes, {name}", daemon=True).start()

    def add(self, wish: Wish) -> None:
        """Take in a wish."""
        self._wishes.put(wish)

    def close(self) -> None:
        """End the thread."""
        self._is_closed.set()
        self._wishes.put(None)

    def _run(self) -> None:
        self._serve()
        self._owners.close()

    def _serve(self) -> None:
        rested = time.monotonic()
        while not self._is_closed.is_set() and (first := self._wishes.get()) is not None:
            if self._is_closed.wait(max(0.0, rested - time.monotonic())):
                return
            began = time.monotonic()
            self._look([first, *self._waiting()])
            ended = time.monotonic()
            rested = ended + self._rest * (ended - began)

    def _waiting(self) -> list[Wish]:
        return [wish for _ in range(self._wishes.qsize()) if (wish := self._wishes.get()) is not None]

    def _look(self, wishes: list[Wish]) -> None:
        answers = self._answers({wish.client for wish in wishes})
        for wish in wishes:
            if wish.client in answers:
                _answer(wish, answers[wish.client])
            else:
                self._pass_on(wish)

    def _answers(self, clients: Collection[ClientSocket]) -> Answers:
        try:
            return self._find(clients)
        except Exception:
            if not self._has_failed:
                self._has_failed = True
                logger.exception("Looking for clients' processes failed; more of this is not told")
            return {}


def system_owners() -> Owners:
    """Return what this system offers."""
    if sys.platform == "linux":
        from rpc.linux_owners import LinuxOwners  # noqa: PLC0415 - exists on Linux alone

        try:
            return LinuxOwners()
        except OSError:
            # Some sandboxes have no sock_diag.
            pass
    from rpc.portable_owners import ProcessOwners, TableOwners  # noqa: PLC0415

    return TableOwners() if sys.platform == "win32" else ProcessOwners()


def _answer(wish: Wish, owner: Owner | None) -> None:
    if wish.answer.set_running_or_notify_cancel():
        wish.answer.set_result(owner)
