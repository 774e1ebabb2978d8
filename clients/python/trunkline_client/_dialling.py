"""Which gateway is taken of those that are dialled at once, as happy eyeballs does for addresses.

Pure: time is an argument, in seconds that only rise. A connection counts when the gateway's process
has spoken on it; nothing but that says that one is alive.
"""

import enum
from dataclasses import dataclass

from trunkline_client._resume import Attempt
from trunkline_client.errors import refusal


class Link(enum.Enum):
    """How far a dial is. The last two are final."""

    TRYING = enum.auto()
    READY = enum.auto()
    FAILED = enum.auto()


@dataclass(slots=True)
class _Dial:
    is_owner: bool
    link: Link = Link.TRYING


class Race:
    """The dials of one round, numbered in the order of `due`.

    The owner is taken as soon as it is ready. Another one that is ready is taken when the owner has
    failed, or was waited for long enough. Where the link may have been away, one that is ready shows
    that it is back: the owner is dialled once more then, for what it missed before says nothing.
    """

    def __init__(self, attempt: Attempt, address: str, now: float) -> None:
        """Begin without a dial. `address` is the client's own."""
        # How long one may take: gRPC would make another connection, where nobody waits for one.
        self.connect_seconds = attempt.dial_seconds + attempt.patience_seconds
        self._owner = attempt.owner if _is_elsewhere(attempt.owner, address) else ""
        self._address = address
        self._others = attempt.dials
        self._may_dial_again = attempt.is_link_doubtful and bool(self._owner)
        self._patience_seconds = attempt.patience_seconds
        self._patient_until = now + attempt.patience_seconds
        self._over_at = now + attempt.dial_seconds
        self._dials: list[_Dial] = []

    def due(self, now: float) -> list[tuple[int, str]]:
        """Return the dials to be made now, each with its number and address."""
        if not self._dials:
            owners = [self._dial(is_owner=True)] if self._owner else []
            return owners + [self._dial(is_owner=False) for _ in range(self._others)]
        if self._may_dial_again and self._ready(is_owner=False) is not None and self._ready(is_owner=True) is None:
            self._may_dial_again = False
            self._patient_until = now + self._patience_seconds
            return [self._dial(is_owner=True)]
        return []

    def _dial(self, *, is_owner: bool) -> tuple[int, str]:
        self._dials.append(_Dial(is_owner))
        return len(self._dials) - 1, self._owner if is_owner else self._address

    def note(self, number: int, link: Link) -> None:
        """Note how a dial went; what comes after its end is no matter."""
        if self._dials[number].link is Link.TRYING:
            self._dials[number].link = link

    def taken(self, now: float) -> int | None:
        """Return the number of the dial that is taken; None = none yet. Ask `due` before."""
        owner, other = self._ready(is_owner=True), self._ready(is_owner=False)
        if owner is not None or other is None:
            return owner
        is_hopeless = all(each.link is Link.FAILED for each in self._dials if each.is_owner)
        return other if is_hopeless or now >= self._patient_until else None

    def is_owner(self, number: int) -> bool:
        """Tell whether a dial goes to the owner."""
        return self._dials[number].is_owner

    def check(self, now: float) -> None:
        """Raise CONNECTION_LOST if all have failed, TIMED_OUT if none was ready in time."""
        if all(each.link is Link.FAILED for each in self._dials):
            raise refusal("CONNECTION_LOST", "no gateway listens, or the link is away")
        if self._ready(is_owner=False) is None and now >= self._over_at:
            raise refusal("TIMED_OUT", "no gateway took the connection in time")

    def due_at(self) -> float:
        """Return when to ask again, if nothing else happens; none is taken yet."""
        return self._over_at if self._ready(is_owner=False) is None else self._patient_until

    def _ready(self, *, is_owner: bool) -> int | None:
        ready = (n for n, each in enumerate(self._dials) if each.is_owner is is_owner and each.link is Link.READY)
        return next(ready, None)


def _is_elsewhere(owner: str, address: str) -> bool:
    return owner not in {"", address, address.removeprefix("dns:///")}
