"""Faults of what is said: too slow, broken, in the wrong order."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import ClassVar, Final

from gateway.simulator.events import Beat, Event, Script, event
from gateway.simulator.faults.fault import Fault, Line, Strike
from gateway.simulator.faults.keys import FaultError, choice, key, number
from gateway.simulator.faults.points import CREATED, POINT, AtPoint, Point

_FACTOR_MAX: Final = 10_000
_GAP_MAX_MS: Final = 3_600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowDeltas(Fault):
    """Deltas come later than they would: `factor` times as slow, and at least `ms` apart."""

    kind: ClassVar[str] = "slow-deltas"
    factor: float = key(number(1, _FACTOR_MAX), default=1.0)
    ms: float = key(number(0, _GAP_MAX_MS), default=0.0)

    def __post_init__(self) -> None:
        """Refuse a fault that does nothing. Raises FaultError."""
        Fault.__post_init__(self)
        if self.factor == 1 and not self.ms:
            message = f"fault '{self.kind}' needs factor (above 1) or ms (above 0)"
            raise FaultError(message)

    def strike(self, line: Line) -> Strike:  # noqa: ARG002 - it changes scripts only
        """Return the slowness of one socket."""
        return _Slow(self)


class _Slow(Strike):
    def __init__(self, fault: SlowDeltas) -> None:
        self._fault = fault

    def plays(self, script: Script) -> Script:
        """Put off every beat but the first."""
        first = last = None
        for beat in script:
            if first is None or last is None:
                first = last = beat.after_ms
            else:
                last = max(first + (beat.after_ms - first) * self._fault.factor, last + self._fault.ms)
            yield Beat(last, beat.events)


def _broken() -> bytes:
    whole = event("response.output_text.delta", delta="This will never be a whole")
    return json.dumps(whole).encode()[:-3]


_FORMS: Final = {
    "cut": (_broken, True),
    "not-utf8": (lambda: b'{"type":"response.output_text.delta","delta":"\xff\xfe"}', True),
    "binary": (lambda: bytes(range(64)), False),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GarbageJson(Fault):
    """One message is none: JSON that ends too soon, text that is not UTF-8, or a binary message."""

    kind: ClassVar[str] = "garbage-json"
    form: str = key(choice(*_FORMS), default="cut")
    at: Point = key(POINT, default=Point(CREATED))  # noqa: RUF009 - it returns a field

    def strike(self, line: Line) -> Strike:
        """Return the broken message of one socket."""
        payload, text = _FORMS[self.form]
        return AtPoint(line, self.at, lambda: line.put_frame(payload(), text=text))


# What is held back, and the type behind which it goes out after all.
_SWAPPED: Final = {
    "created-after-first-delta": ("response.created", "response.*.delta"),
    "item-added-after-deltas": ("response.output_item.added", "response.*.done"),
    "response-done-before-item-done": ("response.output_item.done", "response.done"),
    "speech-stopped-before-started": (
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
    ),
}
_TWICE: Final = "everything-twice"


@dataclass(frozen=True, slots=True, kw_only=True)
class WrongOrder(Fault):
    """Two events change places, on every turn; or each event comes twice."""

    kind: ClassVar[str] = "wrong-order"
    variant: str = key(choice(*_SWAPPED, _TWICE))

    def strike(self, line: Line) -> Strike:  # noqa: ARG002 - it looks at events only
        """Return the disorder of one socket."""
        return _Doubled() if self.variant == _TWICE else _Swapped(*_SWAPPED[self.variant])


class _Doubled(Strike):
    def sends(self, event: Event) -> Sequence[Event]:
        return (event, event)


class _Swapped(Strike):
    def __init__(self, held: str, behind: str) -> None:
        self._held_type = held
        self._behind = behind
        self._held: dict[str, Event] = {}

    def sends(self, event: Event) -> Sequence[Event]:
        about = _about(event)
        if event["type"] == self._held_type:
            self._held[about] = event
            return ()
        # A response that ends early has no such event; nothing is held beyond its end.
        if fnmatchcase(event["type"], self._behind) or event["type"] == "response.done":
            late = self._held.pop(about, None)
            return (event,) if late is None else (event, late)
        return (event,)


def _about(event: Event) -> str:
    """Return the id of the response, or else of the item, that an event belongs to."""
    return str(event.get("response_id") or event.get("response", {}).get("id") or event.get("item_id"))
