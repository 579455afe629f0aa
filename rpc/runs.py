"""Runs of the proxy: which process captures a session, and whether it still does."""

from __future__ import annotations

from typing import NamedTuple

import psutil

CLOCK_SECONDS = 2.0
"""By how much two readings of when a process started may differ: systems reckon it from the clock, which is set."""


class Run(NamedTuple):
    """The proxy's process: its id, and when it started (Unix time), since ids are used again."""

    pid: int
    started: float


def run_of(pid: int) -> Run | None:
    """Return the process with this id; null if there is none or the system does not tell."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return Run(pid, process.create_time())
    except psutil.Error:
        return None


def is_alive(run: Run | None) -> bool:
    """Return whether the run's process is still there."""
    found = run_of(run.pid) if run is not None else None
    return found is not None and run is not None and abs(found.started - run.started) < CLOCK_SECONDS
