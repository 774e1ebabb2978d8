"""What can be chosen about Redis. Validated here; settings only fill it in."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gateway.core.events import Durability
from gateway.store.address import RedisAddress, parse
from gateway.store.keys import RECORD_LIFE_SECONDS

# A server looks after expired waits ten times a second: its answer to WAIT may be so much late.
SERVER_TICK_SECONDS: Final = 0.1

SPARE_MIN: Final = 2
SPARE_RATIO: Final = 0.05
# A smaller account would give up a quarter of its lines or more for what is rarely needed.
SPARE_FROM_CONNECTIONS: Final = 8
# Before the first answer nothing is known. A gateway that took the whole cap would be wrong wherever
# there are two; a quarter is right for up to four, and the first answer, a second later, ends it.
GATEWAYS_ASSUMED: Final = 4
# Before the places are gone, with some time to close lines.
FENCE_RATIO: Final = 0.9
# Two, and what the jitter adds to them.
REJOIN_HEARTBEATS: Final = 2.5
# Two intervals with more than this on top would not fit into a rejoin window.
HEARTBEAT_JITTER_MAX: Final = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisOptions:
    """Where Redis is, and every limit of what is asked of it. Raises `ValueError`."""

    # Never shown: a URL may hold a password.
    url: str = field(repr=False)
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    # Read anew for each connection.
    password_file: Path | None = None
    # The Sentinels' own; None = they ask for none.
    sentinel_password_file: Path | None = None
    tls_ca_file: Path | None = None
    # What a stored event outlives while all is well: PROCESS for the embedded server.
    durability: Durability = Durability.REPLICATED
    # For one batch, from the first byte out to the last answer, the replicas' included.
    deadline_seconds: float = 0.25
    # For a new connection, with TLS and authentication.
    connect_seconds: float = 1.0
    replicas_wait: int = 0
    replicas_wait_seconds: float = 0.1
    record_life_seconds: int = RECORD_LIFE_SECONDS
    retention_seconds: int = 0
    session_max_entries: int = 1024
    session_max_bytes: int = 1024 * 1024
    # Appends that wait for the writer or are on their way; past it they are refused at once.
    pending_max_bytes: int = 8 * 1024 * 1024
    batch_max_bytes: int = 1024 * 1024
    # The widest pause between two tries to reach a server that is gone.
    probe_max_seconds: float = 1.0
    # A quiet connection is asked this often whether it is still one.
    idle_ping_seconds: float = 2.0
    # What the URL says.
    address: RedisAddress = field(init=False)

    def __post_init__(self) -> None:
        """Refuse what cannot work, without repeating the URL."""
        object.__setattr__(self, "address", parse(self.url))
        if self.replicas_wait and self._latest_confirmation_seconds >= self.deadline_seconds:
            message = f"deadline_seconds must exceed replicas_wait_seconds + {SERVER_TICK_SECONDS}"
            raise ValueError(message)
        if self.session_max_bytes > self.pending_max_bytes:
            raise ValueError("pending_max_bytes must hold at least one session's session_max_bytes")

    @property
    def _latest_confirmation_seconds(self) -> float:
        return self.replicas_wait_seconds + SERVER_TICK_SECONDS


@dataclass(frozen=True, slots=True)
class AccountSlots:
    """What the provider allows one account. Raises `ValueError`."""

    connections_max: int
    dials_per_second: float
    # Dials that may come at once after a quiet time.
    dials_burst: int

    def __post_init__(self) -> None:
        """Refuse what nobody could ever dial with."""
        if self.connections_max < 1 or self.dials_burst < 1 or not self.dials_per_second > 0:
            raise ValueError("an account needs at least one connection, a burst of one and a dial rate above 0")

    @property
    def spare_kept(self) -> int:
        """How many places only rotation and recovery may take."""
        if self.connections_max < SPARE_FROM_CONNECTIONS:
            return 0
        return max(SPARE_MIN, math.ceil(self.connections_max * SPARE_RATIO))


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotsOptions:
    """Times of the shared places. Raises `ValueError`."""

    # A gateway that is silent for so long has lost its places.
    ttl_seconds: float = 15.0
    heartbeat_seconds: float = 1.0
    # How far a gateway's own interval, drawn once, is off: so that gateways do not report in step.
    heartbeat_jitter: float = 0.2
    # For one acquire: then this gateway decides by itself. Also for one report.
    acquire_seconds: float = 0.25
    # Places that come back in a row are told together.
    report_gap_seconds: float = 0.02
    # How long somebody's wish for a warm line's place stands.
    want_seconds: float = 2.0
    # How far ahead a turn to dial may be booked.
    delay_max_seconds: float = 2.0
    warm_delay_max_seconds: float = 1.0
    # How many gateways there may be, for one that never heard of any: 1 where the store is embedded.
    gateways_assumed: int = GATEWAYS_ASSUMED

    def __post_init__(self) -> None:
        """Refuse times that would let a healthy gateway's places go."""
        if self.ttl_seconds * FENCE_RATIO <= self.rejoin_seconds:
            message = f"ttl_seconds x {FENCE_RATIO} must exceed {REJOIN_HEARTBEATS} heartbeats"
            raise ValueError(message)
        if not 0 <= self.heartbeat_jitter <= HEARTBEAT_JITTER_MAX:
            message = f"heartbeat_jitter must be between 0 and {HEARTBEAT_JITTER_MAX}"
            raise ValueError(message)

    @property
    def rejoin_seconds(self) -> float:
        """After an outage: how long until every gateway that lives has reported again."""
        return self.heartbeat_seconds * REJOIN_HEARTBEATS

    @property
    def frozen_seconds(self) -> float:
        """A process that stood still for longer may have lost its places."""
        return self.ttl_seconds * FENCE_RATIO
