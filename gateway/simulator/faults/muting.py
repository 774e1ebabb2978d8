"""Faults that leave something unsaid: everything, some events, the end of a response, or the whole socket frozen."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from typing import ClassVar, Final

from gateway.simulator.events import Beat, Event, Script
from gateway.simulator.faults.fault import Fault, Line, Strike
from gateway.simulator.faults.keys import EVENT_GLOBS, key, whole
from gateway.simulator.faults.points import CREATED, POINT, AtPoint, Point

_DELTAS_MAX: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence(Fault):
    """No event is sent any more; pings are answered, events are read."""

    kind: ClassVar[str] = "silence"
    at: Point = key(POINT, default=Point(CREATED))  # noqa: RUF009 - it returns a field

    def strike(self, line: Line) -> Strike:
        """Return the silence of one socket."""
        return _Silent(line, self.at)


class _Silent(AtPoint):
    def __init__(self, line: Line, point: Point) -> None:
        super().__init__(line, point, self._fall_silent)
        self._silent = False

    def sends(self, event: Event) -> Sequence[Event]:
        return () if self._silent else (event,)

    def lift(self) -> None:
        super().lift()
        self._silent = False

    def _fall_silent(self) -> None:
        self._silent = True


@dataclass(frozen=True, slots=True, kw_only=True)
class HalfOpen(Fault):
    """Nothing is read, nothing is sent, no ping is answered; TCP stays."""

    kind: ClassVar[str] = "half-open"
    at: Point = key(POINT, default=Point(CREATED))  # noqa: RUF009 - it returns a field

    def strike(self, line: Line) -> Strike:
        """Return the freezing of one socket."""
        return _Frozen(line, self.at)


class _Frozen(AtPoint):
    def __init__(self, line: Line, point: Point) -> None:
        # Later, not at once: the event that makes the moment is still to be written.
        super().__init__(line, point, partial(line.later, 0, self._freeze))
        self._over = False

    def lift(self) -> None:
        super().lift()
        self._over = True
        self._line.thaw()

    def _freeze(self) -> None:
        if not self._over:
            self._line.freeze()


@dataclass(frozen=True, slots=True, kw_only=True)
class Mute(Fault):
    """Events of some types are never sent."""

    kind: ClassVar[str] = "mute"
    events: Sequence[str] = key(EVENT_GLOBS)

    def strike(self, line: Line) -> Strike:  # noqa: ARG002 - it looks at events only
        """Return the muting of one socket."""
        return _Muted(self.events)


@dataclass(frozen=True, slots=True, kw_only=True)
class NoSessionCreated(Fault):
    """`session.created` is never sent; everything else works."""

    kind: ClassVar[str] = "no-session-created"
    reaches_open: ClassVar[bool] = False

    def strike(self, line: Line) -> Strike:  # noqa: ARG002 - it looks at events only
        """Return the muting of one socket."""
        return _Muted(("session.created",))


class _Muted(Strike):
    def __init__(self, globs: Sequence[str]) -> None:
        self._globs = globs

    def sends(self, event: Event) -> Sequence[Event]:
        muted = any(fnmatchcase(event["type"], each) for each in self._globs)
        return () if muted else (event,)


@dataclass(frozen=True, slots=True, kw_only=True)
class StuckResponse(Fault):
    """A response begins and never ends: no `response.done`, not even when it is cancelled.

    The session counts it as active until it is cancelled, as the service does.
    """

    kind: ClassVar[str] = "stuck-response"
    deltas: int = key(whole(0, _DELTAS_MAX), default=3)

    def strike(self, line: Line) -> Strike:  # noqa: ARG002 - it looks at scripts and events only
        """Return what sticks on one socket."""
        return _Stuck(self.deltas)


class _Stuck(Strike):
    def __init__(self, deltas: int) -> None:
        self._deltas = deltas
        self._responses = set[str]()
        self._items = set[str]()

    def sends(self, event: Event) -> Sequence[Event]:
        response_id = event.get("response_id") or event.get("response", {}).get("id")
        over = response_id in self._responses or event.get("item", {}).get("id") in self._items
        return () if over and event["type"] not in ("response.created", "conversation.item.retrieved") else (event,)

    def plays(self, script: Script) -> Script:
        """Stop behind the given number of deltas, on a whole beat."""
        counted = _Counted()
        for beat in script:
            if counted.response_id is not None and counted.deltas >= self._deltas:
                self._responses.add(counted.response_id)
                self._items |= counted.items
                return
            yield Beat(beat.after_ms, partial(counted.events, beat))


class _Counted:
    """Watches what the beats of one script send."""

    def __init__(self) -> None:
        self.response_id: str | None = None
        self.items = set[str]()
        self.deltas = 0

    def events(self, beat: Beat) -> list[Event]:
        made = beat.events()
        for each in made:
            self.response_id = each.get("response_id", self.response_id)
            if each["type"] == "response.output_item.added":
                self.items.add(each["item"]["id"])
            self.deltas += each["type"].endswith(".delta")
        return made
