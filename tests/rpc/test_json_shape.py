from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpc.json_shape import has_more_values, is_deeper

VALUES = st.recursive(
    st.none() | st.integers() | st.text('[]{},"\\é😀a', max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('[]{},"\\a', max_size=3), inner, max_size=3),
    max_leaves=20,
)


def depth(value: object) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)


def values(value: object) -> int:
    """Count openings, and members but the first of each."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(len(inner) - 1, 0) + sum(map(values, inner))


@given(VALUES, st.booleans())
def test_depth_and_values_are_those_of_the_decoded_json(value: object, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    assert not is_deeper(text, depth(value))
    assert not has_more_values(text, values(value))
    if depth(value):
        assert is_deeper(text, depth(value) - 1)
        assert has_more_values(text, values(value) - 1)


@pytest.mark.parametrize("text", ["", "]", "}{", '"', '"\\', "[[[", "\x00", "\ud800", '{"a":"\udc80[["'])
def test_what_is_no_json_raises_nothing(text: str) -> None:
    assert is_deeper(text, 3) in {True, False}
    assert has_more_values(text, 3) in {True, False}
