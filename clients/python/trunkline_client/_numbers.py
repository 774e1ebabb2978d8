"""Which of the gateway's messages are applied: once each, in order, from the newest owner. Pure."""

from collections import deque
from typing import Final

from trunkline.v1.session_pb2 import ConverseResponse, SeqRange
from trunkline.v1.types_pb2 import EpochStart

from trunkline_client.errors import refusal

_EPOCHS_MAX: Final = 16


class Numbers:
    """The numbers of one session, over all its streams."""

    def __init__(self) -> None:
        """Begin before the first message."""
        self.last_seq = 0
        self.epochs: deque[EpochStart] = deque(maxlen=_EPOCHS_MAX)
        self._epoch = 0
        self._lost = range(0)

    def skip(self, lost: SeqRange) -> None:
        """Take it that these numbers never come."""
        # `from` is a word of Python's.
        self._lost = range(getattr(lost, "from"), lost.to + 1)
        self._pass_over()

    def _pass_over(self) -> None:
        if self.last_seq + 1 in self._lost:
            self.last_seq = self._lost[-1]

    def applies(self, response: ConverseResponse) -> bool:
        """Tell whether a message is to be applied, and count it. Raises CONNECTION_LOST for a hole."""
        if self.is_outdated(response):
            return False
        self._epoch = max(self._epoch, response.epoch)
        if not response.seq:
            return True
        # What is told again has the epoch of the owner that wrote it: the number alone says whether it is new.
        if response.seq <= self.last_seq:
            return False
        if response.seq != self.last_seq + 1:
            raise refusal("CONNECTION_LOST", f"the gateway sent seq {response.seq} after {self.last_seq}")
        self.last_seq = response.seq
        self._pass_over()
        if not self.epochs or response.epoch not in {0, self._epoch_of(response.seq)}:
            self._note(response.epoch, response.seq)
        return True

    def resumed(self, epoch: int, replay_to: int) -> None:
        """Note from which number on the owner that answered `resume` writes."""
        if epoch != self._epoch_of(replay_to + 1):
            self._note(epoch, replay_to + 1)

    def _epoch_of(self, seq: int) -> int:
        """Return the owner that is known to have written a number; 0 = none."""
        return next((each.epoch for each in reversed(self.epochs) if each.first_seq <= seq), 0)

    def _note(self, epoch: int, first_seq: int) -> None:
        rows = [*self.epochs, EpochStart(epoch=epoch, first_seq=first_seq)]
        self.epochs = deque(sorted(rows, key=lambda each: (each.first_seq, each.epoch)), maxlen=_EPOCHS_MAX)

    def is_outdated(self, response: ConverseResponse) -> bool:
        """Tell whether a message of the moment comes from an owner that has been replaced; 0 = it does not say."""
        return not response.seq and 0 < response.epoch < self._epoch
