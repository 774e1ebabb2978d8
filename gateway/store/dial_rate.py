"""The dial rate's numbers, and the turns of a gateway that is on its own. slots.lua says how they are meant.

One place knows what each kind of place may use of the burst: what Redis decides and what a
gateway decides without it must not differ.
"""

import math
from collections.abc import Mapping
from typing import Final

from gateway.runtime.ports import SlotKind
from gateway.store.options import AccountSlots, SlotsOptions

SECOND_US: Final = 1_000_000
# Recovery before callers before refill.
BURST_RATIOS: Final[Mapping[SlotKind, float]] = {SlotKind.SPARE: 1.0, SlotKind.LEASED: 0.8, SlotKind.WARM: 0.5}


def interval_us(account: AccountSlots) -> int:
    """Return the time between two dials at the full rate; rounded so that the rate is never exceeded."""
    return math.ceil(SECOND_US / account.dials_per_second)


def reach_turns(burst: int, kind: SlotKind) -> int:
    """Return how many turns may be taken already for one more to be had at once."""
    return max(1, math.floor(burst * BURST_RATIOS[kind])) - 1


def burst_seconds(account: AccountSlots) -> float:
    """Return the debt of a bucket that is empty."""
    return account.dials_burst * interval_us(account) / SECOND_US


def delay_max_seconds(options: SlotsOptions, kind: SlotKind) -> float:
    """Return how far ahead a turn may be booked."""
    return options.warm_delay_max_seconds if kind is SlotKind.WARM else options.delay_max_seconds


class LocalTurns:
    """This gateway's part of the dial rate, for while there is nobody to ask."""

    def __init__(self, account: AccountSlots, options: SlotsOptions) -> None:
        """Begin with nothing used."""
        self._account = account
        self._options = options
        self._tat = -math.inf

    def book(self, kind: SlotKind, now: float, live: int) -> tuple[bool, float]:
        """Take a turn: True and the delay, or False and when to ask again. `live` gateways share the rate."""
        interval, burst = self._part(live)
        delay = max(0.0, self._tat - now - reach_turns(burst, kind) * interval)
        delay_max = delay_max_seconds(self._options, kind)
        if delay > delay_max:
            return False, delay - delay_max
        self._tat = max(self._tat, now) + interval
        return True, delay

    def learn(self, now: float, debt_seconds: float) -> None:
        """Take over what Redis has on its books: each gateway owes its part of it."""
        self._tat = now + debt_seconds

    def part_from(self, now: float) -> None:
        """Begin on our own beside others: what they used since Redis was last heard is not known, so all of it."""
        self._tat = max(self._tat, now + burst_seconds(self._account))

    def debt_seconds(self, now: float) -> float:
        """Return what is used of the burst, and booked beyond it, in time."""
        return max(0.0, self._tat - now)

    def _part(self, live: int) -> tuple[float, int]:
        return interval_us(self._account) * live / SECOND_US, max(1, self._account.dials_burst // live)
