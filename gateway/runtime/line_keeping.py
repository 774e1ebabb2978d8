"""Keeps a session on a line: carries its events, watches it, and puts a fresh one in its place.

One that is lost is replaced at once. One whose time is nearly up is left at a quiet moment, for a fresh one that
stands ready by then. While the caller is away a line is kept for a moment; who comes later gets another one.
"""

import asyncio
import math
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from random import Random
from typing import TYPE_CHECKING, Final

import structlog

from gateway.core import events as out
from gateway.core.errors import CallerError, GatewayError, Reason, UpstreamError
from gateway.core.recovery import Recovery
from gateway.core.rotation import due
from gateway.core.session import SessionEvent, SessionState
from gateway.core.template import configuration
from gateway.runtime.caller_keeping import CallerKeeping
from gateway.runtime.held import HeldLine, hold
from gateway.runtime.lanes import Lanes
from gateway.runtime.lease import LeasedLine
from gateway.runtime.leaving import SLOW, trigger_of
from gateway.runtime.opening import Opening
from gateway.runtime.pool import WarmPool
from gateway.runtime.pools import find_pool
from gateway.runtime.ports import CallerGoneError
from gateway.runtime.pulse import watch
from gateway.runtime.relay import Relay
from gateway.runtime.session_options import SessionParts
from gateway.runtime.summing_up import Summary, compact, summary_of
from gateway.runtime.watching import watch_work

if TYPE_CHECKING:
    from gateway.runtime.session import LiveSession

# How often a session that is to move looks for a quiet moment, and asks for a line that it did not get.
QUIET_LOOK_SECONDS: Final = 0.05
ASK_AGAIN_SECONDS: Final = 1.0
STAND_BY_SECONDS: Final = 20.0
# How often a holder says that it uses its lease.
RENEW_SECONDS: Final = 1.0
# Of the answers under way; any other end is the loss of the line.
_CAUSES: Final = {Reason.UPSTREAM_STUCK: out.InterruptionCause.STUCK}
_log = structlog.get_logger(__name__)


class LineKeeping:
    """The lines of one session, one after the other."""

    def __init__(  # noqa: PLR0913, PLR0917 what a session is made of
        self,
        session: "LiveSession",
        opening: Opening,
        relay: Relay,
        callers: CallerKeeping,
        lanes: Lanes,
        first: LeasedLine | None,
        leases: AsyncExitStack,
        parts: SessionParts,
        standing_by: HeldLine | None = None,
    ) -> None:
        """Begin with a line whose lease `leases` ends, or without one; nothing happens before `run`.

        `standing_by` = it was made ready for a session that has none here yet.
        """
        self._session = session
        self._opening = opening
        self._relay = relay
        self._callers = callers
        self._lanes = lanes
        self._parts = parts
        self._rng = Random()  # noqa: S311 jitter, not a secret
        self._recovery = Recovery(parts.options.recovery, self._rng)
        # What the session uses, and what stands by for it.
        self._present = HeldLine(first, opening.pool, leases) if first is not None else None
        self._next = standing_by
        # Why the present line is left.
        self._trigger = ""
        self._summary: Summary | None = None
        self._now: Callable[[], float] = asyncio.get_running_loop().time

    async def renew(self, left: asyncio.Event) -> None:
        """Say every second that the lines are in use, for as long as the caller may be there."""
        while not left.is_set():
            for held in (self._present, self._next):
                if held is not None:
                    held.renew()
            await asyncio.sleep(RENEW_SECONDS)

    async def run(self) -> None:
        """Carry line after line until cancelled. Raises the `UpstreamError` that no other line can mend."""
        try:
            if self._present is None:
                await self._fetch(UpstreamError(Reason.UPSTREAM_UNREACHABLE, "there is no line"), "claimed")
            while (held := self._present) is not None:
                await self._leave(held, await self._carried(held))
        except CallerGoneError:  # what a wish for a line says whose session has ended meanwhile
            if not self._session.is_ending:
                raise
        finally:
            ended, self._present, self._next = (self._present, self._next), None, None
            for each in ended:
                if each is not None:
                    await each.leases.aclose()

    async def _leave(self, held: HeldLine, lost: UpstreamError | None) -> None:
        """Go on without a line that is lost, or is to be left. Raises `UpstreamError`."""
        if self._session.is_ending:
            self._present = None
            await held.leases.aclose()
            raise lost or CallerGoneError
        if self._callers.is_away:
            await self._rest(held)
        elif lost is not None:
            await self._replace(held, lost)
        else:
            try:
                await self._move(held)
            except UpstreamError as fresh:
                await self._replace(self._present or held, fresh)

    async def _carried(self, held: HeldLine) -> UpstreamError | None:
        """Carry a line's events until it is to be left; return how it was lost, if it was."""
        try:
            await self._carry(held)
        except UpstreamError as lost:
            return lost
        return None

    async def _carry(self, held: HeldLine) -> None:
        """Carry a line's events until it is to be left. Raises `UpstreamError` when it is lost."""
        relay, upstream, options = self._relay, held.line.upstream, self._parts.options
        works = [
            relay.downlink(upstream),
            watch(upstream, lambda: relay.heard_at, lambda: relay.conversation.is_busy, options.pulse),
            self._until_due(held),
            watch_work(relay, options, self._session.id),
            self._callers.away(self._parts.options.resume.line_kept_seconds),
        ]
        tasks = [asyncio.ensure_future(work) for work in works]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
        for end in ends:
            if isinstance(end, Exception):
                raise end

    # A line that is lost.

    async def _replace(self, held: HeldLine, lost: UpstreamError) -> None:
        """Go on with a fresh line that was told everything. Raises `UpstreamError` when there is none to be had."""
        began = self._now()
        delay = self._recovery.lost(lost, held.line.granted_at, began, has_spoken=self._relay.has_heard)
        if delay is None:
            raise lost
        self._relay.detach(_CAUSES.get(lost.reason, out.InterruptionCause.UPSTREAM_LOST))
        self._session.move(SessionEvent.UPSTREAM_LOST)
        self._tell(SessionState.RECOVERING, "line_lost")
        await held.leases.aclose()  # its place is for the next one
        await asyncio.sleep(delay)
        await self._restore(began, lost, "line_lost")

    async def _fetch(self, none: UpstreamError, cause: str) -> None:
        """Go on with a line after a time without one. Raises `none` when there is none to be had."""
        self._recovery.begin(now := self._now())
        await self._restore(now, none, cause)

    async def _restore(self, began: float, lost: UpstreamError, cause: str) -> None:
        """Put a fresh line in the place of the one that is gone. Raises `lost` when there is none to be had."""
        while True:
            try:
                unrestored = await self._switch(await self._take_next(self._recovery.left_seconds(self._now())))
                break
            except GatewayError as error:
                self._relay.detach()
                if self._present is not None:
                    await self._present.leases.aclose()
                delay = self._recovery.failed(error, self._now())
                if delay is None:
                    self._session.observer.recovered(cause, "failed", self._now() - began)
                    raise lost from None
                await asyncio.sleep(delay)
        if self._session.is_ending:
            return
        self._session.move(SessionEvent.UPSTREAM_READY)
        self._tell(self._session.state, "line_replaced", unrestored)
        self._session.observer.recovered(cause, "ok", self._now() - began)
        _log.info("line_replaced", reason=lost.reason, **self._words(began, unrestored))

    # A line that nobody needs.

    async def _rest(self, held: HeldLine) -> None:
        """Let the line go while the caller is away; when it is back, go on with another. Raises `UpstreamError`."""
        self._relay.detach()
        self._session.move(SessionEvent.UPSTREAM_LOST)
        for each in (held, self._next):
            if each is not None:
                await each.leases.aclose()
        self._next = None
        await self._callers.back()
        await self._fetch(UpstreamError(Reason.UPSTREAM_CLOSED, "the session rested"), "resumed")

    # A line that is left.

    async def _until_due(self, held: HeldLine) -> None:
        """Return when another line stands by, and the moment to move has come; never, where that has no end."""
        when = due(held.line.upstream.life_seconds, self._parts.options.rotation, self._rng)
        soft = held.ready_at + when.soft if when is not None else math.inf
        self._trigger = await trigger_of(self._relay, held.ready_at, soft, self._parts.options.slowness)
        if self._trigger == SLOW and self._parts.options.slowness.sums_up:
            self._summary = await summary_of(self._relay, self._session.id)
        must = held.ready_at + when.hard if when is not None else math.inf
        while (standing_by := await self._standing_by(must)) is None:  # noqa: ASYNC110 it is asked for each time
            await asyncio.sleep(ASK_AGAIN_SECONDS)
        gone = asyncio.ensure_future(standing_by.line.upstream.wait_closed())
        try:
            while self._now() < must and self._relay.conversation.is_due(self._now()):
                await asyncio.wait({gone}, timeout=QUIET_LOOK_SECONDS)
                if gone.done():  # it is lost before it was used: the present one is as good as before
                    self._next = None
                    await standing_by.leases.aclose()
                    return await self._until_due(held)
        finally:
            gone.cancel()

    async def _standing_by(self, must: float) -> HeldLine | None:
        """Return a line for the time after this one; None = there was none. Then the provider ends this one in time."""
        if self._next is None:
            with suppress(GatewayError):
                self._next = await self._lease(min(STAND_BY_SECONDS, max(0.0, must - self._now())))
        return self._next

    async def _move(self, held: HeldLine) -> None:
        """Go on with the line that stands by. Raises `UpstreamError` when that is lost as well."""
        began = self._now()
        self._relay.detach()
        if (summary := self._summary) is not None:
            compact(summary, self._relay, self._lanes, is_resumable=self._callers.is_resumable)
            self._summary = None
        self._session.move(SessionEvent.UPSTREAM_LOST)
        try:
            unrestored = await self._switch(await self._take_next(0.0))
        except GatewayError as error:
            self._session.observer.rotated(self._trigger, "failed", self._now() - began)
            _log.warning("rotation_failed", session_id=self._session.id, reason=error.reason)
            raise UpstreamError(Reason.UPSTREAM_CLOSED, error.message) from None
        finally:
            await held.leases.aclose()
        if self._session.is_ending:
            return
        self._session.move(SessionEvent.UPSTREAM_READY)
        self._tell(self._session.state, "rotation", unrestored)
        self._session.observer.rotated(self._trigger, "ok", self._now() - began)
        _log.info("line_rotated", **self._words(began, unrestored))

    # Both.

    async def _take_next(self, wait_seconds: float) -> HeldLine:
        held, self._next = self._next, None
        return held or await self._lease(wait_seconds)

    async def _lease(self, wait_seconds: float) -> HeldLine:
        """Lease a line as it is served now. Raises `GatewayError`."""
        return await hold(self._pool(), self._session.wish_again(wait_seconds))

    async def _switch(self, fresh: HeldLine) -> tuple[str, ...]:
        """Tell a fresh line everything, and use it; return what it could not be told. Raises `UpstreamError`."""
        self._present = fresh
        self._session.takes(fresh.line)
        has = configuration(fresh.pool.template, {}) if fresh.line.is_configured else None
        try:
            async with asyncio.timeout(self._parts.options.restore_max_seconds):
                return await self._relay.restore(fresh.line.upstream, configured_as=has, ahead=fresh.ahead)
        except TimeoutError:
            text = "the provider does not take what was said before"
            raise UpstreamError(Reason.UPSTREAM_STUCK, text) from None

    def _pool(self) -> WarmPool:
        """Return the pool that serves the session's template now; a reload may have given it another."""
        try:
            return find_pool(self._parts.pools.values(), self._opening.pool.name, self._opening.pool.tenant)
        except CallerError:
            return self._opening.pool

    def _words(self, began: float, unrestored: tuple[str, ...]) -> dict[str, object]:
        who = {"session_id": self._session.id, "pool": self._opening.pool.name}
        return {**who, "duration_seconds": round(self._now() - began, 3), "count": len(unrestored)}

    def _tell(self, state: SessionState, cause: str, unrestored: tuple[str, ...] = ()) -> None:
        changed = out.StateChanged(state, self._lanes.durability, cause, unrestored_items=unrestored)
        self._lanes.control(changed)
