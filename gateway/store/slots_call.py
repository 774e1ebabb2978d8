"""What is said to slots.lua and what it answers; which number stands where is known here alone."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Final

from gateway.core.errors import Reason
from gateway.runtime.ports import SlotKind
from gateway.store.dial_rate import SECOND_US, delay_max_seconds, interval_us, reach_turns
from gateway.store.keys import account_keys
from gateway.store.link import Command, Reply
from gateway.store.options import AccountSlots, SlotsOptions
from gateway.store.scripts import SLOTS
from gateway.store.share import allowed_total
from gateway.store.writer import Job

CALL_BYTES: Final = 512
ASK_BYTES: Final = 64

_LETTERS: Final[Mapping[SlotKind, str]] = {SlotKind.LEASED: "L", SlotKind.WARM: "W", SlotKind.SPARE: "S"}
# The order of the script's numbers.
_KINDS: Final = tuple(_LETTERS)


@dataclass(frozen=True, slots=True)
class Granted:
    """A place and a turn: the dial may begin after the delay."""

    delay_seconds: float


@dataclass(frozen=True, slots=True)
class Denied:
    """Neither. No retry delay = as the asker sees fit. `wanted` = a warm line is called back for it."""

    reason: Reason
    retry_after_seconds: float | None = None
    wanted: bool = False


Verdict = Granted | Denied


@dataclass(frozen=True, slots=True)
class SlotsView:
    """What one gateway last heard of an account."""

    # Gateways that are alive, this one included.
    live: int
    # Places in use by kind, at all gateways.
    leased: int
    warm: int
    spare: int
    # What this gateway held then, and each of the others.
    own: int
    others: tuple[int, ...]

    @property
    def total(self) -> int:
        """How many places are in use."""
        return self.leased + self.warm + self.spare

    def allowed(self, cap: int) -> int:
        """How many of `cap` places this gateway may hold without asking."""
        return allowed_total(cap, self.own, self.others)


@dataclass(frozen=True, slots=True)
class Report:
    """The answer to one call."""

    view: SlotsView
    # Not everybody who lives has reported yet: the view is not whole.
    rejoining: bool
    # What is on the books of the dial rate.
    debt_seconds: float
    recalled: int
    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True, slots=True)
class Statement:
    """What a gateway says in one call: who it is, what it holds, what it would have without asking."""

    gateway_id: str
    turn: int
    held: Mapping[SlotKind, int]
    allowed: int
    # Its dials on its own, and what to assume of the others' where nothing is known.
    debt_seconds: float
    assumed_seconds: float
    # (kind, name of its want) of each ask.
    asks: Sequence[tuple[SlotKind, str]] = ()
    leaves: bool = False


class SlotsCall:
    """The calls about one account."""

    def __init__(self, name: str, account: AccountSlots, options: SlotsOptions) -> None:
        """Compute once what is the same in every call."""
        self._keys = astuple(account_keys(name))
        self._options = options
        interval = interval_us(account)
        self._limits = (account.connections_max, account.spare_kept)
        self._rate = (
            *(reach_turns(account.dials_burst, kind) * interval for kind in _KINDS),
            *(round(delay_max_seconds(options, kind) * SECOND_US) for kind in _KINDS),
        )
        self._interval_us = interval

    def job(self, said: Statement) -> Job:
        """Return the call, for the writer."""
        options = self._options
        rest: Command = (
            len(self._keys),
            *self._keys,
            said.gateway_id,
            said.turn,
            *(said.held[kind] for kind in _KINDS),
            0 if said.leaves else _ms(options.ttl_seconds),
            *self._limits,
            said.allowed,
            _ms(options.rejoin_seconds),
            _ms(options.want_seconds),
            self._interval_us,
            round(said.debt_seconds * SECOND_US),
            round(said.assumed_seconds * SECOND_US),
            *self._rate,
            *(part for kind, want in said.asks for part in (_LETTERS[kind], want)),
        )
        return Job(
            name="slots",
            command=("EVALSHA", SLOTS.sha, *rest),
            in_full=("EVAL", SLOTS.text, *rest),
            size_bytes=CALL_BYTES + ASK_BYTES * len(said.asks),
            # A place that a fail-over could forget is not taken; a mere report comes again.
            replicate=bool(said.asks),
        )


def parse(reply: Reply, own: int) -> Report | None:
    """Return what the script said to a gateway that held `own` before its asks; None = it came too late."""
    if bytes(reply[0]) != b"OK":
        return None
    recalled, live, leased, warm, spare, rejoining, debt_us, totals, answers = reply[1:]
    pairs = zip(answers[::2], answers[1::2], strict=True)
    verdicts = tuple(_verdict(bytes(word), number) for word, number in pairs)
    granted = sum(isinstance(verdict, Granted) for verdict in verdicts)
    view = SlotsView(live, leased, warm, spare, own + granted, tuple(totals))
    return Report(view, bool(rejoining), debt_us / SECOND_US, recalled, verdicts)


def _verdict(word: bytes, number: int) -> Verdict:
    match word:
        case b"OK":
            return Granted(number / SECOND_US)
        case b"RATE":
            return Denied(Reason.RATE_LIMITED, number / SECOND_US)
        case _:
            return Denied(Reason.POOL_EXHAUSTED, wanted=bool(number))


def _ms(seconds: float) -> int:
    return math.ceil(seconds * 1000)
