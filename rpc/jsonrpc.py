"""JSON-RPC 2.0: the text of a message in, the text of its answer out.

Nothing here knows of sockets, of the store or of what a method does. Result text is spliced into the answer as it is.
A long answer comes in pieces, so that it need never be held as a whole.

Readings of what the specification and RFC 8259 leave open:

- A lone surrogate, raw or escaped, reads as U+FFFD, and an id that has one is no valid id. None gets into an answer.
- Of an object's repeated members the last one counts, as with ECMAScript's `JSON.parse`; a repeated `jsonrpc` or
  `method` must be valid each time.
- Nesting beyond a limit is not JSON (RFC 8259 section 9), nor is a text with thousands of lone surrogates.
- Neither is a text of more values than a batch of as many requests as may be takes; such a batch is no request.
- `params` that is neither an object, an array nor null makes the object no request: -32600 (JSON-RPC 2.0 section 4.2).
- A notification is carried out; whatever comes of it, nothing is answered.
"""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Literal

import msgspec
import pydantic
import pydantic_core

from rpc.json_shape import has_more_values, is_deeper
from rpc.records import Limits
from rpc.turns import Turns

log = logging.getLogger(__name__)

MAX_PROBLEMS = 16
"""Parameters that one -32602 names at the most."""

LONG_PARAMS = 4096
"""Bytes of parameters that may be more than can be looked at."""

MAX_NAME = 64
"""Characters of a parameter's name, which the sender may have made up, that an error repeats at the most."""

MAX_MENDED = 2048
"""Lone surrogates that are replaced in one message."""

VALUES_PER_REQUEST = 16
"""Values that a message may have for each request that a batch may have. A request has about eight."""

MEMBERS_PER_TURN = 64
"""Members of a batch that are answered before other tasks get their turn, if they do not take long."""

MAX_WHOLE = 2**20
"""Characters of a batch's answers that are held; further members are answered when these have been taken."""

USUAL = Limits()

type Text = str | AsyncGenerator[str]
"""JSON text, whole or as pieces that make it up."""


@dataclass(frozen=True)
class Method:
    """A method: its name, the model of its parameters, and what answers it.

    The model's fields, in their order, are the parameters, under their aliases; it is held to be strict and closed.
    `call` takes the validated parameters and returns the result as JSON text, `"null"` for null, or an awaitable of it.
    The text must be valid JSON with no escaped lone surrogate; one with a raw surrogate is answered with -32603.
    An awaitable may also give the text in pieces. What goes wrong before that is answered; then it is too late.
    A method that `needs_caller` takes, as its second argument, what `Dispatcher.answer` was given for the client.
    """

    name: str
    params: type[pydantic.BaseModel]
    call: Callable[..., str | Awaitable[Text]]
    needs_caller: bool = False


@dataclass(frozen=True)
class Problem:
    """What is wrong with one parameter: its name on the wire, and the reason. It never has the value."""

    parameter: str
    reason: str


class NotJson(Exception):  # noqa: N818  they name what came, not what failed here
    """The text is no JSON."""


class NotARequest(Exception):  # noqa: N818
    """The JSON is no request object."""


class TooComplex(NotJson):
    """The text has too many values, or too deep ones, to be read."""


class TooLongBatch(NotARequest):
    """The batch has too many requests."""


class UnknownMethod(Exception):  # noqa: N818
    """There is no method of that name."""


class TooMuch(Exception):  # noqa: N818
    """The client has too much of something already."""


class InvalidParams(Exception):  # noqa: N818
    """The parameters do not fit the method."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("; ".join(f"{problem.parameter} {problem.reason}" for problem in problems))
        self.problems = problems


_ERRORS: dict[type[Exception], tuple[int, str]] = {
    NotJson: (-32700, "Parse error"),
    TooComplex: (-32700, "Parse error"),
    NotARequest: (-32600, "Invalid Request"),
    TooLongBatch: (-32600, "Invalid Request"),
    UnknownMethod: (-32601, "Method not found"),
    InvalidParams: (-32602, "Invalid params"),
    TooMuch: (-32000, "Too many subscriptions"),
}
_OUR_FAULT = (-32603, "Internal error")

# By pydantic's types of errors, which are stable where its sentences are not.
_REASONS = {
    "missing": "is required",
    "extra_forbidden": "is not a parameter of this method",
    "string_type": "must be a string",
    "int_type": "must be an integer",
    "bool_type": "must be a boolean",
    "list_type": "must be an array",
    "literal_error": "must be {expected}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "string_too_long": "must have at most {max_length} characters",
    "too_long": "must have at most {max_length} items",
}
_OTHER_REASON = "is not acceptable ({type})"
_UNREADABLE_REASON = "is nested too deeply or has a number that is too long"

_ABSENT = msgspec.Raw()


class _Request(msgspec.Struct, frozen=True, gc=False):
    jsonrpc: Literal["2.0"]
    method: str
    id: msgspec.Raw = _ABSENT
    params: msgspec.Raw = _ABSENT


class _Identified(msgspec.Struct, frozen=True, gc=False):
    id: msgspec.Raw = _ABSENT


_REQUEST = msgspec.json.Decoder(_Request)
_IDENTIFIED = msgspec.json.Decoder(_Identified)
_MEMBERS = msgspec.json.Decoder(list[msgspec.Raw])
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ANY = msgspec.json.Decoder(msgspec.Raw)
_STRING = msgspec.json.Decoder(str)

# RecursionError: the decoders give up on deep nesting.
_UNDECODABLE = (msgspec.DecodeError, RecursionError)

_WHITESPACE = " \t\n\r"
_PLAIN_ID = re.compile(r'null|-?[0-9]+|"[^"\\]*"')
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_MAY_BE_LONE = re.compile(r"\\u[dD][89a-fA-F]|[\ud800-\udfff]")
# What is none is matched as far as it goes, so that there are few matches.
_ESCAPE = re.compile(
    r"(?:[^\\\ud800-\udfff]++|\\[^u]"
    r"|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"  # a pair is one character
    r"|\\(?!u[dD][89a-fA-F][0-9a-fA-F]{2}).)++"
    r"|(?P<lone>\\u[dD][89a-fA-F][0-9a-fA-F]{2}|[\ud800-\udfff])",
    re.DOTALL,
)
# U+FFFD in a spelling that no encoder uses, so that an id which had a surrogate is still told from one that had not.
_MENDED = r"\uFffD"


def json_string(text: str) -> str:
    """Return text as a JSON string, quotes included; a surrogate becomes U+FFFD."""
    try:
        return msgspec.json.encode(text).decode()
    except UnicodeEncodeError:
        return msgspec.json.encode(_SURROGATE.sub("\ufffd", text)).decode()


def wire_error(exc: Exception) -> str:
    """Return the error object, as JSON text, that answers an exception; one that is not ours to send is logged.

    Invalid params carry `data`, one object for each of the first `MAX_PROBLEMS` parameters that are wrong:
    `[{"parameter": "entryId", "reason": "is required"}]`. A name is as on the wire, cut after `MAX_NAME` characters;
    of an array that is too long, the third value is `params[2]`. What is too much for a limit says so in a sentence.
    """
    if type(exc) not in _ERRORS:
        log.exception("A request could not be answered", exc_info=exc)  # noqa: LOG004  it is called where one is handled
    code, message = _ERRORS.get(type(exc), _OUR_FAULT)
    return f'{{"code":{code},"message":"{message}"{_data(exc)}}}'


def _data(exc: Exception) -> str:
    if isinstance(exc, InvalidParams):
        return f',"data":{msgspec.json.encode(exc.problems).decode()}'
    return f',"data":{json_string(str(exc))}' if isinstance(exc, (TooComplex, TooLongBatch)) else ""


class Dispatcher:
    """Answers JSON-RPC messages with a fixed set of methods. Raises `ValueError` if two have the same name.

    A message may have up to `batch` requests, and arrays and objects up to `depth` in each other.
    """

    def __init__(self, methods: Iterable[Method], *, batch: int = USUAL.batch, depth: int = USUAL.depth) -> None:
        self._batch = batch
        self._depth = depth
        listed = tuple(methods)
        self._methods = {method.name: _Callee(method) for method in listed}
        if len(self._methods) < len(listed):
            raise ValueError("two methods have the same name")

    @property
    def names(self) -> list[str]:
        """The names of the methods."""
        return list(self._methods)

    async def answer(self, text: str, caller: object = None) -> Text | None:
        """Return the answer to one message, a request or a batch; None if there is nothing to send.

        `caller` stands for the client, for the methods that need it.
        The answers to a batch are in the order of its requests. Raises nothing but what is no `Exception`,
        such as `asyncio.CancelledError`. Pieces, though, may raise anything, and are to be closed.
        """
        if has_more_values(text, self._batch * VALUES_PER_REQUEST) or is_deeper(text, self._depth):
            return _failure("null", TooComplex("too many values, or nested too deeply"))
        text = _mended(text)
        if text.lstrip(_WHITESPACE).startswith("["):
            return await self._answer_batch(text, caller)
        return await self._answer_one(text, caller)

    async def _answer_batch(self, text: str, caller: object) -> Text | None:
        try:
            members = _MEMBERS.decode(text)
        except _UNDECODABLE:
            return _failure("null", NotJson())
        if not members:
            return _failure("null", NotARequest())
        if len(members) > self._batch:
            return _failure("null", TooLongBatch(f"more than {self._batch} requests"))
        return await _array(self._answer_each(members, caller))

    async def _answer_each(self, members: list[msgspec.Raw], caller: object) -> AsyncGenerator[Text]:
        turns = Turns(MEMBERS_PER_TURN)
        for member in members:
            answer = await self._answer_one(member, caller)
            await turns.step()
            if answer is not None:
                yield answer

    async def _answer_one(self, source: str | msgspec.Raw, caller: object) -> Text | None:
        try:
            request = _REQUEST.decode(source)
            identity, params = _identity(request.id), _structured(request.params)
        except (*_UNDECODABLE, NotARequest):
            return _refusal(source)
        try:
            callee = self._callee(request.method)
            result = callee.call(callee.arguments(params), caller)
            answer = _success(identity, result if isinstance(result, str) else await result)
        except Exception as exc:
            answer = _failure(identity, exc)
        return None if identity is None else answer

    def _callee(self, name: str) -> _Callee:
        try:
            return self._methods[name]
        except KeyError:
            raise UnknownMethod from None


class _Callee:
    """A method, ready to be called: how to make its parameters from JSON text."""

    def __init__(self, method: Method) -> None:
        model = _closed(method.params)
        self._method = method
        self._validate = model.__pydantic_validator__.validate_json
        self._names = tuple(field.alias or name for name, field in model.model_fields.items())

    def call(self, arguments: pydantic.BaseModel, caller: object) -> str | Awaitable[Text]:
        """Call the method."""
        return self._method.call(arguments, caller) if self._method.needs_caller else self._method.call(arguments)

    def arguments(self, params: bytes) -> pydantic.BaseModel:
        """Return the validated parameters. Raises `InvalidParams`."""
        if params.startswith(b"["):
            params = self._named(params)
        elif len(params) > LONG_PARAMS:
            params = self._shortened(params)
        try:
            validated: pydantic.BaseModel = self._validate(params)
        except pydantic.ValidationError as exc:
            raise InvalidParams(_problems(exc, params)) from None
        return validated

    def _named(self, array: bytes) -> bytes:
        # Values beyond the last parameter get names of their own, and are refused under them.
        values = _MEMBERS.decode(array)[: len(self._names) + MAX_PROBLEMS]
        surplus = (f"params[{position}]" for position in range(len(self._names), len(values)))
        return msgspec.json.encode(dict(zip((*self._names, *surplus), values, strict=False)))

    def _shortened(self, params: bytes) -> bytes:
        """Return an object without members that no error would name: each takes as long as a request."""
        members = _OBJECT.decode(params)
        unknown = [name for name in members if name not in self._names]
        for name in unknown[MAX_PROBLEMS:]:
            del members[name]
        return msgspec.json.encode(members) if len(unknown) > MAX_PROBLEMS else params


def _closed(model: type[pydantic.BaseModel]) -> type[pydantic.BaseModel]:
    # Models that may be filled in by field name must not be so from the wire, where only the alias is the name.
    class Closed(model):  # type: ignore[valid-type, misc]  # a base that is known only here
        model_config = pydantic.ConfigDict(strict=True, extra="forbid", populate_by_name=False)

    return Closed


def _mended(text: str) -> str:
    """Return the text of a message with its lone surrogates replaced: the decoders refuse them, pairs apart."""
    if (text.isascii() and r"\u" not in text) or not _MAY_BE_LONE.search(text):
        return text
    # Each may have a match before it that is none.
    return _ESCAPE.sub(lambda match: _MENDED if match["lone"] else match[0], text, count=2 * MAX_MENDED)


def _identity(raw: msgspec.Raw) -> str | None:
    """Return the id as JSON text, None if it is absent. Raises `NotARequest` if it is no valid id."""
    text = str(raw, "utf-8")
    if _PLAIN_ID.fullmatch(text):
        return text
    if not text:
        return None
    if not text.startswith('"') or _MENDED in text:
        raise NotARequest
    return json_string(_STRING.decode(text))


def _structured(raw: msgspec.Raw) -> bytes:
    """Return the parameters as JSON text, an object or an array. Raises `NotARequest` if they are neither."""
    text = bytes(raw)
    if text.startswith((b"{", b"[")):
        return text
    if text in {b"", b"null"}:
        return b"{}"
    raise NotARequest


def _refusal(source: str | msgspec.Raw) -> str:
    """Return the answer to what cannot be read as a request, with its id if that much can be read."""
    try:
        _ANY.decode(source)
    except _UNDECODABLE:
        return _failure("null", NotJson())
    try:
        identity = _identity(_IDENTIFIED.decode(source).id)
    except (msgspec.ValidationError, NotARequest):
        identity = None
    return _failure(identity or "null", NotARequest())


def _problems(exc: pydantic.ValidationError, params: bytes) -> tuple[Problem, ...]:
    errors = exc.errors(include_url=False, include_input=False)
    if errors[0]["type"] == "json_invalid":
        return _unreadable(params)
    return tuple(_problem(error) for error in errors[:MAX_PROBLEMS])


def _problem(error: pydantic_core.ErrorDetails) -> Problem:
    name = ".".join(str(part) for part in error["loc"])
    reason = _REASONS.get(error["type"], _OTHER_REASON)
    return Problem(name[:MAX_NAME], reason.format_map({**error.get("ctx", {}), "type": error["type"]}))


def _unreadable(params: bytes) -> tuple[Problem, ...]:
    """Return which parameters pydantic's parser refuses: its limits are narrower than those of the message's."""
    members = _OBJECT.decode(params).items()
    names = [name for name, value in members if not _readable(value)]
    # None is to blame that is left if a name was repeated: the decoder kept the last value.
    return tuple(Problem(name[:MAX_NAME], _UNREADABLE_REASON) for name in (names or ["params"])[:MAX_PROBLEMS])


def _readable(value: msgspec.Raw) -> bool:
    try:
        pydantic_core.from_json(b"[%b]" % bytes(value))  # as deep as it stood in the object
    except ValueError:
        return False
    return True


def _success(identity: str | None, result: Text) -> Text:
    if not isinstance(result, str):
        return _in_pieces(f'{{"jsonrpc":"2.0","id":{identity},"result":', result, "}")
    if not result.isascii():
        result.encode()  # raises on a surrogate, which must not leave
    return f'{{"jsonrpc":"2.0","id":{identity},"result":{result}}}'


async def _in_pieces(head: str, result: AsyncGenerator[str], tail: str) -> AsyncGenerator[str]:
    async with aclosing(result):
        yield head
        async for piece in result:
            yield piece
        yield tail


async def _array(answers: AsyncGenerator[Text]) -> Text | None:
    """Return the answers as an array, None if there are none. They are taken at once as far as they are short."""
    held: list[str] = []
    size = 0
    async for answer in answers:
        if not isinstance(answer, str) or size + len(answer) > MAX_WHOLE:
            return _array_in_pieces(held, answer, answers)
        held.append(answer)
        size += len(answer)
    return f"[{','.join(held)}]" if held else None


async def _array_in_pieces(held: list[str], answer: Text, further: AsyncGenerator[Text]) -> AsyncGenerator[str]:
    async with aclosing(further):
        yield f"[{','.join(held)}," if held else "["
        held.clear()
        async for piece in _pieces(answer):
            yield piece
        async for another in further:
            yield ","
            async for piece in _pieces(another):
                yield piece
        yield "]"


async def _pieces(text: Text) -> AsyncGenerator[str]:
    if isinstance(text, str):
        yield text
        return
    async with aclosing(text):
        async for piece in text:
            yield piece


def _failure(identity: str | None, exc: Exception) -> str:
    return f'{{"jsonrpc":"2.0","id":{identity},"error":{wire_error(exc)}}}'
