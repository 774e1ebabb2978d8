"""What a gateway's pools dialled and when, seen from inside the gateway: at once, in each second, for how long."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.core.effects import Dial
from gateway.core.ids import ConnectionId, WaiterId
from gateway.runtime.trunk_group import TrunkGroup
from tests.support.stack import Running


@dataclass
class Dials:
    """A record of one group. Times are of the loop's clock, in seconds."""

    begun: list[float] = field(default_factory=list)
    # Of those that succeeded.
    seconds: list[float] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)
    under_way: int = 0
    highest: int = 0
    # Dials beyond those who wait and the floor, at the moment of the decision.
    beyond: int = 0
    # In the order in which they got their lines.
    granted: list[WaiterId] = field(default_factory=list)

    def in_each_second(self, since: float) -> list[int]:
        """Count the dials by the second since a moment, none left out."""
        seconds = Counter(int(each - since) for each in self.begun if each >= since)
        return [seconds[each] for each in range(max(seconds, default=-1) + 1)]

    def most_in_a_second(self, since: float) -> int:
        """The most in any window of a second, wherever it begins."""
        return most_within(1.0, [each for each in self.begun if each >= since])


def most_within(seconds: float, times: Iterable[float]) -> int:
    """The most moments in any window of so many seconds."""
    highest, window = 0, list[float]()
    for each in sorted(times):
        window = [*(before for before in window if each - before < seconds), each]
        highest = max(highest, len(window))
    return highest


def watched(running: Running, pool: str = "default") -> Dials:
    """Record what the group of a pool does from now on."""
    group: TrunkGroup = running.gateway.pools[pool]._group
    record, now = Dials(), asyncio.get_running_loop().time
    dialler, deliver, begin = group._dialer, group._deliver, group._begin_dial

    class Clocked:
        """The group's dialler, with a clock."""

        async def dial(self, *args: Any) -> Any:
            began = now()
            record.begun.append(began)
            record.under_way += 1
            record.highest = max(record.highest, record.under_way)
            try:
                line = await dialler.dial(*args)
            except BaseException as error:
                record.failed[str(getattr(error, "reason", type(error).__name__))] += 1
                raise
            finally:
                record.under_way -= 1
            record.seconds.append(now() - began)
            return line

    def delivered(grant: Any) -> None:
        record.granted.append(grant.waiter_id)
        deliver(grant)

    def begun(dial: Dial) -> None:
        stats = group.stats(pool)
        record.beyond = max(record.beyond, stats.dialling + stats.ready - stats.waiting - stats.reserved - stats.floor)
        begin(dial)

    group._dialer = Clocked()
    group._deliver = delivered  # type: ignore[method-assign]
    group._begin_dial = begun  # type: ignore[method-assign]
    return record


def lines_of(running: Running, pool: str = "default") -> Mapping[ConnectionId, Any]:
    """The lines that the group of a pool has open."""
    return {line_id: line.upstream for line_id, line in running.gateway.pools[pool]._group._lines.items()}
