"""Which samples of which item were handed out and played. Pure."""

from collections import OrderedDict
from typing import Final

from trunkline.v1.event_pb2 import OutputAudio
from trunkline.v1.types_pb2 import OutputPosition

# Of older items nothing is sent again.
_ITEMS_MAX: Final = 16


class Output:
    """The model's speech as this side has it: each sample is handed out once, whatever is sent twice."""

    def __init__(self, sample_bytes: int) -> None:
        """Begin before the first piece."""
        self._sample_bytes = sample_bytes
        # Samples of each item, the newest item last.
        self._received: OrderedDict[str, int] = OrderedDict()
        self._played: OrderedDict[str, int] = OrderedDict()
        # Until the application tells what it plays, it plays what it gets.
        self._told = False

    def hand_out(self, piece: OutputAudio) -> OutputAudio | None:
        """Return what of a piece is new; None = nothing."""
        if not piece.item_id:
            # Without a name nobody can tell what was sent twice.
            return piece
        received = self._received.get(piece.item_id, 0)
        end = piece.position + len(piece.data) // self._sample_bytes
        if end <= received and piece.data:
            return None
        self._note_received(piece.item_id, max(end, received))
        if piece.position >= received:
            return piece
        rest = OutputAudio()
        rest.CopyFrom(piece)
        rest.data = piece.data[(received - piece.position) * self._sample_bytes :]
        rest.position = received
        return rest

    def _note_received(self, item_id: str, samples: int) -> None:
        if item_id not in self._received and len(self._received) == _ITEMS_MAX:
            self._received.popitem(last=False)
        self._received[item_id] = samples
        self._received.move_to_end(item_id)

    def note_played(self, item_id: str, samples: int) -> None:
        """Take the application's word for how much of an item was played."""
        self._told = True
        if item_id not in self._played and len(self._played) == _ITEMS_MAX:
            self._played.popitem(last=False)
        self._played[item_id] = samples

    def position(self) -> OutputPosition | None:
        """Return how far the item was heard that was handed out last; None before the first."""
        if not self._received:
            return None
        item_id, received = next(reversed(self._received.items()))
        played = min(self._played.get(item_id, 0), received) if self._told else received
        return OutputPosition(item_id=item_id, received_samples=received, played_samples=played)
