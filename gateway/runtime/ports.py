"""What the runtime needs of the world. Each port is one room's promise; nothing here names a library."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Protocol

from gateway.core.events import (
    CallerAck,
    CallerMessage,
    Durability,
    EpochStart,
    GatewayAck,
    Outgoing,
)
from gateway.core.principal import Principal
from gateway.core.record import Note, Opening, Record
from gateway.core.template import LineClass


class CallerStream(Protocol):
    """One `Converse` call. One reader and one writer at a time; nobody else closes it."""

    @property
    def principal(self) -> Principal:
        """Who calls."""

    @property
    def size_bytes(self) -> int:
        """The size of the last message that was read."""

    @property
    def audio_position(self) -> int:
        """Where the audio last read begins, in samples since the session began; 0 where the caller does not say."""

    @property
    def ack(self) -> CallerAck | None:
        """What the last message acknowledged; None = nothing."""

    @property
    def written_bytes(self) -> int:
        """How many bytes of messages were written so far."""

    @property
    def trace(self) -> str:
        """The caller's own span, as W3C `traceparent` says it; empty = it has none. Not checked."""

    def remaining_seconds(self) -> float:
        """How long the caller will wait for the end of the call; +inf = for ever."""

    async def read(self) -> CallerMessage | None:
        """Return the next message; None = the caller sends no more (it may still listen)."""

    async def write(self, outgoing: Outgoing, ack: GatewayAck | None = None) -> None:
        """Send one event; returns when the transport has taken it. Raises `CallerGoneError`."""


class CallerGoneError(Exception):
    """The caller's stream is no longer there."""


@dataclass(slots=True)
class DialTimes:
    """How long one dial took, in seconds: each stage (one that was not reached is absent), and all of it."""

    stages: dict[str, float] = field(default_factory=dict)
    total: float = 0.0


class Upstream(Protocol):
    """One line to the Realtime API, ready for use."""

    session_id: str
    # The provider's deadline, in seconds of life that were left when the line became ready.
    life_seconds: float | None

    async def send(self, frame: bytes) -> None:
        """Send one client event (JSON). Raises `UpstreamClosedError`."""

    async def receive(self) -> bytes:
        """Return the next server event (JSON). Raises `UpstreamClosedError`, also on a clean end."""

    async def ping(self) -> None:
        """Return when the other side has answered. Raises `UpstreamClosedError`. The caller has the deadline."""

    async def wait_closed(self) -> str:
        """Return, in a few words, why the line is closed, as soon as it is."""

    async def close(self) -> None:
        """Close; returns within a bounded time, and never raises."""


class Dialer(Protocol):
    """Opens lines."""

    async def dial(
        self, line: LineClass, session: dict[str, Any] | None, times: DialTimes, safety_identifier: str = ""
    ) -> Upstream:
        """Open a line and apply `session`, if any; returns after it was confirmed. Raises `DialError`."""


class SlotKind(Enum):
    """What a place at an account is used for."""

    # A caller holds the line, or waits for it.
    LEASED = auto()
    # The line stands ready; its place can be called back for somebody who waits.
    WARM = auto()
    # Kept for the rotation and the recovery of running sessions.
    SPARE = auto()


class Slots(Protocol):
    """The places and the dial rate of each account, shared by all gateways."""

    async def acquire(self, account: str, kind: SlotKind) -> float:
        """Take a place and a turn to dial; return how long to wait before dialling, in seconds.

        Recovery (SPARE) comes before callers (LEASED), and they before refill (WARM). Raises `CapacityError`:
        POOL_EXHAUSTED (no place) or RATE_LIMITED (no turn soon), both with a retry delay and nothing taken.
        """

    def change(self, account: str, before: SlotKind, after: SlotKind) -> None:
        """Record that a place is used for something else now. Never waits, never fails."""

    def release(self, account: str, kind: SlotKind) -> None:
        """Give a place back: its line is closed. Never waits, never fails."""


class ReservationBook(Protocol):
    """Which reservations live, for every gateway to see. Every method has a deadline of its own.

    Each raises `StoreError` STORE_UNAVAILABLE.
    """

    @property
    def connects(self) -> int:
        """How often it was connected to: what was entered before may be gone."""

    async def add(self, lease_id: str, ttl_seconds: float) -> None:
        """Enter a reservation; it leaves by itself after `ttl_seconds`."""

    async def renew(self, lease_id: str, ttl_seconds: float) -> bool:
        """Let it live for so long from now; return False when it has ended already."""

    async def take(self, lease_id: str) -> bool:
        """End it; return whether it was this very call that did, so that only one of many may use it."""

    async def living(self, lease_ids: Sequence[str]) -> frozenset[str]:
        """Return which of these still live."""


class TenantBook(Protocol):
    """What the tenants of all gateways have."""

    async def exchange(self, account: str, own: Mapping[str, int]) -> Mapping[str, int]:
        """Tell how many lines each tenant has here; return how many it has at the other gateways.

        Has a deadline of its own. Raises `StoreError` STORE_UNAVAILABLE.
        """


class TokenSealer(Protocol):
    """Makes words that only a gateway can read and that nobody can forge."""

    def seal(self, purpose: str, content: bytes) -> str:
        """Return the token: printable, URL-safe, different each time."""

    def open(self, purpose: str, token: str) -> bytes | None:
        """Return the content; None = not sealed by us for this purpose."""


@dataclass(frozen=True, slots=True)
class SessionKey:
    """Whose session, and which. Both are part of every key and of the seal."""

    tenant: str
    session_id: str


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One class L event: its number, the caller's number that caused it (0 = none), its bytes."""

    seq: int
    payload: bytes
    cseq: int = 0


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a new owner gets: its number, where its own events and the caller's controls go on, and what is stored."""

    epoch: int
    # The last number that counts: the next event has the one after it.
    seq: int
    # The highest number of a control.
    cseq: int
    # Oldest first.
    entries: tuple[LogEntry, ...]


class RecordForm(Protocol):
    """The stored form of events. What reads raises `StoreError` INTERNAL for what it does not know."""

    def encode(self, outgoing: Outgoing, note: Note | None = None, opening: Opening | None = None) -> bytes:
        """Return the stored form of an event, with what only a gateway is to know of it."""

    def read(self, entry: LogEntry) -> Record:
        """Return what a stored event means to a new owner."""

    def again(self, entry: LogEntry) -> Outgoing:
        """Return a stored event for a caller that does not have it, as its owner told it."""


class SessionStore(Protocol):
    """Session state. Every write carries the owner's epoch; an older owner is refused."""

    @property
    def durability(self) -> Durability:
        """What a stored event outlives now; NONE while the store cannot be reached."""

    async def append(
        self, key: SessionKey, epoch: int, entries: Sequence[LogEntry], *, anew: bool = False, own_from: int = 1
    ) -> int:
        """Add entries with consecutive numbers; returns when they are stored as durably as `durability` says.

        Returns with which number the log ended before. With `anew` there may be a gap before them: what was there
        is lost. `own_from` is the first number that this owner has written: what an older one wrote from there on, a
        server that forgot this owner took from a zombie.

        Raises `StoreError`: STORE_UNAVAILABLE (may be tried again with the same entries: what is there
        already is not stored twice), `LogGapError`, or SUPERSEDED (a newer owner wrote: stop).
        """

    async def claim(
        self, key: SessionKey, token_epoch: int, last_seq: int, epochs: Sequence[EpochStart]
    ) -> Claimed | None:
        """Become the owner: whoever was it before can write no more. None = nothing is stored of the session.

        `token_epoch`, `last_seq` and `epochs` are what the caller has seen: an owner's number never falls, and what
        contradicts the caller is dropped. Raises `StoreError` STORE_UNAVAILABLE: it may be tried again.
        """

    async def finish(self, key: SessionKey, epoch: int) -> None:
        """Let the session's state go, at once or after the configured retention."""

    async def read(self, key: SessionKey, from_seq: int = 1) -> list[LogEntry]:
        """Return what is stored from number `from_seq` on; oldest entries may be trimmed away.

        Raises `StoreError`: STORE_UNAVAILABLE, or INTERNAL when an entry does not open.
        """
