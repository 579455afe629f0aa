"""Failed attempts to come in, for each address: after a few of them, the answers to further ones are slow.

Only answers to wrong tokens are: whoever shares an address with an attacker (on loopback, everybody does) and has the
token is never kept out. What an attacker may try is bounded all the same, by the number of connections that wait.
"""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable

FREE_FAILURES = 10
"""Failures of an address that are answered at once."""

FORGIVING_SECONDS = 6.0
"""How long it takes until one of them is forgotten."""

PAUSE_SECONDS = 1.0
"""How long the answers to further ones take."""

MAX_ADDRESSES = 1024
"""Addresses that are remembered; beyond them, those are forgotten that have not failed for the longest time."""

V6_NETWORK_BITS = 64
"""Bits of an IPv6 address that count: the rest can be chosen by whoever has one (RFC 4291 section 2.5.1)."""


class Failures:
    """The failures of every address: each is a debt that shrinks by one in `FORGIVING_SECONDS`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._forgiven_at: OrderedDict[str, float] = OrderedDict()

    def pause(self, address: str) -> float:
        """Count a failure, and return how many seconds its answer is to wait."""
        key, now = _network(address), self._clock()
        forgiven_at = max(self._forgiven_at.pop(key, now), now) + FORGIVING_SECONDS
        # No debt beyond one more than is free, so that an attack is over soon after its end.
        self._forgiven_at[key] = min(forgiven_at, now + (FREE_FAILURES + 1) * FORGIVING_SECONDS)
        if len(self._forgiven_at) > MAX_ADDRESSES:
            self._forgiven_at.popitem(last=False)
        return PAUSE_SECONDS if forgiven_at > now + FREE_FAILURES * FORGIVING_SECONDS else 0.0


def _network(address: str) -> str:
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if found.version == 4:
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((int(found) >> V6_NETWORK_BITS << V6_NETWORK_BITS, V6_NETWORK_BITS)))
