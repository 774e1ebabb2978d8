"""One template's warm lines, as callers see them: wait for one, hold it, give it back."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Final, NoReturn, TypeVar

import structlog

from gateway.core.effects import Close, Effect, Grant, Reject, Reserve
from gateway.core.errors import CallerError, GatewayError, Reason
from gateway.core.events import LineSource
from gateway.core.ids import LeaseId, WaiterId
from gateway.core.pool_limits import PoolLimits, PoolStats
from gateway.core.reservation import ReservationEvent
from gateway.core.template import Template
from gateway.runtime.lease import HeldReservation, Holder, LeasedLine, Place, RejectedError, Wish, source_of
from gateway.runtime.observers import PoolObserver
from gateway.runtime.open_line import OpenLine
from gateway.runtime.ports import CallerGoneError
from gateway.runtime.refusals import going_away, refusal
from gateway.runtime.trunk_group import Answer, TrunkGroup

# How often a waiter looks whether its place has changed.
PLACE_SECONDS: Final = 0.25
PLACES_NEAR: Final = 32
# One sequence for all pools: several templates share a group.
_waiter_ids = count(1)
_log = structlog.get_logger(__name__)
T = TypeVar("T")


class WarmPool:
    """Warm lines for one template, and for one tenant where the account wants its tenants named."""

    def __init__(self, template: Template, group: TrunkGroup, observer: PoolObserver, tenant: str = "") -> None:
        """Use the lines of a group. An empty tenant = they are for everybody."""
        self.template = template
        self.tenant = tenant
        self._group = group
        self._core = group.core
        self._observer = observer
        self._now, self._perform = group.now, group.perform
        self._places: dict[WaiterId, int] = {}
        self._places_at = 0.0
        # The leases that are held, and who reserves, for operators.
        self.leases: dict[LeaseId, LeasedLine] = {}
        self.reservations: dict[LeaseId, Holder] = {}
        # Acquires by result since the start.
        self.acquires: Counter[str] = Counter()

    @property
    def name(self) -> str:
        """The template's name."""
        return self.template.name

    @property
    def limits(self) -> PoolLimits:
        """The bounds in force."""
        return self._core.limits(self.name)

    def stats(self) -> PoolStats:
        """Take an immutable snapshot."""
        return self._group.stats(self.name)

    def check_open(self) -> None:
        """Raise `CapacityError` when nobody new is taken."""
        stats = self.stats()
        if stats.draining_pool or stats.paused:
            self._refuse(Reject(WaiterId(0), Reason.DRAINING if stats.draining_pool else Reason.POOL_PAUSED, 0.0))

    # For operators.

    def pause(self) -> None:
        """Refuse new callers; who waits already is served."""
        self._core.pause(self.name)

    def unpause(self) -> None:
        """End a pause or a drain."""
        self._perform(self._core.unpause(self.name, self._now()))

    def drain(self) -> None:
        """Take nothing new; idle lines close, leases go on."""
        self._perform(self._core.drain(self._now(), self.name))

    def set_limits(self, limits: PoolLimits) -> None:
        """Let other bounds hold from now on."""
        self._perform(self._core.set_limits(self.name, limits, self._now()))

    def retire_outdated(self) -> int:
        """Close the ready lines of another version than the template's now; return how many there were."""
        effects = self._core.retire(self.name, self._core.version(self.name), self._now(), at_once=True)
        self._perform(effects)
        return sum(isinstance(effect, Close) and effect.reason == "version" for effect in effects)

    # For sessions.

    @asynccontextmanager
    async def lease(self, wish: Wish) -> AsyncIterator[LeasedLine]:
        """Hold a line for the length of the block; it is used up by that, whatever happens inside.

        Raises `CapacityError`, `UpstreamError` or `CallerError` (a reservation that has ended), and
        `CallerGoneError` when the wish is abandoned.
        """
        grant, opened = await self._acquire(wish)
        line = LeasedLine(grant, opened, wish.holder, source_of(wish, grant), self._now())
        self.leases[grant.lease_id] = line
        try:
            yield line
        finally:
            line.end()
            self.leases.pop(grant.lease_id, None)
            self._perform(self._core.release(grant.lease_id, "lease_ended", self._now()))
            self._observer.lease_ended(self.name, self._now() - line.granted_at)

    def renew(self, line: LeasedLine) -> None:
        """Say that a lease is in use; one that nobody renews is taken back."""
        self._core.renew(line.lease_id, self._now())

    def revoked(self, lease_id: LeaseId) -> None:
        """Take a lease away from a holder that nothing was heard of, and say who it was."""
        line = self.leases.pop(lease_id, None)
        if line is not None:
            line.end()
            holder = line.holder
            _log.error(
                "lease_revoked",
                pool=self.name,
                lease_id=lease_id,
                tenant=holder.tenant,
                caller=holder.caller,
                session_id=holder.session_id,
                correlation_id=holder.correlation_id,
            )

    # For reservations.

    async def reserve(self, ttl_seconds: float, wish: Wish) -> Reserve:
        """Reserve a unit; it ends after `ttl_seconds` unless renewed. Raises as `lease` does."""
        now, waiter_id = self._now(), WaiterId(next(_waiter_ids))
        answer = self._group.expect(waiter_id)
        self._perform(self._core.reserve(self.name, waiter_id, ttl_seconds, now + wish.wait_seconds, now))
        try:
            made = await self._answered(waiter_id, answer, wish)
        except BaseException:
            if (given := self._withdraw(waiter_id, answer)) is not None and isinstance(given, Reserve):
                self.end_reservation(given.lease_id, ReservationEvent.RELEASED)
            raise
        assert isinstance(made, Reserve)  # noqa: S101 what a reservation is answered with
        self.reservations[made.lease_id] = wish.holder
        return made

    def renew_reservation(self, lease_id: LeaseId, ttl_seconds: float) -> bool:
        """Let it live for so long from now; False = it has ended."""
        return self._core.renew_reservation(lease_id, ttl_seconds, self._now())

    def extend_reservation(self, lease_id: LeaseId, seconds: float) -> None:
        """Let it live for so long at least."""
        if self.reservation_left(lease_id) < seconds:
            self.renew_reservation(lease_id, seconds)

    def reservation_left(self, lease_id: LeaseId) -> float:
        """How long it lives from now, in seconds; 0 = it has ended."""
        reservation = self._core.reservations(self.name).get(lease_id)
        return 0.0 if reservation is None else max(0.0, reservation.expires_at - self._now())

    def has_reservation(self, lease_id: LeaseId) -> bool:
        """Whether it lives."""
        return lease_id in self._core.reservations(self.name)

    def living_reservations(self) -> list[HeldReservation]:
        """Every living reservation, for operators; who holds an ended one is forgotten by the way."""
        living = self._core.reservations(self.name)
        self.reservations = {lease_id: holder for lease_id, holder in self.reservations.items() if lease_id in living}
        return [
            HeldReservation(each.id, self.name, self.reservations[each.id], each.granted_at, each.expires_at)
            for each in living.values()
            if each.id in self.reservations
        ]

    def end_reservation(self, lease_id: LeaseId, event: ReservationEvent) -> None:
        """End it, if it lives."""
        self.reservations.pop(lease_id, None)
        self._perform(self._core.end_reservation(lease_id, event, self._now()))

    # Inside.

    async def _acquire(self, wish: Wish) -> tuple[Grant, OpenLine]:
        now, waiter_id = self._now(), WaiterId(next(_waiter_ids))
        answer = self._group.expect(waiter_id, wish.safety_identifier)
        try:
            self._perform(self._ask(wish, waiter_id, now))
            granted = await self._answered(waiter_id, answer, wish)
        except GatewayError as error:
            self._give_back(waiter_id, answer)
            self._acquired(wish, "timeout" if self._now() - now >= wish.wait_seconds else "shed", self._now() - now)
            raise error from None
        except BaseException:  # cancelled, gone, or a fault of ours: nothing of the request may stay
            self._give_back(waiter_id, answer)
            self._acquired(wish, "cancelled", self._now() - now)
            raise
        assert isinstance(granted, tuple)  # noqa: S101 what a request for a line is answered with
        grant = granted[0]
        result = {LineSource.WARM: "hit", LineSource.WAITED: "wait", LineSource.DIALLED: "dialled"}
        self._acquired(wish, result[source_of(wish, grant)], grant.waited_seconds)
        self._observer.granted(self.name, grant.entry_age_seconds)
        return granted

    def _ask(self, wish: Wish, waiter_id: WaiterId, now: float) -> list[Effect]:
        deadline = now + wish.wait_seconds
        if wish.recovers:
            return self._core.recover(self.name, waiter_id, deadline, now, alone=bool(wish.safety_identifier))
        if wish.safety_identifier:
            if wish.reservation is not None:
                self.end_reservation(wish.reservation, ReservationEvent.RELEASED)
            return self._core.request_alone(self.name, waiter_id, deadline, now)
        if wish.reservation is None and not wish.foreign:
            return self._core.request(self.name, waiter_id, deadline, now)
        if wish.reservation is not None:
            self.reservations.pop(wish.reservation, None)
        try:
            return self._core.redeem(self.name, waiter_id, wish.reservation, deadline, now)
        except KeyError:
            raise CallerError(Reason.LEASE_ENDED, "the reservation has ended") from None

    async def _answered(self, waiter_id: WaiterId, answer: Answer, wish: Wish) -> tuple[Grant, OpenLine] | Reserve:
        """Wait for the answer, and tell the caller its place meanwhile. A hit needs no turn of the loop."""
        asked_at, told = self._now(), 0
        while not answer.done():
            position = self._place(waiter_id)
            if position and position != told:
                told = position
                waited = self._now() - asked_at
                await wish.tell(Place(position, waited, max(0.0, wish.wait_seconds - waited)))
            # Who stands far back is told less often: places change all the time there, and matter less.
            pause = PLACE_SECONDS * (1 + position // PLACES_NEAR)
            await asyncio.wait({answer, wish.abandoned}, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
            if wish.abandoned.done() and not answer.done():
                raise CallerGoneError
        try:
            return answer.result()
        except RejectedError as rejected:
            self._refuse(rejected.reject)

    def _place(self, waiter_id: WaiterId) -> int:
        # One look at the queue serves everybody in it.
        if waiter_id not in self._places or self._now() - self._places_at >= PLACE_SECONDS:
            self._places, self._places_at = self._core.positions(self.name), self._now()
        return self._places.get(waiter_id, 0)

    def _give_back(self, waiter_id: WaiterId, answer: Answer) -> None:
        """Undo a request whose caller is gone, also when its grant was already on the way."""
        given = self._withdraw(waiter_id, answer)
        if isinstance(given, tuple):
            self._perform(self._core.release(given[0].lease_id, "holder_cancelled", self._now()))

    def _withdraw(self, waiter_id: WaiterId, answer: Answer) -> tuple[Grant, OpenLine] | Reserve | None:
        """Leave the queue; return what had been given already."""
        self._group.forget(waiter_id)
        if answer.done() and not answer.cancelled() and answer.exception() is None:
            return answer.result()
        self._perform(self._core.cancel(waiter_id, self._now()))
        return None

    def _acquired(self, wish: Wish, result: str, waited_seconds: float) -> None:
        if wish.recovers:  # no caller asks: a rotation in a full account asks every second, and nobody is sent away
            return
        self.acquires[result] += 1
        self._observer.acquired(self.name, result, waited_seconds)

    def _refuse(self, reject: Reject) -> NoReturn:
        if reject.reason is Reason.DRAINING and self._group.is_leaving:
            raise going_away() from None
        raise refusal(self.name, reject, self.stats(), self._group.last_error) from None
