"""The shell around one `PoolCore`, all lines of one class: dials, proves, grants, closes, keeps one timer.

Decides nothing. Callers go through a template's `WarmPool`.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

import structlog

from gateway.core.effects import Close, Dial, Effect, Grant, Prove, Reject, Reserve, Revoke, Urgency
from gateway.core.errors import CapacityError, DialError, Reason, UpstreamClosedError
from gateway.core.ids import ConnectionId, LeaseId, WaiterId
from gateway.core.pool import PoolCore
from gateway.core.pool_limits import PoolLimits, PoolStats
from gateway.core.template import LineClass, Template
from gateway.runtime.lease import RejectedError
from gateway.runtime.liveness import prove
from gateway.runtime.observers import PoolObserver
from gateway.runtime.open_line import OpenLine
from gateway.runtime.places import Places
from gateway.runtime.ports import Dialer, DialTimes, SlotKind, Slots, Upstream
from gateway.runtime.tasks import TaskScope

STOP_SECONDS: Final = 5.0
# How long a ready line may take to answer a ping.
PROOF_SECONDS: Final = 3.0
# When the account names no delay for a place or a turn.
SLOT_RETRY_SECONDS: Final = 0.25
_KINDS: Final = {Urgency.RECOVERY: SlotKind.SPARE, Urgency.WAITER: SlotKind.LEASED, Urgency.REFILL: SlotKind.WARM}
_log = structlog.get_logger(__name__)
# A waiter's answer: its line, or that a unit is kept for it.
Granted = tuple[Grant, OpenLine]
Answer = asyncio.Future[Granted | Reserve]


class TrunkGroup:
    """The lines of one class."""

    def __init__(
        self,
        line_class: LineClass,
        templates: Mapping[str, Template],
        core: PoolCore,
        dialer: Dialer,
        slots: Slots,
        observer: PoolObserver,
    ) -> None:
        """Wire the parts; nothing is dialled before `start`."""
        self.line_class = line_class
        # What lines without a template's configuration are counted as.
        self.bare_name = f"bare:{line_class.target}/{line_class.model}"
        self.templates = dict(templates)
        self.core = core
        # Whether the gateway ends, and not this class alone.
        self.is_leaving = False
        # What the last dial failed with.
        self.last_error: DialError | None = None
        # Its breaker may have changed: other groups look again. Then: a lease was taken back.
        self.on_change: Callable[[], None] = lambda: None
        self.on_revoke: list[Callable[[LeaseId], None]] = []
        self._dialer = dialer
        self._slots = slots
        self._observer = observer
        self._lines: dict[ConnectionId, OpenLine] = {}
        self._places = Places(slots, line_class.account)
        self._dials: dict[ConnectionId, asyncio.Task[None]] = {}
        self._answers: dict[WaiterId, Answer] = {}
        self._safety_identifiers: dict[WaiterId, str] = {}
        self._tasks = TaskScope(f"lines:{line_class.target}/{line_class.model}")
        self._timer: asyncio.TimerHandle | None = None

    # Life.

    def start(self) -> None:
        """Open the first lines, in the background."""
        self.perform(self.core.start(self.now()))

    async def stop(self) -> None:
        """Close every line; leases must have ended before. Bounded in time."""
        self.drain()
        for dial in self._dials.values():  # nobody wants them any more
            dial.cancel()
        await self._tasks.wait(STOP_SECONDS)
        await self._tasks.cancel(STOP_SECONDS)
        if self._timer is not None:
            self._timer.cancel()

    def give_back(self, lines: int) -> int:
        """Close up to so many idle lines, for somebody who waits elsewhere; return how many."""
        self.perform(effects := self.core.give_back(lines, self.now()))
        return sum(isinstance(effect, Close) and effect.reason == "recalled" for effect in effects)

    def drain(self) -> None:
        """Take nothing new, as the gateway ends; idle lines close, leases go on."""
        self.is_leaving = True
        self.perform(self.core.drain(self.now()))

    def serve(self, template: Template, version: str, limits: PoolLimits) -> None:
        """Make lines for one more template."""
        self.templates[template.name] = template
        self.perform(self.core.add(template.name, version, limits, self.now()))

    def stats(self, pool: str) -> PoolStats:
        """Take an immutable snapshot of one template's share."""
        return self.core.stats(pool, self.now())

    # For a template's pool.

    def expect(self, waiter_id: WaiterId, safety_identifier: str = "") -> Answer:
        """Return the future that the answer to a waiter will be put in."""
        answer: Answer = asyncio.get_running_loop().create_future()
        self._answers[waiter_id] = answer
        if safety_identifier:
            self._safety_identifiers[waiter_id] = safety_identifier
        return answer

    def forget(self, waiter_id: WaiterId) -> None:
        """Drop the future of a waiter who is no longer there, whether it was answered or not."""
        self._answers.pop(waiter_id, None)
        self._safety_identifiers.pop(waiter_id, None)

    def perform(self, effects: list[Effect]) -> None:
        """Do what the core wants done, in order, and set the timer."""
        for effect in effects:
            match effect:
                case Dial():
                    self._begin_dial(effect)
                case Grant():
                    self._deliver(effect)
                case Reserve():
                    self._answer(effect.waiter_id, effect)
                case Reject():
                    self._refuse(effect)
                case Prove():
                    self._tasks.spawn(self._prove(effect.connection_id), "prove")
                case Revoke():
                    for hear in self.on_revoke:
                        hear(effect.lease_id)
                case Close():
                    self._tasks.spawn(self._close(effect), "close")
        self._arm()

    def tick(self) -> None:
        """Let the core settle because time has passed, or something it depends on has changed."""
        self.perform(self.core.tick(self.now()))

    @staticmethod
    def now() -> float:
        """The loop's clock, in seconds."""
        return asyncio.get_running_loop().time()

    # Answers.

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        deadline = self.core.next_deadline(self.now())
        loop = asyncio.get_running_loop()
        # A loop's clock may be a little behind the deadline it was armed with.
        self._timer = None if deadline is None else loop.call_at(deadline, self.tick)

    def _deliver(self, grant: Grant) -> None:
        self._places.become(grant.connection_id, SlotKind.LEASED)
        # The line goes along: it may be lost before the caller's task runs.
        line = self._lines[grant.connection_id]
        line.ready_since = None
        self._answer(grant.waiter_id, (grant, line))

    def _answer(self, waiter_id: WaiterId, answer: Granted | Reserve) -> None:
        self._answers.pop(waiter_id).set_result(answer)
        self._safety_identifiers.pop(waiter_id, None)

    def _refuse(self, reject: Reject) -> None:
        self._safety_identifiers.pop(reject.waiter_id, None)
        self._answers.pop(reject.waiter_id).set_exception(RejectedError(reject))

    # Dials.

    def _begin_dial(self, dial: Dial) -> None:
        task = self._dials[dial.connection_id] = self._tasks.spawn(self._dial(dial), "dial")
        task.add_done_callback(lambda _task: self._dials.pop(dial.connection_id, None))

    async def _dial(self, dial: Dial) -> None:
        connection_id = dial.connection_id
        try:
            delay = await self._slots.acquire(self.line_class.account, _KINDS[dial.urgency])
        except CapacityError as refusal:
            retry_after = refusal.retry_after_seconds or SLOT_RETRY_SECONDS
            self.perform(self.core.dial_refused(connection_id, refusal.reason, retry_after, self.now()))
            self.on_change()
            return
        except Exception as error:  # noqa: BLE001 the bulkhead, as below
            _log.exception("dial_failed", pool=dial.pool or self.bare_name, error=type(error).__name__)
            self._failed(dial, DialError(Reason.INTERNAL, "a dial failed inside the gateway"), DialTimes())
            return
        self._places.taken(connection_id, _KINDS[dial.urgency])
        try:
            await asyncio.sleep(delay)
            self.core.dial_begun(connection_id, self.now())
            self._arm()
            await self._connect(dial)
        finally:
            if connection_id not in self._lines:
                self._places.free(connection_id)

    async def _connect(self, dial: Dial) -> None:
        connection_id, pool = dial.connection_id, dial.pool or self.bare_name
        times, began = DialTimes(), self.now()
        template = self.templates.get(dial.pool)
        session = {**template.session, "type": self.line_class.session_type} if template else None
        of_class = self.line_class.safety_identifier
        identifier = self._safety_identifiers.get(dial.dialled_for, of_class) if dial.dialled_for else of_class
        try:
            upstream = await self._dialer.dial(self.line_class, session, times, identifier)
        except DialError as error:
            times.total = self.now() - began
            _log.warning("dial_failed", pool=pool, reason=error.reason, error=error.message)
            self._failed(dial, error, times)
            return
        except Exception as error:  # noqa: BLE001 the bulkhead: a fault of ours must not eat a place
            _log.exception("dial_failed", pool=pool, error=type(error).__name__)
            self._failed(dial, DialError(Reason.INTERNAL, "a dial failed inside the gateway"), times)
            return
        times.total = self.now() - began
        self._lines[connection_id] = OpenLine(upstream, pool, self.now(), self._observer.dialled(pool, "ok", times))
        self._places.become(connection_id, SlotKind.WARM)
        self._tasks.spawn(self._watch(connection_id, upstream), "watch")
        self.perform(self.core.dial_succeeded(connection_id, upstream.life_seconds, self.now()))
        self.on_change()

    def _failed(self, dial: Dial, error: DialError, times: DialTimes) -> None:
        self._observer.dialled(dial.pool or self.bare_name, error.reason.lower(), times)
        self.last_error = error
        delay = error.retry_after_seconds
        self.perform(self.core.dial_failed(dial.connection_id, error.reason, self.now(), delay))
        self.on_change()

    # Lines.

    async def _watch(self, connection_id: ConnectionId, upstream: Upstream) -> None:
        """Tell the core when a line ends by itself; one that we close has left `_lines` before."""
        reason = await upstream.wait_closed()
        if (line := self._lines.pop(connection_id, None)) is not None:
            self._places.free(connection_id)
            self._lost(connection_id, line, reason)

    def _lost(self, connection_id: ConnectionId, line: OpenLine, reason: str) -> None:
        self._count_end(line, "lost")
        _log.info("line_lost", pool=line.pool, reason=reason)
        self.perform(self.core.connection_lost(connection_id, self.now()))
        self.on_change()

    def _count_end(self, line: OpenLine, reason: str) -> None:
        self._observer.connection_closed(line.pool, reason)
        if line.ready_since is not None:
            self._observer.idled(line.pool, self.now() - line.ready_since)

    async def _prove(self, connection_id: ConnectionId) -> None:
        line = self._lines.get(connection_id)
        if line is None:
            return
        try:
            await prove(line.upstream, PROOF_SECONDS)
        except UpstreamClosedError as error:
            await self._give_up(connection_id, error.message)
            return
        except Exception as error:  # noqa: BLE001 the bulkhead: a line that cannot be asked is not handed out
            await self._give_up(connection_id, f"a fault of ours: {type(error).__name__}")
            return
        self.perform(self.core.proven(connection_id, self.now()))

    async def _give_up(self, connection_id: ConnectionId, reason: str) -> None:
        """Take a line that seems to be dead for lost; its place is free when it is closed."""
        line = self._lines.pop(connection_id, None)
        if line is None:  # its end is known already
            return
        self._lost(connection_id, line, reason)
        try:
            await line.upstream.close()
        finally:
            self._places.free(connection_id)

    async def _close(self, close: Close) -> None:
        connection_id = close.connection_id
        try:
            dial = self._dials.get(connection_id)
            if dial is not None:
                dial.cancel()
                await asyncio.wait({dial}, timeout=STOP_SECONDS)
            line = self._lines.pop(connection_id, None)
            if line is not None:
                await line.upstream.close()
                self._count_end(line, close.reason)
        finally:  # a place under the ceiling must come back, whatever went wrong
            self._places.free(connection_id)
            self.perform(self.core.close_finished(connection_id, self.now()))
            self.on_change()
