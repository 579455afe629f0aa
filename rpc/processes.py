"""Which process of this machine owns a client's socket: looked up at once, beside the loop, one pass for all that wait.

First comes a look where the owner most likely is, which must not be held up: a short-lived client is gone within
milliseconds. What that does not find goes to a thread that looks everywhere, but only part of the time.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from queue import SimpleQueue
from typing import NamedTuple, Protocol

from rpc.client_socket import Answers, ClientSocket, Owner

logger = logging.getLogger(__name__)

REST = 19
"""How many times as long as a look everywhere took the next one waits: it costs a twentieth of one core at the most."""

type Answer = Future[Owner | None]


class Owners(Protocol):
    """What a system can tell of sockets' owners.

    `is_prompt`: the fast look takes about as long as handing it to another thread would, and so is not handed over.
    """

    is_prompt: bool

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
    """Finds the owners of clients' sockets. `owners` is called twice: for the fast look and for the thorough one."""

    def __init__(self, owners: Callable[[], Owners] | None = None) -> None:
        make = owners or system_owners
        fast, thorough = make(), make()
        self._thorough = _Looker(thorough, thorough.find_thoroughly, self._give_up, rest=REST)
        self._fast = _Looker(fast, fast.find_fast, self._thorough.add)
        self._threads = [self._thorough] if fast.is_prompt else [self._fast, self._thorough]
        for looker in self._threads:
            threading.Thread(target=looker.run, name="processes", daemon=True).start()

    def submit(self, clients: Sequence[ClientSocket | None]) -> list[Answer]:
        """Begin to look for the owners of these sockets; return the answers to come. Always called by the same thread.

        An answer is null if there is no owner on this machine, the system does not tell, or there is no socket.
        """
        answers: list[Answer] = [Future() for _ in clients]
        wishes = []
        for client, answer in zip(clients, answers, strict=True):
            if client is None:
                answer.set_result(None)
            else:
                wishes.append(Wish(client, answer))
        if self._fast in self._threads:
            self._fast.add(wishes)
        else:
            self._fast.look(wishes)
        return answers

    def close(self) -> None:
        """End the threads; look-ups under way are not answered any more."""
        if self._fast not in self._threads:
            self._fast.owners.close()
        for looker in self._threads:
            looker.end()

    def _give_up(self, wishes: list[Wish]) -> None:
        for wish in wishes:
            _answer(wish, None)


class _Looker:
    """Answers wishes, all that wait at once, and passes on those that it cannot answer."""

    def __init__(
        self,
        owners: Owners,
        find: Callable[[Collection[ClientSocket]], Answers],
        pass_on: Callable[[list[Wish]], None],
        *,
        rest: float = 0,
    ) -> None:
        self.owners = owners
        self._find = find
        self._pass_on = pass_on
        self._rest = rest
        self._has_failed = False
        self._has_ended = threading.Event()
        self._wishes: SimpleQueue[list[Wish]] = SimpleQueue()

    def add(self, wishes: list[Wish]) -> None:
        """Take in wishes for the thread."""
        self._wishes.put(wishes)

    def end(self) -> None:
        """End the thread."""
        self._has_ended.set()
        self._wishes.put([])

    def run(self) -> None:
        """Answer until the end: the thread's work."""
        pause = 0.0
        while not self._has_ended.wait(pause):
            wishes = self._waiting()
            began = time.monotonic()
            self.look(wishes)
            pause = self._rest * (time.monotonic() - began)
        self.owners.close()

    def look(self, wishes: list[Wish]) -> None:
        """Answer wishes now."""
        if not wishes:
            return
        answers = self._answers({wish.client for wish in wishes})
        unanswered = []
        for wish in wishes:
            if wish.client in answers:
                _answer(wish, answers[wish.client])
            else:
                unanswered.append(wish)
        if unanswered:
            self._pass_on(unanswered)

    def _waiting(self) -> list[Wish]:
        """Wait for wishes and return all there are."""
        wishes = list(self._wishes.get())
        for _ in range(self._wishes.qsize()):
            wishes += self._wishes.get()
        return wishes

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
