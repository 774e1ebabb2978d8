"""A storm over a pool: everything that can happen to it, in an order that a seed draws. Afterwards nothing is left.

What is checked all along: the fakes' own rules (no place is given back that is not held), that no more lines
stand than the bounds allow, and that no line has two holders.
"""

import asyncio
from collections import Counter
from random import Random

import pytest
from structlog.testing import capture_logs

from gateway.core.demand import DemandOptions
from gateway.core.errors import DialError, GatewayError, Reason, StoreError, UpstreamClosedError
from gateway.core.principal import Principal
from gateway.runtime.ports import CallerGoneError
from gateway.runtime.reservations import Reserved
from tests.support.virtual_time import advance, now, others, turns
from tests.unit.runtime.fakes import ACME
from tests.unit.runtime.holders import Holder, wish
from tests.unit.runtime.stage import END_USER_LINE, Stage

STEPS = 250
NAMES = ("default", "second", "third")
FAILURES = (Reason.UPSTREAM_UNREACHABLE, Reason.UPSTREAM_RATE_LIMITED, Reason.CONFIG_REJECTED)


class Storm:
    """One gateway's pools, and a random course of events."""

    def __init__(self, seed: int) -> None:
        self.draw = Random(seed)
        self.stage = Stage(
            names=NAMES,
            line=END_USER_LINE,
            floor=self.draw.choice([0, 1, 3]),
            ceiling=self.draw.choice([2, 5]),
            reserve=self.draw.choice([0, 1]),
            waiters_max=self.draw.choice([2, 20]),
            demand=DemandOptions(enabled=self.draw.random() < 0.5),
        )
        self.stage.keep_reservations()
        self.holders: list[Holder] = []
        self.reserving: list[asyncio.Task[Reserved]] = []
        self.principal: Principal = ACME
        self.acts = [
            *[self.come] * 6,
            *[self.go] * 3,
            *[self.let_go] * 4,
            *[self.reserve] * 2,
            self.redeem,
            self.release,
            *[self.lose] * 2,
            self.fall_silent,
            self.refuse_place,
            self.fail_dial,
            self.hold_dials,
            self.pause,
            self.drain,
            self.stall,
            self.give_back,
            self.fence,
            self.break_book,
        ]

    # What happens.

    def come(self) -> None:
        draw = self.draw
        identifier = f"user-{draw.randrange(9)}" if draw.random() < 0.2 else ""
        more = {"pool": draw.choice(NAMES), "safety_identifier": identifier}
        holder = Holder(self.stage, draw.choice([0.1, 2.0, 20.0]), foreign=draw.random() < 0.1, **more)
        holder.renews = draw.random() < 0.9
        holder.told_seconds = draw.choice([0.0, 0.0, 0.7])
        self.holders.append(holder)

    def go(self) -> None:
        if self.holders:
            holder = self.draw.choice(self.holders)
            if self.draw.random() < 0.5:
                holder.task.cancel()
            elif not holder.abandoned.done():
                holder.abandoned.set_result(None)

    def let_go(self) -> None:
        if self.holders:
            self.draw.choice(self.holders).let_go()

    def reserve(self) -> None:
        pool = self.stage.pools[self.draw.choice(NAMES)]
        ttl, key = self.draw.choice([0.5, 30.0]), self.draw.choice(["", "k"])
        making = self.stage.reservations.acquire(pool, ttl, wish(self.draw.choice([0.1, 5.0])), key)
        self.reserving.append(asyncio.ensure_future(making))

    def redeem(self) -> None:
        for token in self._tokens():
            try:
                found = self.stage.reservations.look(token, ACME)
            except GatewayError:
                continue
            self.holders.append(Holder(self.stage, 5.0, pool=found.pool, reservation=found.lease_id))
            return

    def release(self) -> None:
        tokens = self._tokens()
        if tokens:
            releasing = self.stage.reservations.release(self.draw.choice(tokens), ACME)
            self.stage._calls.append(asyncio.ensure_future(releasing))
        elif self.reserving:
            self.draw.choice(self.reserving).cancel()

    def _tokens(self) -> list[str]:
        done = [task for task in self.reserving if task.done() and not task.cancelled() and not task.exception()]
        return [task.result().token for task in done]

    def lose(self) -> None:
        if lines := self.stage.exchange.open_lines:
            self.draw.choice(lines).lose()

    def fall_silent(self) -> None:
        if lines := self.stage.exchange.open_lines:
            line = self.draw.choice(lines)
            line.may_answer.clear()
            if self.draw.random() < 0.3:
                line.ping_failure = UpstreamClosedError(Reason.UPSTREAM_CLOSED, "reset")

    def refuse_place(self) -> None:
        reason = self.draw.choice([Reason.POOL_EXHAUSTED, Reason.RATE_LIMITED])
        self.stage.slots.refuse(reason, self.draw.choice([None, 0.1, 3.0]), self.draw.randrange(1, 5))

    def fail_dial(self) -> None:
        failure = DialError(self.draw.choice(FAILURES), "no", retry_after_seconds=self.draw.choice([None, 1.0]))
        self.stage.exchange.failures.extend([failure] * self.draw.randrange(1, 8))

    def hold_dials(self) -> None:
        gate = self.draw.choice([self.stage.exchange.may_answer, self.stage.slots.may_grant])
        gate.clear()
        asyncio.get_running_loop().call_later(self.draw.choice([0.0, 0.5, 15.0]), gate.set)

    def pause(self) -> None:
        pool = self.stage.pools[self.draw.choice(NAMES)]
        pool.pause()
        asyncio.get_running_loop().call_later(1.0, pool.unpause)

    def drain(self) -> None:
        pool = self.stage.pools[self.draw.choice(NAMES)]
        pool.drain()
        asyncio.get_running_loop().call_later(1.0, pool.unpause)

    def stall(self) -> None:
        advance(self.draw.choice([0.3, 5.0, 40.0]))

    def give_back(self) -> None:
        self.stage.group.give_back(self.draw.randrange(1, 4))

    def fence(self) -> None:
        if self.draw.random() < 0.2:
            self.stage.group.perform(self.stage.core.fence(now()))

    def break_book(self) -> None:
        book = self.stage.book
        book.failure = None if book.failure else StoreError(Reason.STORE_UNAVAILABLE, "down")

    # What holds.

    def nothing_is_wrong(self) -> None:
        stage = self.stage
        held = Counter(line.lease_id for pool in stage.pools.values() for line in pool.leases.values())
        assert all(count == 1 for count in held.values())
        ups = [line._upstream for pool in stage.pools.values() for line in pool.leases.values()]
        assert len(ups) == len(set(ups)), "a line has two holders"
        each = {share.name: stage.group.stats(share.name) for share in stage.core._books.all}
        for name in NAMES:
            assert each[name].total <= each[name].ceiling, f"{name} is above its ceiling"
        lines = sum(stats.total for stats in each.values())
        assert lines <= sum(each[name].ceiling for name in NAMES)
        # A line that is closing has left the books of its share only when its place is free.
        assert stage.slots.total <= lines + sum(1 for line in stage.exchange.lines if line.closes and line.is_open)

    async def end(self) -> None:
        for holder in self.holders:
            holder.let_go()
            if self.draw.random() < 0.5:
                holder.task.cancel()
        for task in self.reserving:
            task.cancel()
        await asyncio.gather(*self.reserving, return_exceptions=True)
        ends = await asyncio.gather(*(holder.task for holder in self.holders), return_exceptions=True)
        allowed = (GatewayError, CallerGoneError, asyncio.CancelledError)
        assert [end for end in ends if end is not None and not isinstance(end, allowed)] == []


@pytest.mark.parametrize("seed", range(20))
async def test_after_a_storm_nothing_is_left_and_the_next_one_is_served(seed: int) -> None:
    storm = Storm(seed)
    stage = storm.stage
    with capture_logs() as logs:
        await stage.warm()
        for _ in range(STEPS):
            storm.draw.choice(storm.acts)()
            if storm.draw.random() < 0.5:
                await turns(storm.draw.randrange(6))
            else:
                await asyncio.sleep(storm.draw.choice([0.01, 0.3, 2.0]))
            storm.nothing_is_wrong()
        await storm.end()
        stage.book.failure = None
        stage.slots.refusals.clear()
        stage.exchange.failures.clear()
        for line in stage.exchange.open_lines:
            line.may_answer.set()
        await asyncio.sleep(400.0)  # whatever was refused, failed or hangs has had its time
        await stage.everything_is_given_back()
        assert all(pool.stats().reserved == 0 for pool in stage.pools.values())
        assert stage.reservations._mine == {}
        for name in NAMES:
            following = Holder(stage, 60.0, pool=name)
            await following.has_line
            await following.end()
        await turns(10)
        await stage.everything_is_given_back()
        await stage.clear()
    assert stage.exchange.open_lines == []
    assert stage.group._lines == {}
    assert [log for log in logs if log["event"] == "task_failed"] == []
    assert await others() == set()
