from __future__ import annotations

import pytest
from mitmproxy.exceptions import OptionsError
from mitmproxy.options import Options

from addon import limits
from rpc.records import Limits


def options(**said: object) -> Options:
    known = Options()
    for name, kind, default, explanation in limits.OPTIONS:
        known.add_option(name, kind, default, explanation)
    known.update(**said)
    return known


def test_the_defaults_are_those_of_the_endpoint() -> None:
    assert limits.limits(options()) == Limits()


def test_every_limit_has_an_option() -> None:
    assert {limit.field for limit in limits.LIMITS} == set(Limits.__struct_fields__)


def test_sizes_are_told_as_text_and_the_others_as_numbers() -> None:
    said = limits.limits(options(rpc_max_message="64k", rpc_max_unread="16m", rpc_max_connections=3))
    assert (said.message, said.unread, said.connections) == (64 * 1024, 16 * 1024**2, 3)


@pytest.mark.parametrize("limit", limits.LIMITS, ids=lambda limit: limit.option)
def test_what_is_too_little_is_refused_with_a_sentence(limit: limits.Limit) -> None:
    less: object = f"{limit.least - 1}" if limit.is_size else limit.least - 1
    with pytest.raises(OptionsError, match=rf"^{limit.option} must be .* or more, not {less!r}\.$"):
        limits.limits(options(**{limit.option: less}))
    least: object = f"{limit.least}" if limit.is_size else limit.least
    assert getattr(limits.limits(options(**{limit.option: least})), limit.field) == limit.least


@pytest.mark.parametrize("size", ["", "much", "-1m"])
def test_what_is_no_size_is_refused(size: str) -> None:
    with pytest.raises(OptionsError, match=r"^rpc_max_message must be a size of 4k or more, not "):
        limits.limits(options(rpc_max_message=size))
