"""Classes of mitmproxy's proxy core that recording needs to differ, put in place by name while it goes on.

mitmproxy looks each of them up by its name whenever it makes one; so what is there already stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType


@contextmanager
def replaced(module: ModuleType | type, replacements: Mapping[str, object]) -> Iterator[None]:
    """Put `replacements` under their names into a module or class while this is entered."""
    originals = {name: getattr(module, name) for name in replacements}
    for name, replacement in replacements.items():
        setattr(module, name, replacement)
    try:
        yield
    finally:
        for name, original in originals.items():
            setattr(module, name, original)
