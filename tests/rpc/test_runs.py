from __future__ import annotations

import os
import subprocess
import sys

from rpc.runs import Run, is_alive, run_of


def test_running_process_is_alive() -> None:
    run = run_of(os.getpid())
    assert run is not None
    assert run.pid == os.getpid()
    assert is_alive(run)


def test_process_that_has_ended_is_not_alive() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    run = run_of(process.pid)
    assert is_alive(run)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not is_alive(run), "it is a zombie"
    with process:
        process.wait()
    assert run_of(process.pid) is None
    assert not is_alive(run)


def test_another_process_with_the_same_id_is_not_the_run() -> None:
    run = run_of(os.getpid())
    assert run is not None
    assert not is_alive(Run(run.pid, run.started - 60))


def test_unknown_run_is_not_alive() -> None:
    assert not is_alive(None)
