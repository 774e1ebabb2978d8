"""What a fault is, what it does to one socket, and what a socket lets it do.

A `Fault` is a value: what was asked for. A `Strike` is that fault at work on one socket.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import ClassVar, Final, Protocol

from gateway.simulator.events import Event, Script
from gateway.simulator.faults.keys import COUNT, PROBABILITY, SECONDS, FaultError, Reader, key

# What JSON has as it is.
_PLAIN: Final = (str, int, float, type(None))


class Line(Protocol):
    """A socket, as far as a fault may touch it."""

    @property
    def created(self) -> bool:
        """Whether `session.created` is due or behind it."""

    def put_frame(self, payload: bytes, *, text: bool) -> None:
        """Send a message as it is, behind what is queued and past all faults."""

    def close(self, code: int, reason: str) -> None:
        """Close behind what is queued: 0 or 1005 without a code, 1006 by a TCP reset."""

    def freeze(self) -> None:
        """Neither read nor write from now on; TCP stays."""

    def thaw(self) -> None:
        """Go on where it froze."""

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something unless the socket ends before."""


class Strike:
    """A fault at work on one socket. This one does nothing; each kind changes what it is about."""

    def begin(self) -> None:
        """Start: the socket runs, perhaps since long."""

    def sends(self, event: Event) -> Sequence[Event]:
        """Return what goes out in the place of `event`."""
        return (event,)

    def told(self, event: Event) -> None:
        """Learn that the session has said `event`, whatever went out of it."""

    def heard(self) -> None:
        """Learn that a client event has come."""

    def plays(self, script: Script) -> Script:
        """Return how a script is played instead."""
        return script

    def lift(self) -> None:
        """Undo what lasts: the fault is over."""


@dataclass(frozen=True, slots=True)
class HandshakeRefusal:
    """An answer to the upgrade request instead of the upgrade."""

    status: int
    retry_after: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that goes wrong on request. Raises FaultError where it is made, if a value is none.

    probability: whether a socket gets it, drawn anew for each.
    count: at most so many sockets get it.
    for_seconds: how long it lasts after it was set, for new sockets and on those that have it.
    """

    kind: ClassVar[str]
    reaches_open: ClassVar[bool] = True
    """Whether a socket can get it after its opening."""

    probability: float = key(PROBABILITY, default=1.0)
    count: int | None = key(COUNT, default=None)
    for_seconds: float | None = key(SECONDS, default=None)

    def __post_init__(self) -> None:
        """Read every key by its reader."""
        for each in fields(self):
            given = getattr(self, each.name)
            if given is None and each.default is None:
                continue
            reader: Reader = each.metadata["reader"]
            try:
                value = reader.convert(given)
            except (ValueError, TypeError, OverflowError):
                message = f"fault '{self.kind}': {each.name} must be {reader.expected}, not {given!r}"
                raise FaultError(message) from None
            object.__setattr__(self, each.name, value)

    @property
    def life_seconds(self) -> float | None:
        """How long a session lives instead of the option's time."""
        return None

    async def before_upgrade(self, gone: Callable[[], bool]) -> HandshakeRefusal | None:  # noqa: ARG002
        """Do something while the caller waits for its upgrade; `gone` tells whether it still does."""
        return None

    def strike(self, line: Line) -> Strike:  # noqa: ARG002 - most faults need it
        """Return this fault at work on one socket."""
        return Strike()

    def describe(self) -> dict[str, object]:
        """Return it as JSON has it: its kind, its own keys, the keys of all."""
        common = {each.name for each in fields(Fault)}
        names = sorted((each.name for each in fields(self)), key=lambda name: name in common)
        shown = ((name, getattr(self, name)) for name in names)
        plain = {name: value if isinstance(value, _PLAIN) else _as_json(value) for name, value in shown}
        return {"kind": self.kind, **plain}


def _as_json(value: object) -> object:
    return list(value) if isinstance(value, tuple) else str(value)
