"""What has gone to a resumable caller and is not acknowledged: what its next stream begins with."""

from collections import deque
from itertools import count
from operator import itemgetter
from typing import Final

from gateway.core.events import CallerAck, Outgoing, OutputAudio, OutputPosition

_Kept = tuple[int, Outgoing, int]
# Of so many items it is known which came first; their audio has long been played by then.
ITEMS_MAX: Final = 256


class Sent:
    """Numbered events and audio, oldest first; of the audio no more than `audio_max_bytes`."""

    def __init__(self, audio_max_bytes: int, sample_bytes: int) -> None:
        """Begin empty."""
        self._audio_max_bytes = audio_max_bytes
        self._sample_bytes = sample_bytes
        # Each with its place among all: what was played comes later than what was applied.
        self._numbered: deque[_Kept] = deque()
        self._audio: deque[_Kept] = deque()
        self._audio_bytes = self.other_bytes = 0
        # In which order items were first heard of.
        self._order: dict[str, int] = {}
        self._places = count(1)
        # The highest number that went out, and the highest that has arrived.
        self.seq = self.acknowledged = 0

    def __len__(self) -> int:
        """Return how many events are kept."""
        return len(self._numbered) + len(self._audio)

    @property
    def has_arrived(self) -> bool:
        """Whether the caller has applied everything that has a number."""
        return self.acknowledged >= self.seq

    def add(self, outgoing: Outgoing, weight: int) -> None:
        """Keep an event that goes out, if it is of a kind that is sent again."""
        event, place = outgoing.event, next(self._places)
        if type(event) is OutputAudio:
            if event.item_id not in self._order:
                self._order[event.item_id] = place
                if len(self._order) > ITEMS_MAX:
                    del self._order[next(iter(self._order))]
            self._audio.append((place, outgoing, weight))
            self._audio_bytes += weight
            while self._audio_bytes > self._audio_max_bytes and len(self._audio) > 1:
                # A caller that is so far behind hears the end of it; the cut is told by the positions.
                self._audio_bytes -= self._audio.popleft()[2]
        elif outgoing.seq:
            self.seq = max(self.seq, outgoing.seq)
            self._numbered.append((place, outgoing, weight))
            self.other_bytes += weight

    def acknowledge(self, ack: CallerAck) -> None:
        """Let go of what the caller has applied and played."""
        self.acknowledged = max(self.acknowledged, min(ack.seq, self.seq))
        while self._numbered and self._numbered[0][1].seq <= self.acknowledged:
            self.other_bytes -= self._numbered.popleft()[2]
        while self._audio and not self._is_wanted(self._audio[0][1], ack.output.item_id, ack.output.played):
            self._audio_bytes -= self._audio.popleft()[2]

    def flush_audio(self) -> None:
        """Let go of all audio: it is not to be played any more."""
        self._audio.clear()
        self._audio_bytes = 0

    def take_again(self, last_seq: int, output: OutputPosition) -> list[tuple[Outgoing, int]]:
        """Give up what a caller does not have that has applied `last_seq`, and received audio up to `output`."""
        numbered = [kept for kept in self._numbered if kept[1].seq > last_seq]
        audio = [kept for kept in self._audio if self._is_wanted(kept[1], output.item_id, output.received)]
        self._numbered.clear()
        self.flush_audio()
        self.other_bytes = 0
        return [(outgoing, weight) for _, outgoing, weight in sorted((*numbered, *audio), key=itemgetter(0))]

    def _is_wanted(self, outgoing: Outgoing, item_id: str, samples: int) -> bool:
        event = outgoing.event
        assert isinstance(event, OutputAudio), "only audio is asked for"  # noqa: S101
        if event.item_id == item_id:
            return event.position + len(event.data) // self._sample_bytes > samples
        return self._order.get(event.item_id, 0) > self._order.get(item_id, 0)
