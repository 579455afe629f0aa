"""The command line: what each command takes, and what its end means.

A command that is about entries takes, last, where to look: a store, a capture, or the URL of an endpoint; without, it
asks the running instance. It is a function of the parsed arguments that returns the exit code; what goes wrong is an
exception whose text is a sentence.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NoReturn

import msgspec

from rpc import serving, sources, watching
from rpc.captures import CaptureError
from rpc.client_link import EntriesError
from rpc.copying import copy_store
from rpc.exporting import export_har
from rpc.progress import Progress
from rpc.records import Access
from rpc.schema import WebSocketMessage
from rpc.store import StoreError

OK, FAILED = 0, 1
"""Exit codes; wrong usage is argparse's 2."""

INTERRUPTED = 130
"""What shells say of a program that Ctrl-C has ended."""

NEWEST = "last"
"""What stands for the newest session: reading a capture gives it a new id each time."""

MAX_PORT = 65535
MAX_LINES = 1000

PROGRAM = "python -m rpc"

EPILOG = """\
examples:
  uv run python -m rpc serve capture.flow       answer extensions about a capture
  uv run python -m rpc tail --filter '~c 500'   the entries of the running mitmdump, as they finish
  uv run python -m rpc list                     its sessions
  uv run python -m rpc show 01JD8Z7V2NDQ31SRQS54PZAQA0 file.db
  uv run python -m rpc export har 01JD8Z7T5M0E9R3Q6W2XKY4ABC file.db -o session.har
  uv run python -m rpc export har last capture.flow -o capture.har

exit codes: 0 done, 1 not found or failed, 2 wrong usage
"""

WHERE = "a store (entries_store), a capture of mitmdump, a HAR file, or the ws:// URL of a running endpoint"
FILE = "a store (entries_store), a capture of mitmdump, or a HAR file"

FAILURES = (sources.SourceError, CaptureError, StoreError, serving.ServingError, EntriesError)
"""Exceptions whose text is for the user."""


class NotFoundError(Exception):
    """There is no such thing; the sentence is for the user."""


def _serve(arguments: argparse.Namespace) -> int:
    with sources.opened_store(Path(arguments.file).expanduser()) as store:
        serving.serve(store, _where(arguments))
    return OK


def _where(arguments: argparse.Namespace) -> serving.Where:
    access = Access(tuple(arguments.origin), arguments.tls_cert, arguments.tls_key)
    return serving.Where(arguments.host, arguments.port, arguments.token, access)


def _list(arguments: argparse.Namespace) -> int:
    with sources.opened(arguments.source) as source:
        sessions = source.sessions()
    width = max((len(f"{session.entries:,}") for session in sessions), default=0)
    for session in sessions:
        print(f"{session.id}  {session.entries:{width},} entries  {session.name}")
    return OK


def _show(arguments: argparse.Namespace) -> int:
    with _source_of_entry(arguments) as (source, session_id):
        entry = source.entry(session_id, arguments.id)
    print(msgspec.json.format(msgspec.json.encode(entry), indent=2).decode())
    return OK


@contextmanager
def _source_of_entry(arguments: argparse.Namespace) -> Iterator[tuple[sources.Source, str]]:
    """Open a source, and say which of its sessions has the entry that is asked for. Raises `NotFoundError`."""
    with sources.opened(arguments.source) as source:
        session_id = sources.session_of(source, arguments.id)
        if session_id is None:
            message = f"There is no entry {arguments.id}."
            raise NotFoundError(message)
        yield source, session_id


def _body(arguments: argparse.Namespace) -> int:
    with _source_of_entry(arguments) as (source, session_id):
        body = source.body(session_id, arguments.id, "request" if arguments.request else "response")
    if body is None:
        message = f"The body is not kept, or has not come: that of {arguments.id}."
        raise NotFoundError(message)
    if arguments.output is None and sys.stdout.isatty() and b"\0" in body:
        message = "The body is no text, and may do harm to a terminal: write it to a file with -o."
        raise NotFoundError(message)
    with _output(arguments.output) as file:
        file.write(body)
    return OK


def _ws(arguments: argparse.Namespace) -> int:
    if arguments.follow:
        watching.follow_messages(arguments.source, arguments.id, json=arguments.json)
        return OK
    with _source_of_entry(arguments) as (source, session_id):
        entry, messages = source.entry(session_id, arguments.id), source.messages(session_id, arguments.id)
    if entry is None or not entry["isWebSocket"] or messages is None:
        message = f"The entry {arguments.id} is no WebSocket, or its messages are not kept."
        raise NotFoundError(message)
    for one in messages:
        watching.print_message(WebSocketMessage.model_validate_json(msgspec.json.encode(one)), json=arguments.json)
    return OK


def _tail(arguments: argparse.Namespace) -> int:
    watching.tail(arguments.source, arguments.filter, arguments.lines, json=arguments.json)
    return OK


def _export_har(arguments: argparse.Namespace) -> int:
    with sources.opened(arguments.source) as source:
        session = _session(source.sessions(), arguments.session)
        if session is None:
            message = f"There is no session {arguments.session}."
            raise NotFoundError(message)
        with _output(arguments.output) as file, Progress("Exporting", session.entries) as progress:
            export_har(source, session, file, lambda: progress.advance(1))
    return OK


def _copy(arguments: argparse.Namespace) -> int:
    copy_store(Path(arguments.store).expanduser(), Path(arguments.target).expanduser())
    return OK


def _session(sessions: Sequence[sources.Session], said: str) -> sources.Session | None:
    """Return the session with this id or, the newest first, with this name; null if there is none."""
    newest_first = sessions[::-1]
    if said == NEWEST:
        return next(iter(newest_first), None)
    by_id = (session for session in newest_first if session.id == said)
    by_name = (session for session in newest_first if session.name == said)
    return next(by_id, None) or next(by_name, None)


@contextmanager
def _output(path: str | None) -> Iterator[BinaryIO]:
    """Yield what to write to: standard output, or a file that has its name only once it is whole."""
    if path is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    target = Path(path).expanduser()
    unfinished = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        with unfinished.open("xb") as file:
            yield file
        unfinished.replace(target)
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > MAX_PORT:
        message = f"it must be between 0 and {MAX_PORT}, not {text}"
        raise argparse.ArgumentTypeError(message)
    return int(text)


type Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - argparse has no public name for it
type Run = Callable[[argparse.Namespace], int]


def _add(commands: Commands, name: str, run: Run, summary: str, description: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=summary, description=description)
    parser.set_defaults(run=run)
    return parser


def _add_serve(commands: Commands) -> None:
    parser = _add(
        commands,
        "serve",
        _serve,
        "answer extensions about a file, without a proxy",
        "Serve a store, a capture or a HAR file on the same endpoint as the addon, until Ctrl-C. What a running"
        " mitmdump adds to a store appears at once. A capture is read first, into a temporary store.",
    )
    parser.add_argument("file", metavar="FILE", help=FILE)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; default: %(default)s")
    parser.add_argument(
        "--port", type=_port, default=8765, help="port to listen on; 0 picks a free one; default: %(default)s"
    )
    parser.add_argument("--token", default="", help="what clients must send; default: a new random one")
    parser.add_argument(
        "--origin",
        action="append",
        default=[],
        help="origin whose pages may connect, such as https://app.example; may be given several times",
    )
    parser.add_argument("--tls-cert", metavar="PEM", help="certificate to serve with TLS")
    parser.add_argument("--tls-key", metavar="PEM", help="its private key, if that is in another file")


def _add_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", nargs="?", help=f"{WHERE}; default: the one started last")


def _add_list(commands: Commands) -> None:
    description = "List the sessions of a source, the oldest first: id, how many entries it has, name."
    _add_source(_add(commands, "list", _list, "list sessions", description))


def _add_show(commands: Commands) -> None:
    parser = _add(commands, "show", _show, "show an entry", "Print an entry as JSON, as the API answers it.")
    parser.add_argument("id", metavar="ID", help="the entry's id")
    _add_source(parser)


def _add_tail(commands: Commands) -> None:
    parser = _add(
        commands,
        "tail",
        _tail,
        "follow entries as they finish",
        "Print a line for each entry that finishes, until Ctrl-C: time, method, status, size, duration, URL.",
    )
    _add_url(parser)
    parser.add_argument(
        "-n", "--lines", type=_count, default=10, help="how many of the last entries; default: %(default)s"
    )
    parser.add_argument("--filter", metavar="EXPRESSION", help="only those that fit, in mitmproxy's filter language")
    _add_json(parser)


def _add_body(commands: Commands) -> None:
    parser = _add(
        commands, "body", _body, "write a body", "Write the body of a response, with its content encoding undone."
    )
    parser.add_argument("id", metavar="ID", help="the entry's id")
    _add_source(parser)
    parser.add_argument("--request", action="store_true", help="the request's body instead")
    parser.add_argument("-o", "--output", metavar="FILE", help="where to write; default: standard output")


def _add_ws(commands: Commands) -> None:
    parser = _add(commands, "ws", _ws, "show the messages of a WebSocket", "Print a line for each message so far.")
    parser.add_argument("id", metavar="ID", help="the entry's id")
    _add_source(parser)
    parser.add_argument("--follow", action="store_true", help="go on until it ends; not of a file")
    _add_json(parser)


def _add_url(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", metavar="URL", nargs="?", help="the ws:// URL of a running endpoint; default: the one started last"
    )


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="as JSON, one to a line")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) > MAX_LINES:
        message = f"it must be between 0 and {MAX_LINES}, not {text}"
        raise argparse.ArgumentTypeError(message)
    return int(text)


def _add_export(commands: Commands) -> None:
    exporting = commands.add_parser("export", help="write a session in another format").add_subparsers(
        title="formats", metavar="FORMAT", required=True
    )
    parser = _add(
        exporting,
        "har",
        _export_har,
        "HAR 1.2, which browsers' developer tools open",
        "Write a session as an HTTP Archive (HAR 1.2). What HAR has no field for (TLS, JA3, JA4, HTTP/2, process,"
        " WebSocket messages, ids) is in fields that begin with an underscore.",
    )
    parser.add_argument("session", metavar="SESSION", help=f"the session's id or name, or {NEWEST}: the newest")
    _add_source(parser)
    parser.add_argument("-o", "--output", metavar="FILE", help="where to write; default: standard output")


def _add_copy(commands: Commands) -> None:
    parser = _add(
        commands,
        "copy",
        _copy,
        "copy a store, also while it is in use",
        "Copy a store with all its bodies, as it is at one moment. Nothing is written over.",
    )
    parser.add_argument("store", metavar="STORE", help="the store (entries_store)")
    parser.add_argument("target", metavar="TARGET", help="what the copy is to be called")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Look at recorded entries: those of a running mitmdump, of a store, or of a capture.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = made.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in (_add_tail, _add_list, _add_show, _add_body, _add_ws, _add_serve, _add_export, _add_copy):
        add(commands)
    return made


def _check(made: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """End with exit code 2 if arguments are wrong that argparse cannot judge by themselves."""
    if arguments.run is _serve and (fault := _where(arguments).fault()):
        made.error(fault)


def _end(*_: object) -> NoReturn:
    """End as Ctrl-C does, tidying up."""
    raise KeyboardInterrupt


def main(words: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    made = parser()
    arguments = made.parse_args(words)
    _check(made, arguments)
    signal.signal(signal.SIGTERM, _end)
    try:
        code: int = arguments.run(arguments)
    except (*FAILURES, NotFoundError) as error:
        return _fail(str(error))
    except BrokenPipeError:  # who reads has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        return _fail(f"{error.filename or 'The output'} cannot be written: {error.strerror or error}.")
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


def _fail(sentence: str) -> int:
    print(sentence, file=sys.stderr)
    return FAILED
