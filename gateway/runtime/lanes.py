"""The two lanes to the caller.

The control lane is numbered, in order, and stored before it is sent; the live lane is never held,
so no audio ever waits for the store.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from gateway.core.errors import Reason, StoreError
from gateway.core.events import ControlEvent, LiveEvent, Opened, Outgoing
from gateway.core.events import Interrupted as InterruptedEvent
from gateway.runtime.outbox import Outbox
from gateway.runtime.ports import LogEntry, SessionKey, SessionStore

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LaneOptions:
    """How long an event may be held for its store, and how much may wait to be stored after all."""

    hold_ms: int = 250
    backlog_max_bytes: int = 1 << 20


class Lanes:
    """Numbers, stores and sends one session's events. `run` must be running for the control lane to move."""

    def __init__(
        self,
        key: SessionKey,
        epoch: int,
        store: SessionStore,
        outbox: Outbox,
        encode: Callable[[Outgoing], bytes],
        options: LaneOptions,
    ) -> None:
        """Begin at number 1. `encode` gives the stored form of an event."""
        self._key = key
        self._epoch = epoch
        self._store = store
        self._outbox = outbox
        self._encode = encode
        self._options = options
        self._seq = 0
        self._held: deque[Outgoing] = deque()
        self._backlog: list[LogEntry] = []
        self._stirred = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def live(self, event: LiveEvent) -> None:
        """Send at once."""
        self._outbox.put(Outgoing(event, after_seq=self._seq, epoch=self._epoch))

    def control(self, event: ControlEvent) -> None:
        """Send in order, after it is stored. `opened` and `interrupted` are stored but not held."""
        self._seq += 1
        outgoing = Outgoing(event, seq=self._seq, epoch=self._epoch, durable=False)
        at_once = isinstance(event, Opened | InterruptedEvent) and self._idle.is_set()
        self._backlog.append(LogEntry(self._seq, self._encode(outgoing)))
        if at_once:
            self._outbox.put(outgoing)
        else:
            self._held.append(outgoing)
            self._idle.clear()
        self._stirred.set()

    async def settled(self, timeout_seconds: float) -> None:
        """Wait until nothing is held, within bounds."""
        try:
            await asyncio.wait_for(self._idle.wait(), timeout_seconds)
        except TimeoutError:
            _log.warning("control_lane_not_settled", session_id=self._key.session_id)

    async def run(self) -> None:
        """Store and release what comes, until cancelled. Raises `StoreError` SUPERSEDED."""
        while True:
            await self._stirred.wait()
            self._stirred.clear()
            batch, self._held = self._held, deque()
            durable = await self._stored()
            for outgoing in batch:
                self._outbox.put(Outgoing(outgoing.event, outgoing.seq, 0, outgoing.epoch, durable))
            if not self._held:
                self._idle.set()

    async def _stored(self) -> bool:
        """Try to store the whole backlog within the hold; what fails is tried again with the next."""
        entries = tuple(self._backlog)
        try:
            async with asyncio.timeout(self._options.hold_ms / 1000):
                await self._store.append(self._key, self._epoch, entries)
        except TimeoutError:
            self._bound_backlog()
            return False
        except StoreError as error:
            if error.reason is Reason.SUPERSEDED:
                raise
            self._bound_backlog()
            return False
        del self._backlog[: len(entries)]
        return True

    def _bound_backlog(self) -> None:
        # Numbers must stay consecutive: once the oldest is gone, the rest could never be stored.
        if sum(len(entry.payload) for entry in self._backlog) > self._options.backlog_max_bytes:
            _log.warning("backlog_dropped", session_id=self._key.session_id)
            self._backlog.clear()
