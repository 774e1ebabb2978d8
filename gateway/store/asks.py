"""Who waits for a place at one account, and what was called back for those who wait."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Final

from gateway.core.errors import CapacityError, PoolNumbers, Reason
from gateway.runtime.ports import SlotKind
from gateway.store.slots_call import Denied, Granted, Verdict

# Recovery before callers before refill, also within one call.
RANKS: Final = {SlotKind.SPARE: 0, SlotKind.LEASED: 1, SlotKind.WARM: 2}
NO_WANT: Final = "-"
# A place is on its way.
RETRY_SOON_SECONDS: Final = (0.1, 0.25)
# Nothing is known to be.
RETRY_LATER_SECONDS: Final = (0.5, 1.0)


@dataclass(slots=True, eq=False)
class Ask:
    """Somebody waits for a verdict; None = Redis did not decide."""

    kind: SlotKind
    want: str
    verdict: asyncio.Future[Verdict | None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future(),
    )

    @property
    def granted(self) -> bool:
        """Whether a place is counted for it."""
        return self.verdict.done() and not self.verdict.cancelled() and isinstance(self.verdict.result(), Granted)


def in_order(asks: Iterable[Ask]) -> list[Ask]:
    """Return those for which somebody still waits, by rank, then by age."""
    return sorted((ask for ask in asks if not ask.verdict.done()), key=lambda ask: RANKS[ask.kind])


class Wants:
    """The names of wants that stand in Redis while nobody here asks.

    A retry takes over the name that an earlier try left, so that one line is called back for both.
    """

    def __init__(self, life_seconds: float) -> None:
        """Know none."""
        self._life_seconds = life_seconds
        self._open: list[tuple[float, str]] = []
        self._count = 0

    def name_for(self, kind: SlotKind, gateway_id: str, now: float) -> str:
        """Return the name that an ask of `kind` goes by."""
        if kind is not SlotKind.LEASED:
            return NO_WANT
        self._open = [each for each in self._open if each[0] > now]
        if self._open:
            return self._open.pop(0)[1]
        self._count += 1
        return f"{gateway_id}:{self._count}"

    def keep(self, name: str, now: float) -> None:
        """Keep a name for the next retry, as long as the want may stand."""
        self._open.append((now + self._life_seconds, name))

    def clear(self) -> None:
        """Know none again."""
        self._open.clear()


def refusal(account: str, denied: Denied, numbers: PoolNumbers, rng: Random) -> CapacityError:
    """Say what there was none of, and when to ask again."""
    bounds = RETRY_SOON_SECONDS if denied.wanted else RETRY_LATER_SECONDS
    retry = rng.uniform(*bounds) if denied.retry_after_seconds is None else denied.retry_after_seconds
    what = "no place is free" if denied.reason is Reason.POOL_EXHAUSTED else "no turn to dial is free soon"
    return CapacityError(
        denied.reason,
        f"account {account}: {what}",
        numbers=numbers,
        retry_after_seconds=max(retry, RETRY_SOON_SECONDS[0]),
    )
