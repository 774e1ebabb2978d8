"""One live session, run by a task that owns it: open, converse, close.

It is no child of the RPC, so a cancelled handler cannot cut its cleanup. Whatever ends it, the line
is given back and the report is written here, in one place.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import structlog

from gateway.core import events as out
from gateway.core.continuity import Continuity
from gateway.core.conversation import Conversation
from gateway.core.errors import CallerError, GatewayError, Reason, StoreError
from gateway.core.ids import SessionId
from gateway.core.principal import Principal
from gateway.core.session import TABLE, SessionEvent, SessionState
from gateway.core.transitions import step
from gateway.core.turns import TurnTaking, detection_of
from gateway.runtime.farewell import last_event, take_leave
from gateway.runtime.greeting import guarded, is_guarded, lift_guard, send_first
from gateway.runtime.lanes import Lanes
from gateway.runtime.lease import Holder, LeasedLine, Wish
from gateway.runtime.line_keeping import LineKeeping
from gateway.runtime.opening import Opening, first_message, prepare
from gateway.runtime.outbox import Outbox
from gateway.runtime.ports import CallerGoneError, CallerStream, SessionKey
from gateway.runtime.relay import Relay
from gateway.runtime.session_limits import hold_to_limits
from gateway.runtime.session_options import CANCELLED, GONE, Ending, SessionParts
from gateway.runtime.session_waiting import Waiting
from gateway.runtime.session_words import bounded, opened, report

_log = structlog.get_logger(__name__)
# How often a holder says that it uses its lease.
RENEW_SECONDS = 1.0
# How long a session may go on whose caller's credentials have been taken away.
EXPEL_SECONDS = 30.0
# The first owner of a session.
FIRST_EPOCH = 1


class LiveSession:
    """One session from its first message to its end."""

    def __init__(self, stream: CallerStream, parts: SessionParts, admit: Callable[[Principal], None]) -> None:
        """Begin; nothing happens before `run`. `admit` raises `CapacityError` when there is no room for a session."""
        self.id = SessionId(f"sess_{secrets.token_urlsafe(15)}")
        self.state = SessionState.OPENING
        self.request = out.OpenRequest()
        # The names of the template and of its model, once they are known.
        self.pool = self.model = ""
        self.stream = stream
        self.line: LeasedLine | None = None
        # What it was opened with; `line` may be another one.
        self.first_line: LeasedLine | None = None
        self.upstream_session_id = ""
        self.conversation = Conversation(TurnTaking())
        self.started_at = self.stirred_at = self._now()
        # When it must be over because its caller may not call any more; None = it may.
        self.leaves_by: float | None = None
        # Whether it has said `open`, and was let in.
        self.is_admitted = False
        self._admit = admit
        self._parts = parts
        self._waiting = Waiting(stream, parts.options.farewell_seconds)
        self._ended: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self._left = asyncio.Event()

    @property
    def is_ending(self) -> bool:
        """Whether it has been asked to end."""
        return self._ended.done()

    def end(self, ending: Ending) -> bool:
        """Ask the session to end; return whether it was this very call: the first ending counts."""
        if self._ended.done():
            return False
        self._ended.set_result(ending)
        return True

    def expel(self, *, expelled: bool) -> None:
        """Let it end soon, as its caller may not call any more; or let it go on after all."""
        if not expelled:
            self.leaves_by = None
        elif self.leaves_by is None:
            self.leaves_by = self._now() + EXPEL_SECONDS

    def caller_left(self) -> None:
        """Record that the stream is gone: there is nobody to take leave of."""
        self._left.set()
        self.end(GONE)

    # The owner's task.

    async def run(self) -> GatewayError | None:
        """Live the whole session. Returns the error for the caller's status; None = OK."""
        ending = CANCELLED
        try:
            ending = await self._live()
        finally:
            if ending.error is not None:
                self._parts.observer.refused(ending.error.reason)
            self._parts.observer.session_ended(report(self, ending, self._now()))
        return ending.error

    async def _live(self) -> Ending:
        try:
            ending = await self._hold_line()
        except GatewayError as error:
            ending = Ending(out.ClosedReason.REFUSED, error)
        except CallerGoneError:
            ending = self._ended.result() if self._ended.done() else GONE
            if ending.reason is out.ClosedReason.KILLED and not ending.caller_gone:
                await self._waiting.tell_end(ending)
        except Exception as error:  # noqa: BLE001 the bulkhead: anything else is a fault of ours
            ending = Ending.of(self._fault(error))
        else:
            await self._forget(ending)
        if self.state is SessionState.OPENING:
            self.move(SessionEvent.GAVE_UP)
        return ending

    async def _hold_line(self) -> Ending:
        parts = self._parts
        self.request = await first_message(self.stream, self._ended, parts.options.first_message_seconds)
        self._admit(self.stream.principal)
        self.is_admitted = True
        opening = await prepare(self.request, self.stream, parts)
        self.pool, self.model = opening.pool.name, opening.pool.template.line_class.model
        async with AsyncExitStack() as leases:
            try:
                line = await leases.enter_async_context(opening.pool.lease(self._wish(opening)))
            except GatewayError:
                if self.request.lease_token:  # whoever is refused may come again
                    await parts.reservations.put_back(self.request.lease_token, self.stream.principal)
                raise
            return await self._converse(line, opening, leases)

    def _wish(self, opening: Opening) -> Wish:
        wait_ms = bounded(self.request.wait_max_ms, opening.pool.limits.wait_max_ms)
        again = self.wish_again(min(wait_ms / 1000, self.stream.remaining_seconds()))
        tell = self._waiting.tell_place
        return replace(again, tell=tell, reservation=opening.reservation, foreign=opening.foreign)

    def wish_again(self, wait_seconds: float) -> Wish:
        """Ask for a line in place of one that was lost."""
        principal, request = self.stream.principal, self.request
        return Wish(
            holder=Holder(principal.tenant, principal.caller, self.id, request.correlation_id),
            wait_seconds=wait_seconds,
            abandoned=self._ended,
            safety_identifier=request.safety_identifier,
        )

    def takes(self, line: LeasedLine) -> None:
        """Have this line from now on."""
        self.line, self.upstream_session_id = line, line.upstream.session_id

    async def _converse(self, line: LeasedLine, opening: Opening, leases: AsyncExitStack) -> Ending:
        parts, template = self._parts, opening.pool.template
        self.first_line = line
        self.takes(line)
        session = guarded(opening.session) if is_guarded(opening) else opening.session
        self.conversation = Conversation(TurnTaking.of(session), detection_of(session))
        outbox = Outbox(parts.options.outbox)
        lanes = Lanes(self._key(), FIRST_EPOCH, outbox, parts.lanes)
        continuity = Continuity(opening.session, template.user_turns)
        relay = Relay(template, self.stream, self.conversation, continuity, lanes, outbox, parts.observer)
        relay.attach(line.upstream)
        keeping = LineKeeping(self, opening, relay, lanes, line, leases, parts)
        self.move(SessionEvent.UPSTREAM_READY)
        lanes.control(opened(self, line, template, parts))
        works: list[Callable[[], Awaitable[None]]] = [
            lanes.run,
            relay.write,
            keeping.run,
            lambda: hold_to_limits(self, relay, lanes, parts),
            lambda: lift_guard(relay, opening),
            lambda: self._uplink(relay, opening, line),
        ]
        async with asyncio.TaskGroup() as group:
            children = [group.create_task(self._guard(work)) for work in works]
            keeper = group.create_task(self._keep(keeping))
            ending = await self._ended
            told = await self._farewell(ending, lanes, outbox)
            for child in (*children, keeper):
                child.cancel()
        if not told and ending.reason is out.ClosedReason.BYE and not self._left.is_set():
            error = CallerError(Reason.SLOW_CALLER, "the last messages were not read")
            ending = Ending(out.ClosedReason.SLOW_CALLER, error)
        if self._left.is_set() and ending.error is None:
            ending = GONE  # its last read looked like a polite half-close
        return ending

    async def _forget(self, ending: Ending) -> None:
        """Let the stored state go; where that fails, its time to live does it."""
        if ending.reason is out.ClosedReason.SUPERSEDED:
            return  # it belongs to a newer owner
        try:
            async with asyncio.timeout(self._parts.options.farewell_seconds):
                await self._parts.lanes.store.finish(self._key(), FIRST_EPOCH)
        except (StoreError, TimeoutError) as error:
            _log.warning("record_left_to_expire", session_id=self.id, error=type(error).__name__)

    def _key(self) -> SessionKey:
        return SessionKey(self.stream.principal.tenant, self.id)

    async def _guard(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run one part of the session; its failure ends this session and no other."""
        try:
            await work()
        except CallerGoneError:
            self.caller_left()
        except GatewayError as error:
            self.end(Ending.of(error))
        except Exception as error:  # noqa: BLE001 the bulkhead: anything else is a fault of ours
            self.end(Ending.of(self._fault(error)))

    def _fault(self, error: Exception) -> GatewayError:
        _log.error("session_failed", session_id=self.id, error=type(error).__name__, exc_info=error)
        return GatewayError(Reason.INTERNAL, f"session {self.id} failed inside the gateway")

    async def _uplink(self, relay: Relay, opening: Opening, line: LeasedLine) -> None:
        """Carry input up; then finish what is due, and end."""
        is_configured = line.is_configured and not self.request.overrides
        await send_first(relay, opening, is_configured=is_configured)
        bye = await relay.uplink()
        if bye is not None and bye.now:
            cut = True
        else:
            cut = await self._finish(relay, listens=bye is not None)
        self.end(Ending(out.ClosedReason.BYE_NOW if cut else out.ClosedReason.BYE))

    async def _finish(self, relay: Relay, *, listens: bool) -> bool:
        """Let what is due come; return whether the caller cut it off by a late `bye {now}`."""
        tasks: list[asyncio.Task[Any]] = [asyncio.ensure_future(relay.finish(self._parts.options.finish_max_seconds))]
        try:
            if listens:
                tasks.append(asyncio.ensure_future(relay.until_cut()))
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                if tasks[1].done() and tasks[1].result():
                    return True
            await tasks[0]
            return False
        finally:
            for task in tasks:
                task.cancel()

    async def _keep(self, keeping: LineKeeping) -> None:
        """Say every second that the line is in use, for as long as the caller is there."""
        while not self._left.is_set():
            keeping.renew()
            await asyncio.sleep(RENEW_SECONDS)

    async def _farewell(self, ending: Ending, lanes: Lanes, outbox: Outbox) -> bool:
        """Tell why it ends; return whether the caller was told."""
        for event in ending.steps():
            self.move(event)
        closed = last_event(ending, self.conversation.tally.usage, self._now() - self.started_at)
        return await take_leave(closed, lanes, outbox, self._left, self._parts.options, self.id)

    # Words and numbers.

    def move(self, event: SessionEvent) -> None:
        """Go on to the state after an event."""
        self.state = step(TABLE, self.state, event)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
