"""A line that is open, as its group knows it."""

from dataclasses import dataclass

from gateway.runtime.ports import Upstream


@dataclass(slots=True)
class OpenLine:
    """The line, what it counts for, and since when it has stood ready (None = it was handed out)."""

    upstream: Upstream
    pool: str
    ready_since: float | None
    # The span of its dial; empty = none.
    dial: str = ""
