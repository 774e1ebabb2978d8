"""A real `PoolCore` in a made-up world, in virtual time: the same seed takes the same course.

Stands in the place of runtime/trunk_group.py: performs what the core decides and tells it what came of it.
Decides nothing that the core decides; what it keeps in its own books, it compares with the core's.
"""

from collections.abc import Callable
from functools import partial
from itertools import count
from random import Random
from typing import Final

from gateway.core.breaker import Breaker, BreakerOptions
from gateway.core.effects import Close, Dial, Effect, Grant, Prove, Reject, Reserve, Revoke, Urgency
from gateway.core.errors import Reason
from gateway.core.ids import ConnectionId, LeaseId, WaiterId
from gateway.core.pool import PoolCore
from gateway.core.pool_limits import PoolStats
from gateway.core.share import BARE
from gateway.runtime.ports import SlotKind
from gateway.store.asks import RETRY_SOON_SECONDS
from gateway.store.dial_rate import LocalTurns
from gateway.store.options import SlotsOptions
from tests.bench.pool_clock import Clock, ForesightRandom
from tests.bench.pool_record import Answer, Asker, Line, Record, Result, Sample
from tests.bench.pool_world import NEVER, Arrivals, DialOutcome, Fault, Scenario, Trouble

# How often holders say that they use their lines: well within `leak_after_seconds`.
RENEW_SECONDS: Final = 4.0
SAMPLES: Final = 1200
_KINDS: Final = {Urgency.WAITER: SlotKind.LEASED, Urgency.REFILL: SlotKind.WARM}


class Simulation:
    """One run of one scenario."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        self.scenario = scenario
        self.record = Record()
        # One generator for each kind of chance: a change of the core does not change who comes.
        self._core_rng = ForesightRandom(seed)
        self._dial_rng, self._call_rng = Random(f"{seed} dials"), Random(f"{seed} calls")
        shares = {name: ("v1", limits) for name, limits in scenario.pools.items()}
        lease_ids = (LeaseId(f"lease-{number}") for number in count(1))
        self._core = PoolCore(shares, Breaker(BreakerOptions()), self._core_rng, lease_ids)
        self._turns = LocalTurns(scenario.account, SlotsOptions())
        self._clock = Clock()
        self._waiter_ids = count(1)
        self._askers: dict[WaiterId, Asker] = {}
        self._asked = dict.fromkeys(scenario.pools, 0)
        self._served = dict.fromkeys(scenario.pools, 0)
        self._lines: dict[ConnectionId, Line] = {}
        self._leases: dict[LeaseId, ConnectionId] = {}
        self._ready = 0
        self._pools = [*scenario.pools, *([BARE] if _has_bare_lines(self._core) else [])]
        self._dialling = dict.fromkeys(self._pools, 0)
        self._not_before = dict.fromkeys(self._pools, 0.0)
        for number, arrivals in enumerate(scenario.arrivals):
            self._expect(arrivals, Random(f"{seed} arrivals {number}"))

    def run(self) -> Record:
        """Let the whole time pass."""
        for trouble in self.scenario.provider.troubles:
            self._clock.at(trouble.from_seconds, partial(self._strike, trouble))
        self._clock.at(RENEW_SECONDS, self._renew)
        self._clock.at(0.0, self._sample)
        self._perform(self._core.start(self._now))
        while True:
            event = self._clock.next(self._core.next_deadline(self._now), self._tick)
            if self._now > self.scenario.seconds:
                return self.record
            self.record.events += 1
            event()

    def stats(self) -> dict[str, PoolStats]:
        """Ask the core how it stands now."""
        return {pool: self._core.stats(pool, self._now) for pool in self._pools}

    # Time.

    @property
    def _now(self) -> float:
        return self._clock.now

    def _tick(self) -> None:
        self._perform(self._core.tick(self._now))

    def _renew(self) -> None:
        for lease_id in self._leases:
            self._core.renew(lease_id, self._now)
        self._clock.after(RENEW_SECONDS, self._renew)

    def _sample(self) -> None:
        stats = self.stats().values()
        ready, dialling = sum(each.ready for each in stats), sum(each.dialling for each in stats)
        seen = (ready, dialling, sum(each.leased for each in stats), sum(each.waiting for each in stats))
        ours = (self._ready, sum(self._dialling.values()), len(self._leases), len(self._askers))
        if seen != ours:
            raise AssertionError(f"{self.scenario.name} at {self._now}: the core says {seen}, the world {ours}")
        lines = sum(each.total for each in stats)
        self.record.samples.append(Sample(self._now, sum(each.floor for each in stats), ready, lines))
        self._clock.after(self.scenario.seconds / SAMPLES, self._sample)

    # Callers.

    def _expect(self, arrivals: Arrivals, rng: Random) -> None:
        moments = arrivals.moments(rng)

        def come() -> None:
            self._ask(arrivals.pool)
            follow()

        def follow() -> None:
            moment = next(moments, NEVER)
            if moment <= self.scenario.seconds:
                self._clock.at(moment, come)

        follow()

    def _ask(self, pool: str) -> None:
        waiter_id = WaiterId(next(self._waiter_ids))
        self._asked[pool] += 1
        self._askers[waiter_id] = Asker(pool, self._now, self._asked[pool])
        self.record.asked_at.append(self._now)
        deadline = self._now + self._core.limits(pool).wait_max_ms / 1000
        self._perform(self._core.request(pool, waiter_id, deadline, self._now))

    def _answered(self, waiter_id: WaiterId, result: Result, reason: Reason | None = None) -> Asker:
        asker = self._askers.pop(waiter_id)
        waited = self._now - asker.asked_at
        self.record.answers.append(Answer(asker.pool, asker.asked_at, waited, result, reason))
        return asker

    def _hang_up(self, lease_id: LeaseId) -> None:
        if self._leases.pop(lease_id, None) is not None:
            self._perform(self._core.release(lease_id, "bye", self._now))

    # The provider.

    def _strike(self, trouble: Trouble) -> None:
        ends = {"leased": trouble.ends_calls, "ready": trouble.ends_ready}
        for connection_id in [each for each, line in self._lines.items() if ends.get(line.state)]:
            self._lose(connection_id)

    def _dial(self, connection_id: ConnectionId, kind: SlotKind) -> None:
        has_turn, seconds = self._turns.book(kind, self._now, 1)
        if has_turn:
            self._clock.after(seconds, partial(self._begin, connection_id))
        else:
            # As store/account.py puts it: never sooner than this.
            self._clock.after(0.0, partial(self._refuse_turn, connection_id, max(seconds, RETRY_SOON_SECONDS[0])))

    def _refuse_turn(self, connection_id: ConnectionId, seconds: float) -> None:
        if self._leaves_dialling(connection_id):
            del self._lines[connection_id]
            self._perform(self._core.dial_refused(connection_id, Reason.RATE_LIMITED, seconds, self._now))

    def _begin(self, connection_id: ConnectionId) -> None:
        line = self._lines.get(connection_id)
        if line is None or line.state != "dialling":  # given up before its turn
            return
        self._core.dial_begun(connection_id, self._now)
        self.record.dialled_at.append(self._now)
        outcome = self.scenario.provider.answer(self._now, self._dial_rng)
        self._clock.after(outcome.seconds, partial(self._dialled, connection_id, outcome))

    def _dialled(self, connection_id: ConnectionId, outcome: DialOutcome) -> None:
        if not self._leaves_dialling(connection_id):
            return
        line, failure = self._lines[connection_id], outcome.failure
        if failure is None and self.scenario.provider.fault_at(self._now) is Fault.DOWN:
            failure = Reason.UPSTREAM_UNREACHABLE
        if failure is not None:
            self.record.failed_at.append(self._now)
            del self._lines[connection_id]
            self._fall(line.pool, partial(self._core.dial_failed, connection_id, failure))
            return
        line.state = "ready"
        self._ready += 1
        self._clock.after(outcome.life_seconds, partial(self._lose, connection_id))
        life = self.scenario.provider.life_seconds
        self._perform(self._core.dial_succeeded(connection_id, life, self._now))

    def _lose(self, connection_id: ConnectionId) -> None:
        line = self._lines.get(connection_id)
        if line is None or line.state not in {"ready", "leased"}:
            return
        del self._lines[connection_id]
        if line.lease_id is not None:
            del self._leases[line.lease_id]
            self._return(line.pool)
        else:
            self._ready -= 1
            self._wasted("lost")
        self._fall(line.pool, partial(self._core.connection_lost, connection_id))

    def _return(self, pool: str) -> None:
        within = self.scenario.returns_within_seconds
        if within is not None:
            self._clock.after(self._call_rng.uniform(0.0, within), partial(self._ask, pool))

    def _fall(self, pool: str, tell: Callable[[float], list[Effect]]) -> None:
        """Tell of a failure, and hold the core to the delay that it draws."""
        self._core_rng.drawn = 0.0
        effects = tell(self._now)
        self._not_before[pool] = max(self._not_before[pool], self._now + self._core_rng.drawn)
        self._perform(effects)

    def _prove(self, connection_id: ConnectionId) -> None:
        if connection_id in self._lines:
            self._perform(self._core.proven(connection_id, self._now))

    def _closed(self, connection_id: ConnectionId) -> None:
        del self._lines[connection_id]
        self._perform(self._core.close_finished(connection_id, self._now))

    def _leaves_dialling(self, connection_id: ConnectionId) -> bool:
        line = self._lines.get(connection_id)
        if line is None or line.state != "dialling":
            return False
        self._dialling[line.pool] -= 1
        return True

    def _wasted(self, reason: str) -> None:
        self.record.wasted_at.append(self._now)
        self.record.wasted_by[reason] += 1

    # What the core decides.

    def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            self.record.effect(self._now, effect)
            match effect:
                case Dial():
                    self._begin_dial(effect)
                case Grant():
                    self._grant(effect)
                case Reject():
                    self._answered(effect.waiter_id, Result.REFUSED, effect.reason)
                case Prove():
                    self._clock.after(
                        self.scenario.proof.draw(self._call_rng), partial(self._prove, effect.connection_id)
                    )
                case Revoke():
                    self.record.revoked += 1
                    del self._leases[effect.lease_id]
                case Close():
                    self._close(effect)
                case Reserve():
                    raise AssertionError("nobody has asked for a reservation")
        self._note()

    def _begin_dial(self, dial: Dial) -> None:
        record, pool = self.record, dial.pool
        record.decided_at.append(self._now)
        record.dials_before_backoff += self._now < self._not_before[pool]
        self._lines[dial.connection_id] = Line(pool)
        self._dialling[pool] += 1
        record.dials_at_once_max[pool] = max(record.dials_at_once_max[pool], self._dialling[pool])
        self._dial(dial.connection_id, _KINDS[dial.urgency])

    def _grant(self, grant: Grant) -> None:
        asker = self._answered(grant.waiter_id, Result.HIT if grant.at_once else Result.WAITED)
        self.record.overtaken += asker.number < self._served[asker.pool]
        self._served[asker.pool] = max(asker.number, self._served[asker.pool])
        line = self._lines[grant.connection_id]
        line.pool, line.state, line.lease_id = asker.pool, "leased", grant.lease_id
        self._ready -= 1
        self._leases[grant.lease_id] = grant.connection_id
        self._clock.after(self.scenario.call.draw(self._call_rng), partial(self._hang_up, grant.lease_id))

    def _close(self, close: Close) -> None:
        line = self._lines[close.connection_id]
        if line.state == "dialling":
            self._dialling[line.pool] -= 1
            self.record.given_up_at.append(self._now)
        elif line.state == "ready":
            self._ready -= 1
            self._wasted(close.reason)
        line.state = "closing"
        self._clock.after(self.scenario.close.draw(self._call_rng), partial(self._closed, close.connection_id))

    def _note(self) -> None:
        self.record.shelves.add(self._now, self._ready, sum(self._dialling.values()), len(self._askers))


def _has_bare_lines(core: PoolCore) -> bool:
    try:
        core.stats(BARE, 0.0)
    except KeyError:
        return False
    return True


def simulate(scenario: Scenario, seed: int = 1) -> Record:
    """Run a scenario once."""
    return Simulation(scenario, seed).run()
