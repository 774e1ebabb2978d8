"""The two lanes to the caller.

The control lane is numbered, in order, and stored before it is sent; the live lane is never held,
so no audio ever waits for the store.
"""

import asyncio
from collections import deque
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from zlib import crc32

import structlog

from gateway.core.errors import LogGapError, Reason, StoreError
from gateway.core.events import (
    Closed,
    ControlEvent,
    ControlTaken,
    Durability,
    Interrupted,
    LiveEvent,
    Opened,
    Outgoing,
    StateChanged,
)
from gateway.core.record import Note, Opening
from gateway.core.session import SessionState
from gateway.runtime.kept import Kept, fitting
from gateway.runtime.lane_parts import LaneParts
from gateway.runtime.outbox import Outbox
from gateway.runtime.ports import LogEntry, SessionKey

_log = structlog.get_logger(__name__)
REFUSED_SECONDS = 0.1  # the least pause after a refusal


@dataclass(frozen=True, slots=True)
class _Held:
    """An event that waits for its store, no longer than until `due` (loop time, seconds)."""

    outgoing: Outgoing
    size_bytes: int
    due: float


class Lanes:
    """Numbers, stores and sends one session's events. `run` must be running for the control lane to move."""

    def __init__(
        self, key: SessionKey, epoch: int, outbox: Outbox, parts: LaneParts, seq: int = 0, cseq: int = 0
    ) -> None:
        """Begin behind number `seq`, and behind the caller's `cseq`."""
        self._key = key
        self.epoch = epoch
        self._outbox = outbox
        self._store = parts.store
        self._form = parts.form
        self._options = parts.options
        self._turns = parts.turns
        # The last number that was given, and how much was to be stored so far.
        self.seq, self.written_bytes = seq, 0
        # The highest number of a control that is in the log, or never will be: the caller may forget it.
        self.taken_cseq = cseq
        self._given_cseq = cseq
        # What an older owner wrote from here on does not count.
        self._own_from = seq + 1
        self._held: deque[_Held] = deque()
        self._backlog: list[LogEntry] = []
        self._kept = Kept(self._options.kept_max_bytes)
        # The store has lost what it had: where its log ends; what follows is stored anew.
        self._gap_after: int | None = None
        # The first number that was never stored; what stands before it in the backlog is stored again.
        self._new_from = seq + 1
        # What was refused is not tried again before; sessions are spread, so that they do not come in step.
        self._refused_at = self._retry_at = 0.0
        self._retry_seconds = self._options.retry_seconds * (1 + crc32(key.session_id.encode()) % 100 / 100)
        self._retry: asyncio.TimerHandle | None = None
        # The append under way and the last number in it: the hold bounds events, not the store.
        self._append: tuple[asyncio.Future[int], int] | None = None
        # Once a number is lost, no later one can be stored: the rest of the session goes without.
        self._stores = True
        self._closed = False
        self._stirred = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def live(self, event: LiveEvent) -> None:
        """Send at once."""
        if not self._closed:
            self._outbox.put(Outgoing(event, after_seq=self.seq, epoch=self.epoch))

    def control(self, event: ControlEvent, note: Note | None = None, opening: Opening | None = None) -> None:
        """Send in order, after it is stored. `opened` and `interrupted` are stored but not held.

        They take along what is held before them. Nothing comes behind `closed`. `note` and `opening` stay in the log.
        """
        if self._closed:
            return
        self._closed = isinstance(event, Closed)
        self.seq += 1
        outgoing = Outgoing(event, seq=self.seq, epoch=self.epoch, durable=False)
        payload = self._form.encode(outgoing, note, opening)
        self.written_bytes += len(payload)
        cseq = event.cseq if isinstance(event, ControlTaken) else 0
        self._given_cseq = max(self._given_cseq, cseq)
        if not self._stores:
            self.taken_cseq = self._given_cseq
        else:
            self._backlog.append(LogEntry(self.seq, payload, cseq))
        if isinstance(event, Opened | Interrupted):  # no time to lose, and nothing may be overtaken
            self._release(self._now(), self.seq, durable=False)
            self._outbox.put(outgoing, len(payload))
        elif self._stores:
            due = self._now() + self._options.hold_ms / 1000
            self._held.append(_Held(outgoing, len(payload), due))
            self._idle.clear()
        else:
            self._outbox.put(outgoing, len(payload))
        self._stirred.set()

    @property
    def durability(self) -> Durability:
        """What a stored event outlives now."""
        return self._store.durability

    def promise(self, durability: Durability) -> None:
        """Tell the caller that what is stored outlives more, or less, than before."""
        if self._stores:
            cause = "store_lost" if durability is Durability.NONE else "store_back"
            self.control(StateChanged(SessionState.ACTIVE, durability, cause))

    async def keep(self) -> None:
        """Keep the record alive, and find out whether it is this owner's still. Raises `StoreError` SUPERSEDED."""
        try:
            await self._append_to_log(())
        except StoreError as error:
            if error.reason is Reason.SUPERSEDED:
                raise

    async def settled(self) -> None:
        """Return when nothing is held; the caller bounds the wait."""
        await self._idle.wait()

    async def run(self) -> None:
        """Store and release what comes, until cancelled. Raises `StoreError` SUPERSEDED."""
        try:
            while True:
                if not self._held:
                    await self._stirred.wait()
                self._stirred.clear()
                await self._store_backlog()
                self._release(self._now(), 0, durable=False)
        except StoreError:
            self._held.clear()  # they are a newer owner's to tell
            self._give_up()
            raise
        finally:
            if self._append is not None:
                self._append[0].cancel()
            if self._retry is not None:
                self._retry.cancel()

    async def _store_backlog(self) -> None:
        """Have the backlog stored, waiting for it no longer than an event may be held."""
        if not self._backlog:
            return
        now = self._now()
        if self._append is None and self._is_pausing(now):  # nobody is held for that
            self._release(now, self.seq, durable=False)
            self._bound_backlog()
            return
        due = self._held[0].due if self._held else now + self._options.hold_ms / 1000
        storing, to_seq = self._append = self._append or self._begin_append()
        await asyncio.wait({storing}, timeout=max(0.0, due - now))
        if storing.done():
            self._append = None
            self._take_answer(storing, to_seq)
        else:  # the store has a deadline of its own; what comes meanwhile goes with the next append
            storing.add_done_callback(lambda _: self._stirred.set())
            self._bound_backlog()

    def _is_pausing(self, now: float) -> bool:
        """Whether the store has refused just now, or is away and not to be asked before the next try."""
        is_away = self._store.durability is Durability.NONE
        return now < self._retry_at and (is_away or now < self._refused_at + REFUSED_SECONDS)

    def _begin_append(self) -> tuple[asyncio.Future[int], int]:
        is_again = self._gap_after is not None or self._backlog[0].seq < self._new_from
        max_bytes = self._options.again_max_bytes if is_again else self._options.append_max_bytes
        entries = fitting(self._backlog, max_bytes)
        work = self._again(entries) if is_again else self._append_to_log(entries)
        return asyncio.ensure_future(work), entries[-1].seq

    async def _again(self, entries: Sequence[LogEntry]) -> int:
        """Store something again when it is this session's turn; the first of it begins the log anew."""
        try:
            async with asyncio.timeout(self._options.turn_max_seconds):
                await self._turns.acquire()
        except TimeoutError:
            raise StoreError(Reason.STORE_UNAVAILABLE, "others have lost as much, and come first") from None
        try:
            return await self._append_to_log(entries, anew=self._gap_after is not None)
        finally:
            self._turns.release()

    def _append_to_log(self, entries: Sequence[LogEntry], *, anew: bool = False) -> Coroutine[None, None, int]:
        return self._store.append(self._key, self.epoch, entries, anew=anew, own_from=self._own_from)

    def _take_answer(self, storing: asyncio.Future[int], to_seq: int) -> None:
        """Release what an append covered. What could not be stored is tried again."""
        try:
            ended_at = storing.result()
        except LogGapError as gap:
            if self._gap_after is None:
                self._begin_anew(gap.ends_at)
                self._stirred.set()
                return
            self._not_stored(to_seq)
        except StoreError as error:
            if error.reason is Reason.SUPERSEDED:
                raise
            self._not_stored(to_seq)
        else:
            self._is_stored(to_seq, ended_at)

    def _not_stored(self, to_seq: int) -> None:
        self._release(self._now(), to_seq, durable=False)
        self._bound_backlog()
        if self._retry is not None:
            self._retry.cancel()
        self._refused_at = self._now()
        self._retry_at = self._refused_at + self._retry_seconds
        self._retry = asyncio.get_running_loop().call_at(self._retry_at, self._stirred.set)

    def _is_stored(self, to_seq: int, ended_at: int) -> None:
        gap_after, self._gap_after = self._gap_after, None
        first, self._new_from = self._backlog[0].seq, max(self._new_from, to_seq + 1)
        while self._backlog and self._backlog[0].seq <= to_seq:
            self.taken_cseq = max(self.taken_cseq, self._backlog[0].cseq)
            self._kept.add(self._backlog.pop(0))
        self._release(self._now(), to_seq, durable=True)
        if self._backlog:
            self._stirred.set()
        if gap_after is not None:  # it may have lost more meanwhile
            self._tell_gap(min(gap_after, ended_at), first)

    # A store that has lost what it had.

    def _begin_anew(self, ends_at: int) -> None:
        """Put what the store has lost, as far as it is kept here, before what is to be stored."""
        self._gap_after = ends_at
        self._backlog[:0] = self._kept.take_after(ends_at)

    def _tell_gap(self, ends_at: int, first: int) -> None:
        """Name what is lost for good, if anything is."""
        _log.warning("record_stored_again", session_id=self._key.session_id, seq=ends_at, count=first - 1 - ends_at)
        if first > ends_at + 1:
            lost = StateChanged(SessionState.ACTIVE, self._store.durability, "store_gap", ends_at + 1, first - 1)
            self.control(lost)

    def _release(self, now: float, to_seq: int, *, durable: bool) -> None:
        """Send the held events up to a number, and those that are due."""
        while self._held and (self._held[0].outgoing.seq <= to_seq or self._held[0].due <= now):
            held = self._held.popleft()
            event = held.outgoing
            told = Outgoing(event.event, event.seq, 0, event.epoch, durable and event.seq <= to_seq)
            self._outbox.put(told, held.size_bytes)
        if not self._held:
            self._idle.set()

    def _bound_backlog(self) -> None:
        options = self._options
        new = [len(entry.payload) for entry in self._backlog if entry.seq >= self._new_from]
        if sum(new) <= options.backlog_max_bytes and len(new) <= options.backlog_max_entries:
            return
        _log.warning("record_lost", session_id=self._key.session_id)
        self._give_up()
        self.control(StateChanged(SessionState.ACTIVE, Durability.NONE, "store_lost"))

    def _give_up(self) -> None:
        """Go on without a store: nothing is held any more."""
        self._stores = False
        self.taken_cseq = self._given_cseq
        self._backlog.clear()
        self._release(self._now(), self.seq, durable=False)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
