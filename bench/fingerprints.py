"""How many ClientHellos a second one core fingerprints: `python -m bench.fingerprints`, about three seconds.

Seconds of processor time, so that what else the machine does counts as little as can be.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from time import process_time

from rpc.fingerprints import Transport, fingerprints

VECTORS = Path(__file__).parents[1] / "tests" / "rpc" / "client_hellos.json"
CHROME = "arkime-tls-split-client-hello-f0005"
SECONDS = 1.0
BATCH = 500

type Hello = tuple[bytes, Transport]


def read_hellos() -> dict[str, Hello]:
    """Return the ClientHellos of the tests by name."""
    vectors = json.loads(VECTORS.read_text())
    return {vector["name"]: (bytes.fromhex(vector["client_hello_hex"]), vector["transport"]) for vector in vectors}


def hellos_per_second(hellos: Sequence[Hello]) -> float:
    """Return how many of the given ClientHellos, taken in turn, get both fingerprints in a second, without a cache."""
    source = cycle(hellos)
    done, start = 0, process_time()
    while (elapsed := process_time() - start) < SECONDS:
        for hello, transport in islice(source, BATCH):
            fingerprints(hello, transport)
        done += BATCH
    return done / elapsed


def main() -> None:
    """Print the figures, after a first round that only warms up."""
    hellos = read_hellos()
    everything = list(hellos.values())
    hellos_per_second(everything)
    chrome = hellos[CHROME]
    print(f"Chrome, {len(chrome[0])} bytes: {hellos_per_second([chrome]):,.0f} hellos/s (JA3 and JA4)")
    print(f"all {len(everything)} vectors: {hellos_per_second(everything):,.0f} hellos/s (JA3 and JA4)")


if __name__ == "__main__":
    main()
