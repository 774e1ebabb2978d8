"""What one session still has to say, bounded in bytes. Filled by one reader, emptied by one writer."""

import asyncio
from collections import deque
from dataclasses import dataclass

from gateway.core.errors import CallerError, Reason
from gateway.core.events import Beat, CallerAck, Outgoing, OutputAudio, OutputPosition, Raw, Token
from gateway.runtime.sent import Sent

# What an event weighs beside the bytes that it carries.
_FRAME_BYTES = 256


@dataclass(frozen=True, slots=True)
class OutboxOptions:
    """How much may wait for the caller. One event of the provider's largest size always fits."""

    # A minute of speech.
    audio_max_bytes: int = 3 << 20
    other_max_bytes: int = 20 << 20


class Outbox:
    """First in, first out; audio can be flushed. `put` never waits, since the reader must not.

    For a resumable caller what has gone out is kept until it is acknowledged, and can go out again.
    """

    def __init__(self, options: OutboxOptions, sent: Sent | None = None) -> None:
        """Begin empty. `sent` keeps what has gone out."""
        self._options = options
        self._sent = sent
        self._audio_bytes = 0
        self._other_bytes = 0
        self._items: deque[tuple[Outgoing, int]] = deque()
        self._waiting: asyncio.Future[None] | None = None
        # Nobody is there to read: audio over the bound lets the oldest go, instead of ending the session.
        self.is_parked = False
        self._last_seq = 0
        # How many have gone out: whether the caller reads on.
        self.sent_events = 0
        self._under_way = False
        self._emptied = asyncio.Event()

    def __len__(self) -> int:
        """Return how many events wait."""
        return len(self._items)

    def put(self, outgoing: Outgoing, size_bytes: int = 0) -> None:
        """Add one event that carries `size_bytes` (known for audio and raw).

        Raises `CallerError` SLOW_CALLER when the caller has let too much pile up.
        """
        event, options = outgoing.event, self._options
        if type(event) is OutputAudio:
            weight = len(event.data) + _FRAME_BYTES
            fits = self._audio_bytes + weight <= options.audio_max_bytes
        else:
            weight = (len(event.json) if type(event) is Raw else size_bytes) + _FRAME_BYTES
            unread = self._other_bytes + (self._sent.other_bytes if self._sent is not None else 0)
            fits = unread + weight <= options.other_max_bytes
        if not fits and self.is_parked and type(event) is OutputAudio:
            self._drop_oldest_audio()
        elif not fits:
            raise CallerError(Reason.SLOW_CALLER, "too much waits for the caller; read faster")
        self._count(outgoing, weight)
        self._items.append((outgoing, weight))
        self._last_seq = outgoing.seq or self._last_seq
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def flush_audio(self) -> dict[str, int]:
        """Drop the audio that was not sent; return how many bytes of each item that was."""
        dropped: dict[str, int] = {}
        kept: deque[tuple[Outgoing, int]] = deque()
        for item in self._items:
            event = item[0].event
            if type(event) is OutputAudio:
                dropped[event.item_id] = dropped.get(event.item_id, 0) + len(event.data)
            else:
                kept.append(item)
        self._items, self._audio_bytes = kept, 0
        if self._sent is not None:
            self._sent.flush_audio()
        self._look()
        return dropped

    @property
    def next_seq(self) -> int:
        """The first number that is to go out from now on."""
        return next((outgoing.seq for outgoing, _ in self._items if outgoing.seq), self._last_seq + 1)

    def begin_behind(self, seq: int) -> None:
        """Take note that numbers up to this one have been given."""
        self._last_seq = max(self._last_seq, seq)

    def acknowledge(self, ack: CallerAck) -> None:
        """Let go of what the caller has."""
        if self._sent is not None:
            self._sent.acknowledge(ack)
            self._look()

    def rewind(self, last_seq: int, output: OutputPosition) -> None:
        """Let what a caller does not have go out again, before what waits. Nobody takes events meanwhile."""
        self._under_way = self.is_parked = False
        if self._sent is None:
            return
        for kept in [each for each in self._items if isinstance(each[0].event, Beat | Token)]:  # of the stream before
            self._count(kept[0], -kept[1])
            self._items.remove(kept)
        again = self._sent.take_again(last_seq, output)
        for outgoing, weight in again:
            self._count(outgoing, weight)
        self._items.extendleft(reversed(again))

    def put_first(self, outgoing: Outgoing) -> None:
        """Add an event that goes out before all others."""
        self._count(outgoing, _FRAME_BYTES)
        self._items.appendleft((outgoing, _FRAME_BYTES))

    async def get(self) -> Outgoing:
        """Take the next event, waiting for one. One taker at a time."""
        while not self._items:
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
        outgoing, weight = self._items.popleft()
        self._count(outgoing, -weight)
        if self._sent is not None:
            self._sent.add(outgoing, weight)
        self._under_way = True
        return outgoing

    def sent(self) -> None:
        """Record that the event last taken has gone out."""
        self.sent_events += 1
        self._under_way = False
        self._look()

    async def emptied(self) -> None:
        """Return when everything has gone out, and a resumable caller has it; the caller of this bounds the wait."""
        while not self._is_done:
            self._emptied.clear()
            await self._emptied.wait()

    @property
    def _is_done(self) -> bool:
        return not self._items and not self._under_way and (self._sent is None or self._sent.has_arrived)

    def _drop_oldest_audio(self) -> None:
        oldest = next((at for at, each in enumerate(self._items) if type(each[0].event) is OutputAudio), None)
        if oldest is not None:
            self._count(self._items[oldest][0], -self._items[oldest][1])
            del self._items[oldest]

    def _count(self, outgoing: Outgoing, weight: int) -> None:
        if type(outgoing.event) is OutputAudio:
            self._audio_bytes += weight
        else:
            self._other_bytes += weight

    def _look(self) -> None:
        if self._is_done:
            self._emptied.set()
