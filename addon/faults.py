"""Recording must never fail a flow: what goes wrong in a hook is logged once per kind, counted, and left behind."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

logger = logging.getLogger(__name__)


class Faults:
    """How often which kind of fault has happened."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def count(self, kind: str, error: BaseException) -> None:
        """Count a fault; log the first of its kind."""
        self.counts[kind] += 1
        if self.counts[kind] == 1:
            message = "Recording is incomplete: %s failed; more of this will only be counted"
            logger.warning(message, kind, exc_info=error)


FAULTS = Faults()
"""Those of this process."""


def guarded[Hook: Callable[..., Any]](hook: Hook) -> Hook:
    """Make a hook count what it raises instead of letting mitmproxy report it each time."""

    def call(*arguments: Any) -> Any:
        try:
            return hook(*arguments)
        except Exception as error:
            FAULTS.count(hook.__name__, error)

    return call  # type: ignore[return-value]
