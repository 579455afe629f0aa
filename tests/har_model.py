"""HAR 1.2 as strict models, written from its specification (http://www.softwareishard.com/blog/har-12-spec/).

Beside the fields that it names there may only be such that begin with an underscore.
"""

# ruff: noqa: N815 - the names are HAR's

from __future__ import annotations

from datetime import datetime
from ipaddress import IPv4Address, IPv6Address
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator


def _is_instant(text: str) -> str:
    assert datetime.fromisoformat(text).tzinfo is not None
    return text


Instant = Annotated[str, AfterValidator(_is_instant)]
Number = Annotated[float, Field(ge=0)]
Optional = Annotated[float, Field(ge=-1)]
Size = Annotated[int, Field(ge=-1)]


class Har(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)

    @model_validator(mode="after")
    def _extras_are_marked(self) -> Self:
        assert all(name.startswith("_") for name in self.model_extra or {}), self.model_extra
        return self


class Cookie(Har):
    name: str
    value: str
    path: str = ""
    domain: str = ""
    expires: Instant | None = None
    httpOnly: bool = False
    secure: bool = False


class Pair(Har):
    name: str
    value: str


class PostData(Har):
    mimeType: str
    params: list[Pair]
    text: str


class Request(Har):
    method: str
    url: Annotated[str, Field(pattern=r"^https?://[^#]+$")]
    httpVersion: str
    cookies: list[Cookie]
    headers: list[Pair]
    queryString: list[Pair]
    postData: PostData | None = None
    headersSize: Size
    bodySize: Size


class Content(Har):
    size: Size
    compression: int = 0
    mimeType: str
    text: str | None = None
    encoding: Literal["base64"] | None = None


class Response(Har):
    status: Annotated[int, Field(ge=0)]
    statusText: str
    httpVersion: str
    cookies: list[Cookie]
    headers: list[Pair]
    content: Content
    redirectURL: str
    headersSize: Size
    bodySize: Size


class Timings(Har):
    blocked: Optional
    dns: Optional
    connect: Optional
    send: Number
    wait: Number
    receive: Number
    ssl: Optional


class Entry(Har):
    startedDateTime: Instant
    time: Number
    request: Request
    response: Response
    cache: dict[str, object]
    timings: Timings
    serverIPAddress: Annotated[str, AfterValidator(lambda text: str(_address(text)))] | None = None
    connection: str | None = None

    @model_validator(mode="after")
    def _time_is_the_sum(self) -> Self:
        phases = self.timings
        each = (phases.blocked, phases.dns, phases.connect, phases.send, phases.wait, phases.receive)
        assert self.time == sum(phase for phase in each if phase != -1)
        return self


def _address(text: str) -> IPv4Address | IPv6Address:
    return IPv6Address(text) if ":" in text else IPv4Address(text)


class Creator(Har):
    name: str
    version: str


class Log(Har):
    version: Literal["1.2"]
    creator: Creator
    pages: list[object]
    entries: list[Entry]
    comment: str = ""


class File(Har):
    log: Log


def check(json: bytes) -> File:
    """Return a HAR file's content. Raises `pydantic.ValidationError` if it is not HAR 1.2."""
    return File.model_validate_json(json)
