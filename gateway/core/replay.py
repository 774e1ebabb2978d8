"""What a fresh line is told of a conversation."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.core import events as out


@dataclass(frozen=True, slots=True)
class Replay:
    """What goes up a fresh line, in order, and the items that cannot."""

    configuration: Mapping[str, Any]
    items: tuple[Mapping[str, Any], ...]
    # Answers that were asked for and have not begun.
    requests: tuple[Mapping[str, Any], ...]
    unrestored: tuple[str, ...]
    # Items that the caller was not told of as done: it is told by the fresh line.
    unconfirmed: frozenset[str] = frozenset()
    # What was asked of the line before and has its answer by this: the caller is told.
    confirmed: tuple[out.ItemDeleted | out.ItemTruncated, ...] = ()
    # Whether a change of the configuration is confirmed by this.
    updates: bool = False
