"""What sessions share and how one ends: values only."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.core.errors import CallerError, GatewayError, Reason, StoreError, UpstreamError
from gateway.core.events import ClosedReason
from gateway.core.recovery import RecoveryOptions
from gateway.core.rotation import RotationOptions
from gateway.core.session import SessionEvent
from gateway.runtime.lanes import LaneParts
from gateway.runtime.outbox import OutboxOptions
from gateway.runtime.pool import WarmPool
from gateway.runtime.ports import SessionObserver
from gateway.runtime.pulse import PulseOptions
from gateway.runtime.reservations import Reservations


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
    recovery: RecoveryOptions = field(default_factory=RecoveryOptions)
    rotation: RotationOptions = field(default_factory=RotationOptions)


@dataclass(frozen=True, slots=True)
class SessionParts:
    """What every session of a gateway shares."""

    pools: Mapping[str, WarmPool]
    reservations: Reservations
    lanes: LaneParts
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

    def steps(self) -> tuple[SessionEvent, ...]:
        """The way through the machine of a session that is neither resumable nor recovered."""
        if isinstance(self.error, UpstreamError):
            return (SessionEvent.UPSTREAM_LOST, SessionEvent.GAVE_UP)
        if self.caller_gone:
            return (SessionEvent.CALLER_LOST, SessionEvent.WINDOW_ELAPSED, SessionEvent.UPSTREAM_CLOSED)
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
