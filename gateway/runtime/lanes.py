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
from gateway.core.events import ControlEvent, Durability, LiveEvent, Opened, Outgoing, StateChanged
from gateway.core.events import Interrupted as InterruptedEvent
from gateway.core.session import SessionState
from gateway.runtime.outbox import Outbox
from gateway.runtime.ports import LogEntry, SessionKey, SessionStore

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LaneOptions:
    """How long an event may be held for its store, and how much may wait to be stored after all."""

    hold_ms: int = 250
    backlog_max_bytes: int = 1 << 20
    backlog_max_entries: int = 1024


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
        self._held: deque[tuple[Outgoing, int]] = deque()
        self._backlog: list[LogEntry] = []
        # Once a number is lost, no later one can be stored: the rest of the session goes without.
        self._stores = True
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
        payload = self._encode(outgoing)
        if self._stores:
            self._backlog.append(LogEntry(self._seq, payload))
        if at_once:
            self._outbox.put(outgoing, len(payload))
        else:
            self._held.append((outgoing, len(payload)))
            self._idle.clear()
        self._stirred.set()

    async def settled(self) -> None:
        """Return when nothing is held; the caller bounds the wait."""
        await self._idle.wait()

    async def run(self) -> None:
        """Store and release what comes, until cancelled. Raises `StoreError` SUPERSEDED."""
        while True:
            await self._stirred.wait()
            self._stirred.clear()
            batch, self._held = self._held, deque()
            durable = await self._stored()
            for outgoing, size_bytes in batch:
                told = Outgoing(outgoing.event, outgoing.seq, 0, outgoing.epoch, durable)
                self._outbox.put(told, size_bytes)
            if not self._held:
                self._idle.set()

    async def _stored(self) -> bool:
        """Try to store the whole backlog within the hold; what fails is tried again with the next."""
        if not self._stores:
            return False
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
        options = self._options
        size_bytes = sum(len(entry.payload) for entry in self._backlog)
        if size_bytes <= options.backlog_max_bytes and len(self._backlog) <= options.backlog_max_entries:
            return
        _log.warning("record_lost", session_id=self._key.session_id, entries=len(self._backlog))
        self._stores = False
        self._backlog.clear()
        self.control(StateChanged(SessionState.ACTIVE, Durability.NONE, "store_lost"))
