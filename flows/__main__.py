"""Record the captures anew: `python -m flows [NAME …]`, some seconds each.

Writes `NAME.flow`, which mitmdump saved, and `NAME.json`, what the API told of it while it was live.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from flows.snapshot import Snapshot, settled
from flows.subjects import SUBJECTS, Peers
from tests.peers.proxy import recording

FOLDER = Path(__file__).parent


def record(name: str, flow: Path) -> Snapshot:
    """Record one subject into a file, and return what the API told of it."""
    with tempfile.TemporaryDirectory() as folder, Peers(Path(folder)) as peers:
        trusted = f"ssl_verify_upstream_trusted_ca={peers.authority.ca}"
        with recording(Path(folder) / "confdir", "--set", trusted, "-w", str(flow)) as proxy:
            count = SUBJECTS[name](proxy, peers)
            return settled(proxy.api, count)


def main() -> int:
    """Record what was asked for, or everything."""
    parser = argparse.ArgumentParser(prog="python -m flows", description="Record the captures in this folder anew.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(SUBJECTS)}; default: all")
    names = parser.parse_args().names or list(SUBJECTS)
    if unknown := set(names) - set(SUBJECTS):
        parser.error(f"no such subject: {', '.join(sorted(unknown))}")
    for name in names:
        flow = FOLDER / f"{name}.flow"
        snapshot = record(name, flow)
        flow.with_suffix(".json").write_text(json.dumps(snapshot, indent=1, ensure_ascii=False) + "\n")
        print(f"{name}: {len(snapshot['entries'])} entries, {flow.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
