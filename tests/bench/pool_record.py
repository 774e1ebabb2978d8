"""What a simulation knows and saw: its lines and callers, what they were told, the dials, and the shelves."""

from array import array
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import blake2b

from gateway.core.effects import Effect
from gateway.core.errors import Reason
from gateway.core.ids import LeaseId


@dataclass(slots=True)
class Line:
    """What the world knows of one line."""

    pool: str
    state: str = "dialling"
    lease_id: LeaseId | None = None


@dataclass(frozen=True, slots=True)
class Asker:
    """A caller who waits for an answer."""

    pool: str
    asked_at: float
    # Of all who asked for this template.
    number: int


class Result(StrEnum):
    """What became of a caller."""

    HIT = "hit"
    WAITED = "waited"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Answer:
    """What one caller was told, and when it had asked."""

    pool: str
    asked_at: float
    waited_seconds: float
    result: Result
    reason: Reason | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """The pool's own view at one moment, all of its templates together."""

    at: float
    floor: int
    ready: int
    lines: int


class Shelves:
    """How many lines and callers there were, after each event that changed it. One column each."""

    def __init__(self) -> None:
        self.at = array("d")
        self.ready = array("l")
        self.dialling = array("l")
        self.waiting = array("l")

    def add(self, now: float, ready: int, dialling: int, waiting: int) -> None:
        """Remember a moment; one that changes nothing is left out, and one at the same time replaces the last."""
        if self.at:
            if (self.ready[-1], self.dialling[-1], self.waiting[-1]) == (ready, dialling, waiting):
                return
            if self.at[-1] == now and self.waiting[-1] <= waiting and self.dialling[-1] <= dialling:
                self.ready[-1], self.dialling[-1], self.waiting[-1] = ready, dialling, waiting
                return
        self.at.append(now)
        self.ready.append(ready)
        self.dialling.append(dialling)
        self.waiting.append(waiting)

    def first_with_ready(self, count: int, since: float) -> float | None:
        """When so many lines stood ready for the first time at or after `since`; None = never."""
        before = 0
        for at, ready in zip(self.at, self.ready, strict=True):
            if at > since and before >= count:
                return since
            if at >= since and ready >= count:
                return at
            before = ready if at <= since else -1
        return since if before >= count else None


@dataclass(slots=True)
class Record:
    """Everything that the figures are made of. Times in seconds from the start."""

    answers: list[Answer] = field(default_factory=list)
    asked_at: list[float] = field(default_factory=list)
    # When dials were decided, and when they began: a turn may have to be waited for.
    decided_at: list[float] = field(default_factory=list)
    dialled_at: list[float] = field(default_factory=list)
    failed_at: list[float] = field(default_factory=list)
    given_up_at: list[float] = field(default_factory=list)
    # Lines that were ready and ended without a call, and why.
    wasted_at: list[float] = field(default_factory=list)
    wasted_by: Counter[str] = field(default_factory=Counter)
    samples: list[Sample] = field(default_factory=list)
    shelves: Shelves = field(default_factory=Shelves)
    dials_at_once_max: Counter[str] = field(default_factory=Counter)
    # What must not happen, counted.
    dials_before_backoff: int = 0
    overtaken: int = 0
    revoked: int = 0
    events: int = 0
    _trace: "blake2b" = field(default_factory=lambda: blake2b(digest_size=16))

    def effect(self, now: float, effect: Effect) -> None:
        """Let an effect count for the trace."""
        self._trace.update(f"{now!r} {effect!r}\n".encode())

    @property
    def trace(self) -> str:
        """A hash of every effect and its moment: two runs are the same if this is."""
        return self._trace.hexdigest()
