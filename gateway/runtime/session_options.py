"""What sessions share and how one ends: values only."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.core.errors import CallerError, GatewayError, Reason, StoreError, UpstreamError
from gateway.core.events import ClosedReason
from gateway.core.recovery import RecoveryOptions
from gateway.core.rotation import RotationOptions
from gateway.core.session import SessionEvent
from gateway.core.slowness import SlownessOptions
from gateway.core.watchdog import WatchdogOptions
from gateway.runtime.lane_parts import LaneParts
from gateway.runtime.observers import SessionObserver
from gateway.runtime.outbox import OutboxOptions
from gateway.runtime.pool import WarmPool
from gateway.runtime.pulse import PulseOptions
from gateway.runtime.reservations import Reservations
from gateway.runtime.resume_tokens import ResumeTokens
from gateway.runtime.tenants import Tenants


@dataclass(frozen=True, slots=True)
class ResumeOptions:
    """How long a session waits for a caller that was lost, and what it keeps meanwhile."""

    window_seconds: int = 120
    # The provider's line is kept for so long; whoever comes later gets another one.
    line_kept_seconds: float = 30.0
    # How much may be under way to a caller, not acknowledged as read.
    window_bytes: int = 1 << 20
    # Before a caller gets another token.
    token_seconds: float = 30.0
    # How soon after the last one an acknowledgement rides on audio.
    ack_seconds: float = 0.2
    # So many missed beats of the heart are its end.
    beats_max: int = 3


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """The limits of one session."""

    first_message_seconds: float = 5.0
    message_max_bytes: int = 262_144
    gateway_message_max_bytes: int = 4 << 20
    session_life_max_seconds: int = 7200
    session_idle_max_seconds: int = 300
    heartbeat_ms: int = 1000
    outbox: OutboxOptions = field(default_factory=OutboxOptions)
    # How long what is due after `bye` may take.
    finish_max_seconds: float = 30.0
    # How long one message, up or down, may be under way.
    send_max_seconds: float = 30.0
    # How long a fresh line may take to be told what was said.
    restore_max_seconds: float = 10.0
    # How long a caller that reads on may take to read what is left after its `bye`.
    delivery_max_seconds: float = 120.0
    # How long the last words may take to reach the caller at any other end.
    farewell_seconds: float = 2.0
    pulse: PulseOptions = field(default_factory=PulseOptions)
    watchdog: WatchdogOptions = field(default_factory=WatchdogOptions)
    recovery: RecoveryOptions = field(default_factory=RecoveryOptions)
    rotation: RotationOptions = field(default_factory=RotationOptions)
    slowness: SlownessOptions = field(default_factory=SlownessOptions)
    resume: ResumeOptions = field(default_factory=ResumeOptions)


@dataclass(frozen=True, slots=True)
class SessionParts:
    """What every session of a gateway shares."""

    pools: Mapping[str, WarmPool]
    reservations: Reservations
    tenants: Tenants
    lanes: LaneParts
    tokens: ResumeTokens
    observer: SessionObserver
    owner_address: str
    options: SessionOptions


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a session ends, and the error that the caller's status carries, if any."""

    reason: ClosedReason
    error: GatewayError | None = None
    caller_gone: bool = False
    # The words of the operator who ended it.
    detail: str = ""
    # It goes on elsewhere: its record stays, and its caller is not told that it is closed.
    moves: bool = False

    def steps(self, *, is_detached: bool) -> tuple[SessionEvent, ...]:
        """The way through the machine to its end."""
        if self.caller_gone:
            lost = () if is_detached else (SessionEvent.CALLER_LOST,)
            return (*lost, SessionEvent.WINDOW_ELAPSED, SessionEvent.UPSTREAM_CLOSED)
        if isinstance(self.error, UpstreamError) and not is_detached:
            return (SessionEvent.UPSTREAM_LOST, SessionEvent.GAVE_UP)
        return (SessionEvent.CLOSE_REQUESTED, SessionEvent.UPSTREAM_CLOSED)

    @classmethod
    def of(cls, error: GatewayError) -> "Ending":
        """Tell what an error that ends a session is to be called."""
        match error:
            case UpstreamError():
                return cls(ClosedReason.UPSTREAM, error)
            case StoreError() if error.reason is Reason.SUPERSEDED:
                return cls(ClosedReason.SUPERSEDED, error)
            case StoreError():
                return cls(ClosedReason.STORE, error)
            case CallerError() if error.reason is Reason.SLOW_CALLER:
                return cls(ClosedReason.SLOW_CALLER, error)
            case CallerError():
                return cls(ClosedReason.REFUSED, error)
            case _ if error.reason is Reason.DRAINING:
                return cls(ClosedReason.DRAINING, error)
        return cls(ClosedReason.INTERNAL, error)


GONE = Ending(ClosedReason.BYE_NOW, caller_gone=True)
CANCELLED = Ending(ClosedReason.KILLED)
