from __future__ import annotations

import io

from rpc.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_how_much_is_done_and_nothing_afterwards() -> None:
    terminal = Terminal()
    with Progress("Reading", 0, terminal) as progress:
        progress.advance(1)
    assert "Reading [" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r\x1b[K")


def test_what_is_done_is_a_share_of_all() -> None:
    terminal = Terminal()
    progress = Progress("Reading", 200, terminal)
    progress.advance(100)
    assert terminal.getvalue().endswith("[###############...............]  50%")


def test_more_than_all_is_all() -> None:
    terminal = Terminal()
    Progress("Reading", 2, terminal).advance(5)
    assert "100%" in terminal.getvalue()


def test_where_there_is_no_terminal_nothing_is_written() -> None:
    stream = io.StringIO()
    with Progress("Reading", 2, stream) as progress:
        progress.advance(1)
    assert stream.getvalue() == ""
