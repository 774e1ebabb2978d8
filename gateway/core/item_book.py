"""The items of one conversation, in the order in which they began; the oldest make room and are named."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from msgspec import Struct

from gateway.core import items
from gateway.core.items import Body

# What an item weighs beside its words; and all of them together.
_ITEM_BYTES: Final = 256
HISTORY_MAX_BYTES: Final = 1 << 20


class Item(Struct, frozen=True):
    """One item, as the provider would be asked to create it; without `body` nobody knows its content (yet)."""

    body: Body | None
    # How long its audio is; 0 = it has none, or that is not known.
    audio_ms: int = 0


class Written(Struct, frozen=True):
    """A conversation at one moment, in which nothing is under way."""

    configuration: Mapping[str, Any]
    # The newest items with their names, in order, and the names of those that were left out.
    items: tuple[tuple[str, Item], ...]
    forgotten: tuple[str, ...] = ()
    told: tuple[str, ...] = ()


class ItemBook:
    """All items by name, and which of them the caller was told of as done."""

    def __init__(self) -> None:
        """Begin with none."""
        self.items: dict[str, Item] = {}
        self.told: set[str] = set()
        # Those that had to make room.
        self.forgotten: dict[str, None] = {}
        self._sizes: dict[str, int] = {}
        self._size_bytes = 0

    @property
    def untold(self) -> frozenset[str]:
        """Those of which the caller was not told that they are done."""
        return frozenset(self.items.keys() - self.told)

    def put(self, name: str, item: Item) -> None:
        """Enter an item; one that is there already keeps its place."""
        size_bytes = _ITEM_BYTES + items.weight(item.body)
        self._size_bytes += size_bytes - self._sizes.get(name, 0)
        self.items[name], self._sizes[name] = item, size_bytes
        while self._size_bytes > HISTORY_MAX_BYTES and len(self.items) > 1:
            oldest = next(iter(self.items))
            self.drop(oldest)
            self.forgotten[oldest] = None

    def place(self, name: str, previous: object) -> None:
        """Move an item behind another one; `root` = before all, and what is not known stays last."""
        if previous != "root" and previous not in self.items:
            return
        names = [each for each in self.items if each != name]
        at = 0 if previous == "root" else names.index(str(previous)) + 1
        self.items = {each: self.items[each] for each in (*names[:at], name, *names[at:])}

    def to_end(self, names: Iterable[str]) -> None:
        """Let items come behind all others."""
        for name in names:
            self.items[name] = self.items.pop(name)

    def drop(self, name: str) -> None:
        """Know nothing of an item any more."""
        self.items.pop(name, None)
        self.forgotten.pop(name, None)
        self.told.discard(name)
        self._size_bytes -= self._sizes.pop(name, 0)

    def newest(self, max_bytes: int) -> tuple[list[tuple[str, Item]], list[str]]:
        """Return the newest items that weigh no more than that, and the names of all others."""
        size_bytes, taken = 0, list[tuple[str, Item]]()
        for name, item in reversed(self.items.items()):
            size_bytes += self._sizes[name]
            if size_bytes > max_bytes:
                break
            taken.append((name, item))
        others = [*self.forgotten, *list(self.items)[: len(self.items) - len(taken)]]
        return taken[::-1], others
