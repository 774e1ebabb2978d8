"""The shell around one `PoolCore`: dials, grants, closes and keeps one timer. Decides nothing."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any, Final

import structlog

from gateway.core.effects import Close, Dial, Effect, Grant, Reject
from gateway.core.errors import (
    RETRYABLE,
    CapacityError,
    DialError,
    GatewayError,
    LeaseEndedError,
    PoolNumbers,
    Reason,
    UpstreamError,
)
from gateway.core.events import LineSource
from gateway.core.ids import ConnectionId, WaiterId
from gateway.core.pool import PoolCore
from gateway.core.pool_limits import PoolStats
from gateway.core.template import Template
from gateway.runtime.ports import CallerGoneError, Dialer, DialTimes, PoolObserver, Upstream
from gateway.runtime.tasks import TaskScope

# Advice to a refused caller: about what one dial takes.
RETRY_AFTER_SECONDS: Final = 1.0
STOP_SECONDS: Final = 5.0
_CAPACITY: Final = frozenset({Reason.QUEUE_FULL, Reason.WAIT_TIMED_OUT, Reason.DRAINING})
_log = structlog.get_logger(__name__)


_Granted = tuple[Grant, Upstream]


class LeasedLine:
    """What a holder has: the line, until the lease ends. Afterwards every use raises."""

    def __init__(self, grant: Grant, upstream: Upstream, granted_at: float) -> None:
        """Wrap a granted line."""
        self.lease_id = grant.lease_id
        self.source = LineSource.WARM if grant.at_once else LineSource.WAITED
        self.entry_age_seconds = grant.entry_age_seconds
        self.waited_seconds = grant.waited_seconds
        self.granted_at = granted_at
        self._upstream: Upstream | None = upstream

    @property
    def upstream(self) -> Upstream:
        """The line. Raises `LeaseEndedError` after the end of the lease."""
        if self._upstream is None:
            raise LeaseEndedError(Reason.LEASE_ENDED, f"lease {self.lease_id} has ended")
        return self._upstream

    def end(self) -> None:
        """Take the line away from the holder."""
        self._upstream = None


class WarmPool:
    """Warm lines for one template."""

    def __init__(self, template: Template, core: PoolCore, dialer: Dialer, observer: PoolObserver) -> None:
        """Wire the parts; nothing is dialled before `start`."""
        self.template = template
        self._core = core
        self._dialer = dialer
        self._observer = observer
        self._lines: dict[ConnectionId, Upstream] = {}
        self._waiters: dict[WaiterId, asyncio.Future[_Granted]] = {}
        self._waiter_ids = count(1)
        self._tasks = TaskScope(f"pool:{template.name}")
        self._dials: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        # Acquires by result since the start.
        self.acquires: Counter[str] = Counter()

    @property
    def wait_max_ms(self) -> int:
        """How long a caller may wait for a line."""
        return self._core.limits.wait_max_ms

    # Life.

    def start(self) -> None:
        """Open the first lines, in the background."""
        self._perform(self._core.start(self._now()))

    async def stop(self) -> None:
        """Close every line; leases must have ended before. Bounded in time."""
        self.drain()
        for dial in self._dials:  # nobody wants them any more
            dial.cancel()
        await self._tasks.wait(STOP_SECONDS)
        await self._tasks.cancel(STOP_SECONDS)
        if self._timer is not None:
            self._timer.cancel()

    def drain(self) -> None:
        """Take nothing new; idle lines close, leases go on."""
        self._perform(self._core.drain(self._now()))

    def stats(self) -> PoolStats:
        """Take an immutable snapshot."""
        return self._core.stats(self._now())

    # For holders.

    @asynccontextmanager
    async def lease(self, wait_seconds: float, abandoned: "asyncio.Future[Any]") -> AsyncIterator[LeasedLine]:
        """Hold a line for the length of the block; it is used up by that, whatever happens inside.

        Raises `CapacityError` or `UpstreamError`, and `CallerGoneError` when `abandoned` is done first.
        """
        grant, upstream = await self._acquire(wait_seconds, abandoned)
        line = LeasedLine(grant, upstream, self._now())
        try:
            yield line
        finally:
            line.end()
            self._perform(self._core.release(grant.lease_id, "lease_ended", self._now()))
            self._observer.lease_ended(self.template.name, self._now() - line.granted_at)

    async def _acquire(self, wait_seconds: float, abandoned: "asyncio.Future[Any]") -> _Granted:
        now = self._now()
        waiter_id = WaiterId(next(self._waiter_ids))
        future: asyncio.Future[_Granted] = asyncio.get_running_loop().create_future()
        self._waiters[waiter_id] = future
        self._perform(self._core.request(waiter_id, now + wait_seconds, now))
        try:
            grant, upstream = await self._answer(future, abandoned)
        except (asyncio.CancelledError, CallerGoneError):
            self._give_back(waiter_id, future)
            self._acquired("cancelled", self._now() - now)
            raise
        except GatewayError as error:
            result = "timeout" if self._now() - now >= wait_seconds else "shed"
            self._acquired(result, self._now() - now)
            raise error from None
        result = "hit" if grant.at_once else "wait"
        self._acquired(result, grant.waited_seconds)
        self._observer.granted(self.template.name, grant.entry_age_seconds)
        return grant, upstream

    @staticmethod
    async def _answer(future: "asyncio.Future[_Granted]", abandoned: "asyncio.Future[Any]") -> _Granted:
        if not future.done():  # a hit needs no turn of the loop
            await asyncio.wait({future, abandoned}, return_when=asyncio.FIRST_COMPLETED)
        if not future.done():
            raise CallerGoneError
        return future.result()

    def _acquired(self, result: str, waited_seconds: float) -> None:
        self.acquires[result] += 1
        self._observer.acquired(self.template.name, result, waited_seconds)

    def _give_back(self, waiter_id: WaiterId, future: "asyncio.Future[_Granted]") -> None:
        """Undo a request whose caller was cancelled, also when its grant was already on the way."""
        self._waiters.pop(waiter_id, None)
        if future.done() and not future.cancelled() and future.exception() is None:
            lease_id = future.result()[0].lease_id
            self._perform(self._core.release(lease_id, "holder_cancelled", self._now()))
        else:
            self._perform(self._core.cancel(waiter_id, self._now()))

    # Effects.

    def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Dial():
                    dial = self._tasks.spawn(self._dial(effect.connection_id), "dial")
                    self._dials.add(dial)
                    dial.add_done_callback(self._dials.discard)
                case Grant():
                    self._deliver(effect)
                case Reject():
                    self._refuse(effect)
                case Close():
                    self._tasks.spawn(self._close(effect), "close")
        self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        deadline = self._core.next_deadline(self._now())
        loop = asyncio.get_running_loop()
        self._timer = None if deadline is None else loop.call_at(deadline, self._tick)

    def _tick(self) -> None:
        # A loop's clock may be a little behind the deadline it was armed with.
        self._perform(self._core.tick(self._now()))

    def _deliver(self, grant: Grant) -> None:
        # The line goes along: it may be lost before the caller's task runs.
        granted = (grant, self._lines[grant.connection_id])
        self._waiters.pop(grant.waiter_id).set_result(granted)

    def _refuse(self, reject: Reject) -> None:
        self._waiters.pop(reject.waiter_id).set_exception(self._refusal(reject))

    def _refusal(self, reject: Reject) -> GatewayError:
        stats = self.stats()
        name = self.template.name
        state = f"{stats.leased} leased, {stats.ready} ready, {stats.dialling} dialling of {stats.ceiling}"
        message = f"pool {name} gave no line within {reject.waited_seconds:.2f} s: {state}"
        retry_after = RETRY_AFTER_SECONDS if reject.reason in RETRYABLE else None
        if reject.reason not in _CAPACITY:  # what dialling last failed with
            return UpstreamError(reject.reason, message, retry_after_seconds=retry_after)
        numbers = PoolNumbers("pool", name, stats.total, stats.leased, stats.ready, stats.dialling, stats.waiting)
        return CapacityError(reject.reason, message, numbers=numbers, retry_after_seconds=retry_after)

    async def _dial(self, connection_id: ConnectionId) -> None:
        name = self.template.name
        times = DialTimes()
        session = {**self.template.session, "type": self.template.line_class.session_type}
        try:
            upstream = await self._dialer.dial(self.template.line_class, session, times)
        except DialError as error:
            _log.warning("dial_failed", pool=name, reason=error.reason, error=error.message)
            self._failed(connection_id, error.reason, times)
            return
        except Exception as error:  # noqa: BLE001 the bulkhead: a fault of ours must not eat a place
            _log.exception("dial_failed", pool=name, error=type(error).__name__)
            self._failed(connection_id, Reason.INTERNAL, times)
            return
        self._observer.dialled(name, "ok", times)
        self._lines[connection_id] = upstream
        self._tasks.spawn(self._watch(connection_id, upstream), "watch")
        now = self._now()
        self._perform(self._core.dial_succeeded(connection_id, upstream.life_seconds, now))

    def _failed(self, connection_id: ConnectionId, reason: Reason, times: DialTimes) -> None:
        self._observer.dialled(self.template.name, reason.lower(), times)
        self._perform(self._core.dial_failed(connection_id, reason, self._now()))

    async def _watch(self, connection_id: ConnectionId, upstream: Upstream) -> None:
        """Tell the core when a line ends by itself; one that we close has left `_lines` before."""
        reason = await upstream.wait_closed()
        if self._lines.pop(connection_id, None) is not None:
            self._observer.connection_closed(self.template.name, "lost")
            _log.info("line_lost", pool=self.template.name, reason=reason)
            self._perform(self._core.connection_lost(connection_id, self._now()))

    async def _close(self, close: Close) -> None:
        upstream = self._lines.pop(close.connection_id, None)
        try:
            if upstream is not None:
                await upstream.close()
                self._observer.connection_closed(self.template.name, close.reason)
        finally:  # a place under the ceiling must come back, whatever went wrong
            self._perform(self._core.close_finished(close.connection_id, self._now()))

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
