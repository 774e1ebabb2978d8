"""The places at one account that the lines of one group hold."""

from gateway.core.ids import ConnectionId
from gateway.runtime.ports import SlotKind, Slots


class Places:
    """Which line holds a place, and for what. Tells the account of every change."""

    def __init__(self, slots: Slots, account: str) -> None:
        """Begin without any."""
        self._slots = slots
        self._account = account
        self._held: dict[ConnectionId, SlotKind] = {}

    def taken(self, connection_id: ConnectionId, kind: SlotKind) -> None:
        """Record a place that the account has granted."""
        self._held[connection_id] = kind

    def become(self, connection_id: ConnectionId, after: SlotKind) -> None:
        """Use a line's place for something else."""
        before = self._held[connection_id]
        if before is not after:
            self._held[connection_id] = after
            self._slots.change(self._account, before, after)

    def free(self, connection_id: ConnectionId) -> None:
        """Give a line's place back, if it has one."""
        kind = self._held.pop(connection_id, None)
        if kind is not None:
            self._slots.release(self._account, kind)
