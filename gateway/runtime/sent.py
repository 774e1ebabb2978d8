"""What has gone to a resumable caller and is not acknowledged: what its next stream begins with."""

from collections import deque
from itertools import count
from typing import Final

from gateway.core.events import CallerAck, Outgoing, OutputAudio, OutputPosition

# Of so many items it is known which came first; their audio has long been played by then.
ITEMS_MAX: Final = 256


class Sent:
    """Numbered events and audio, oldest first; of the audio no more than `audio_max_bytes`."""

    def __init__(self, audio_max_bytes: int, sample_bytes: int) -> None:
        """Begin empty."""
        self._audio_max_bytes = audio_max_bytes
        self._sample_bytes = sample_bytes
        self._kept: deque[tuple[Outgoing, int]] = deque()
        self._audio_bytes = self.other_bytes = 0
        # In which order items were first heard of.
        self._order: dict[str, int] = {}
        self._numbers = count(1)
        # The highest number that went out, and the highest that has arrived.
        self.seq = self.acknowledged = 0

    def __len__(self) -> int:
        """Return how many events are kept."""
        return len(self._kept)

    @property
    def has_arrived(self) -> bool:
        """Whether the caller has applied everything that has a number."""
        return self.acknowledged >= self.seq

    def add(self, outgoing: Outgoing, weight: int) -> None:
        """Keep an event that goes out, if it is of a kind that is sent again."""
        event = outgoing.event
        if type(event) is OutputAudio:
            if event.item_id not in self._order:
                self._order[event.item_id] = next(self._numbers)
                if len(self._order) > ITEMS_MAX:
                    del self._order[next(iter(self._order))]
            self._audio_bytes += weight
        elif outgoing.seq:
            self.seq = max(self.seq, outgoing.seq)
            self.other_bytes += weight
        else:
            return
        self._kept.append((outgoing, weight))
        if self._audio_bytes > self._audio_max_bytes:
            self._forget_oldest_audio()

    def acknowledge(self, ack: CallerAck) -> None:
        """Let go of what the caller has applied and played."""
        self.acknowledged = max(self.acknowledged, ack.seq)
        played = ack.output
        while self._kept and not self._is_wanted(self._kept[0][0], self.acknowledged, played.item_id, played.played):
            self._drop(*self._kept.popleft())

    def flush_audio(self) -> None:
        """Let go of all audio: it is not to be played any more."""
        for outgoing, weight in self._kept:
            if type(outgoing.event) is OutputAudio:
                self._drop(outgoing, weight)
        self._kept = deque(each for each in self._kept if type(each[0].event) is not OutputAudio)

    def take_again(self, last_seq: int, output: OutputPosition) -> list[tuple[Outgoing, int]]:
        """Give up what a caller does not have that has applied `last_seq`, and received audio up to `output`."""
        kept, self._kept = self._kept, deque()
        self._audio_bytes = self.other_bytes = 0
        return [each for each in kept if self._is_wanted(each[0], last_seq, output.item_id, output.received)]

    def _is_wanted(self, outgoing: Outgoing, seq: int, item_id: str, samples: int) -> bool:
        event = outgoing.event
        if type(event) is not OutputAudio:
            return outgoing.seq > seq
        if event.item_id == item_id:
            return event.position + len(event.data) // self._sample_bytes > samples
        return self._order.get(event.item_id, 0) > self._order.get(item_id, 0)

    def _drop(self, outgoing: Outgoing, weight: int) -> None:
        if type(outgoing.event) is OutputAudio:
            self._audio_bytes -= weight
        else:
            self.other_bytes -= weight

    def _forget_oldest_audio(self) -> None:
        """A caller that is so far behind hears the end of it; the cut is told by the positions."""
        at = next(at for at, each in enumerate(self._kept) if type(each[0].event) is OutputAudio)
        self._audio_bytes -= self._kept[at][1]
        del self._kept[at]
