"""The default conversation of a session: its items in order, and the client events that name them."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from gateway.simulator.events import Code, Event, Refusal, event, new_id
from gateway.simulator.items import Item

_ROOT: Final = "root"
# The oldest item is forgotten beyond this: the simulator's form of `truncation: "auto"`.
_ITEMS_MAX: Final = 2_000


class Conversation:
    """Items in order. Every method that changes them returns the events that tell of it."""

    def __init__(self) -> None:
        """Start empty."""
        self.id = new_id("conv")
        self._items: dict[str, Item] = {}

    def __iter__(self) -> Iterator[Item]:
        """Return the items, first to last."""
        return iter(self._items.values())

    @property
    def last_id(self) -> str | None:
        """The id of the last item."""
        return next(reversed(self._items), None)

    def find(self, item_id: object) -> Item | None:
        """Return the item with this id."""
        return self._items.get(item_id) if isinstance(item_id, str) else None

    def add(self, item: Item, previous_item_id: str | None = None) -> Event:
        """Put `item` behind another, or last; the `added` event. Raises Refusal."""
        if item.id in self._items:
            message = f"Error adding item: an item with id '{item.id}' already exists."
            raise Refusal(Code.INVALID_VALUE, message, "item.id")
        self._check_output(item)
        previous = self._place(item, previous_item_id)
        if len(self._items) > _ITEMS_MAX:
            del self._items[next(iter(self._items))]
        return event("conversation.item.added", previous_item_id=previous, item=item.wire)

    def change(self, item: Item) -> None:
        """Replace the item with the same id; nothing if it was deleted meanwhile."""
        if item.id in self._items:
            self._items[item.id] = item

    def retrieve(self, item_id: object) -> Event:
        """Answer `conversation.item.retrieve`."""
        return event("conversation.item.retrieved", item=self._known(item_id, Code.ITEM_RETRIEVE_INVALID_ITEM_ID).wire)

    def delete(self, item_id: object) -> Event:
        """Answer `conversation.item.delete`."""
        item = self._known(item_id, Code.ITEM_DELETE_INVALID_ITEM_ID)
        del self._items[item.id]
        return event("conversation.item.deleted", item_id=item.id)

    def truncate(self, item_id: object, content_index: object, audio_end_ms: object) -> Event:
        """Answer `conversation.item.truncate`: the sound behind `audio_end_ms` goes, and the whole transcript."""
        item = self._known(item_id, Code.ITEM_TRUNCATE_INVALID_ITEM_ID)
        if item.role != "assistant" or not item.audio_ms:
            raise Refusal(Code.INVALID_VALUE, "Only model output audio messages can be truncated", "item_id")
        if type(content_index) is not int or content_index != 0:
            raise Refusal(Code.INVALID_VALUE, "Only content part 0 can be truncated", "content_index")
        if type(audio_end_ms) is not int or audio_end_ms < 0:
            raise Refusal(Code.INVALID_TYPE, "Invalid type for 'audio_end_ms': expected an integer.", "audio_end_ms")
        if audio_end_ms > item.audio_ms:
            message = f"Audio content of {item.audio_ms}ms is already shorter than {audio_end_ms}ms"
            raise Refusal(Code.INVALID_VALUE, message, "audio_end_ms")
        wire = {**item.wire, "content": [{"type": "output_audio", "transcript": None}]}
        self.change(replace(item, wire=wire, text="", audio_ms=audio_end_ms))
        return event("conversation.item.truncated", item_id=item.id, content_index=0, audio_end_ms=audio_end_ms)

    def _place(self, item: Item, previous_item_id: str | None) -> str | None:
        """Return the id of the item it now stands behind."""
        if previous_item_id is None or previous_item_id == self.last_id:
            previous = self.last_id
            self._items[item.id] = item
            return previous
        if previous_item_id != _ROOT and previous_item_id not in self._items:
            message = f"Error adding item: the previous item with id '{previous_item_id}' does not exist."
            raise Refusal(Code.INVALID_VALUE, message, "previous_item_id")
        ordered = list(self)
        position = 0 if previous_item_id == _ROOT else [each.id for each in ordered].index(previous_item_id) + 1
        ordered.insert(position, item)
        self._items = {each.id: each for each in ordered}
        return ordered[position - 1].id if position else None

    def _check_output(self, item: Item) -> None:
        if item.kind != "function_call_output":
            return
        call_id = item.wire["call_id"]
        if not any(each.kind == "function_call" and each.wire["call_id"] == call_id for each in self):
            message = f"Tool call ID '{call_id}' not found in conversation."
            raise Refusal(Code.INVALID_TOOL_CALL_ID, message, "item.call_id")

    def _known(self, item_id: object, code: Code) -> Item:
        item = self.find(item_id)
        if item is None:
            raise Refusal(code, f"The item with id '{item_id}' does not exist.", "item_id")
        return item


def previous_item_id(sent: Mapping[str, Any]) -> str | None:
    """Where a client wants its new item. Raises Refusal."""
    previous: object = sent.get("previous_item_id")
    if previous is not None and not isinstance(previous, str):
        message = "Invalid type for 'previous_item_id': expected a string."
        raise Refusal(Code.INVALID_TYPE, message, "previous_item_id")
    return previous
