"""Ids: ULIDs that sort in the order in which they were minted, within a millisecond too, and if the clock is set back.

The ULID specification's section "Monotonicity" says how: within a millisecond each id is the one before it plus one.
"""

from __future__ import annotations

import secrets
import time

RANDOM_BITS = 80
CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
PAIRS = [first + second for first in CROCKFORD for second in CROCKFORD]
PAIR_BITS = 10
SHIFTS = range(12 * PAIR_BITS, -1, -PAIR_BITS)
"""Where in a number the bits of each pair of characters begin, from the left."""


class _Mint:
    """Remembers the latest id."""

    def __init__(self) -> None:
        self._latest = 0

    def next(self) -> int:
        """Return a number of 128 bits that is above all before it."""
        milliseconds = time.time_ns() // 1_000_000
        if milliseconds > self._latest >> RANDOM_BITS:
            self._latest = milliseconds << RANDOM_BITS | secrets.randbits(RANDOM_BITS)
        else:
            self._latest += 1
        return self._latest


_mint = _Mint()


def new_id() -> str:
    """Return a new ULID: 26 upper-case Crockford characters."""
    number = _mint.next()
    return "".join([PAIRS[number >> shift & len(PAIRS) - 1] for shift in SHIFTS])
