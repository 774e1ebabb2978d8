"""What a fresh line answers to what it is told anew: the caller knows all of it, and hears none of it again."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

import msgspec

from gateway.core import events as out

_ITEM_EVENTS: Final = (b'"conversation.item.added"', b'"conversation.item.created"')


class _Named(msgspec.Struct, frozen=True):
    id: str = ""


class _ItemEvent(msgspec.Struct, frozen=True):
    item: _Named = _Named()


_decoder: Final = msgspec.json.Decoder(_ItemEvent)


class Restoration:
    """One fresh line's answers that are still to come."""

    def __init__(
        self,
        events: Iterable[Mapping[str, Any]] = (),
        *,
        is_configured: bool = True,
        unconfirmed: Collection[str] = (),
    ) -> None:
        """Wait for the answers to these events, and to a configuration that was not there.

        Of `unconfirmed` items the caller is told: the line before had not got so far.
        """
        created = [event for event in events if event.get("type") == "conversation.item.create"]
        # By event id: the items that the line was told.
        self._items = {str(event.get("event_id", "")): str(event["item"].get("id", "")) for event in created}
        self._open = set(self._items.values())
        self._silent = self._open - set(unconfirmed)
        self._updates = 0 if is_configured else 1

    @property
    def is_over(self) -> bool:
        """Whether everything has been answered."""
        return not self._open and not self._updates

    def takes(self, event: out.SessionEvent) -> bool:
        """Whether an event is such an answer: the caller is not to hear it."""
        match event:
            case out.ItemDone() if event.item_id in self._open:
                self._open.discard(event.item_id)
                return event.item_id in self._silent
            case out.SessionUpdated() if self._updates:
                self._updates = 0
                return True
            case out.ConfigRejected():
                self._updates = 0
        return False

    def takes_raw(self, frame: bytes) -> bool:
        """The same for an event without a typed form."""
        if not any(kind in frame[:200] for kind in _ITEM_EVENTS):
            return False
        try:
            item_id = _decoder.decode(frame).item.id
        except msgspec.MsgspecError:
            return False
        return item_id in self._open and item_id in self._silent

    def refused(self, event: out.SessionEvent) -> str:
        """Return the item that the line has refused; empty = the event is about something else."""
        if not isinstance(event, out.ErrorEvent):
            return ""
        item_id = self._items.pop(event.event_id, "")
        self._open.discard(item_id)
        return item_id
