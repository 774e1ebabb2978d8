"""What a fresh line is told of a conversation."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.core import event_ids
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


@dataclass(frozen=True, slots=True)
class Ahead:
    """What a line was told of a conversation in advance; the conversation may have gone on since."""

    configuration: Mapping[str, Any]
    items: tuple[Mapping[str, Any], ...]

    @classmethod
    def of(cls, replay: Replay) -> "Ahead":
        """Return what can be told before it is known what else will be said: no audio, and nothing to answer."""
        return cls(replay.configuration, replay.items)

    def events(self) -> tuple[Mapping[str, Any], ...]:
        """Return the client events that tell the items; each has the name by which a refusal is known again."""
        return tuple({**event, "event_id": event_ids.ahead(n)} for n, event in enumerate(self.items))

    def is_beginning_of(self, replay: Replay) -> bool:
        """Whether all of it still holds, and comes first."""
        is_same = not replay.updates and replay.configuration == self.configuration
        return is_same and replay.items[: len(self.items)] == self.items
