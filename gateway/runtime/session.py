"""One live session, run by a task that owns it: open, converse, close.

It is no child of the RPC, so a cancelled handler cannot cut its cleanup. Whatever ends it, the line
is given back and the report is written here, in one place.
"""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import structlog

from gateway.core import events as out
from gateway.core.conversation import Conversation
from gateway.core.errors import CallerError, GatewayError, Reason
from gateway.core.ids import SessionId
from gateway.core.session import TABLE, SessionEvent, SessionState
from gateway.core.transitions import step
from gateway.core.turns import TurnTaking
from gateway.runtime.assembly import FIRST_EPOCH, assemble
from gateway.runtime.attachment import Attachment
from gateway.runtime.caller_keeping import CallerKeeping
from gateway.runtime.claiming import Claim
from gateway.runtime.farewell import forget, last_event, last_stored, take_leave
from gateway.runtime.greeting import lift_guard, send_first
from gateway.runtime.lanes import Lanes
from gateway.runtime.lease import Holder, LeasedLine, Wish
from gateway.runtime.opening import Opening, entry_of, prepare
from gateway.runtime.outbox import Outbox
from gateway.runtime.ports import CallerGoneError, SessionKey
from gateway.runtime.relay import Relay
from gateway.runtime.resume_tokens import NO_SESSION, ResumeToken
from gateway.runtime.session_limits import hold_to_limits
from gateway.runtime.session_options import CANCELLED, GONE, Ending, SessionParts
from gateway.runtime.session_waiting import Waiting
from gateway.runtime.session_words import bounded, opened, report, total_usage

_log = structlog.get_logger(__name__)
# How long a session may go on whose caller's credentials have been taken away.
EXPEL_SECONDS = 30.0


class LiveSession:
    """One session from its first message to its end."""

    def __init__(self, attachment: Attachment, begins: out.OpenRequest | Claim, parts: SessionParts) -> None:
        """Begin; nothing happens before `run`."""
        self._claim = claim = begins if isinstance(begins, Claim) else None
        self.id = SessionId(claim.session_id if claim else f"sess_{secrets.token_urlsafe(15)}")
        self.state = SessionState.RECOVERING if claim else SessionState.OPENING
        self.request = begins.opening.request if isinstance(begins, Claim) else begins
        # The names of the template and of its model, once they are known.
        self.pool = self.model = ""
        # Who opened it; whoever resumes it is the same.
        self.principal = attachment.stream.principal
        self.observer = parts.observer.of_session(claim.retold.opening.trace if claim else attachment.stream.trace)
        # Its streams, once it has a line.
        self.callers: CallerKeeping | None = None
        self.line: LeasedLine | None = None
        # What it was opened with; `line` may be another one.
        self.first_line: LeasedLine | None = None
        self.upstream_session_id = ""
        self.conversation = Conversation(TurnTaking())
        self.started_at = self.stirred_at = self._now()
        if claim is not None:
            self.started_at -= max(0.0, time.time() - claim.retold.opened_at_unix_ms / 1000)
        # When it must be over because its caller may not call any more; None = it may.
        self.leaves_by: float | None = None
        self.used_before = claim.retold.usage if claim else out.Usage()
        self._key = SessionKey(self.principal.tenant, self.id)
        self._first = attachment
        self.epoch = claim.epoch if claim else FIRST_EPOCH
        self._parts = parts
        self._waiting = Waiting(attachment.stream, parts.options.farewell_seconds)
        self._relay: Relay | None = None
        # Whether it takes nobody back any more.
        self._is_over = False
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

    @property
    def attachments(self) -> list[Attachment]:
        """The streams that carry it, now or in a moment; none while its caller is away."""
        return [self._first] if self.callers is None else self.callers.attachments

    @property
    def has_line(self) -> bool:
        """Whether what the caller sends reaches the provider now."""
        return self._relay is not None and self._relay.has_line

    async def is_owner(self) -> bool:
        """Whether no other gateway has the session by now."""
        return self.callers is not None and not self._is_over and await self.callers.is_owner()

    def resume(self, attachment: Attachment, request: out.ResumeRequest, token: ResumeToken) -> None:
        """Let another stream of its caller carry it. Raises `CallerError` RESUME_REFUSED."""
        if self.callers is None or self._is_over:
            raise CallerError(Reason.RESUME_REFUSED, NO_SESSION)
        self.callers.attach(attachment, request, token.number if token.epoch == self.epoch else 0)

    def leave(self, attachment: Attachment) -> None:
        """Record that a stream of the session is gone."""
        attachment.leave()
        if self.callers is None or not self.callers.is_resumable:
            self.caller_left()

    def caller_left(self) -> None:
        """Record that the caller is gone for good: there is nobody to take leave of."""
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
                self.observer.refused(ending.error.reason)
            self.observer.session_ended(report(self, ending, self._now()))
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
            await forget(ending, self._key, self.epoch, self._parts)
        if self.state is SessionState.OPENING:
            self.move(SessionEvent.GAVE_UP)
        return ending

    async def _hold_line(self) -> Ending:
        parts, claim = self._parts, self._claim
        opening = claim.opening if claim else await prepare(self.request, self.principal, parts)
        self.pool, self.model = opening.pool.name, opening.pool.template.line_class.model
        async with AsyncExitStack() as leases:
            leases.enter_context(parts.tenants.line_of(opening.pool.template.line_class.account, self.principal.tenant))
            if claim is not None:  # its line comes as one for a line that is lost
                return await self._converse(claim, None, leases)
            try:
                line = await leases.enter_async_context(opening.pool.lease(self._wish(opening)))
            except GatewayError:
                if self.request.lease_token:  # whoever is refused may come again
                    await parts.reservations.put_back(self.request.lease_token, self.principal)
                raise
            return await self._converse(opening, line, leases)

    def _wish(self, opening: Opening) -> Wish:
        wait_ms = bounded(self.request.wait_max_ms, opening.pool.limits.wait_max_ms)
        again = self.wish_again(min(wait_ms / 1000, self._first.stream.remaining_seconds()))
        tell, kept, foreign = self._waiting.tell_place, opening.reservation, opening.foreign
        return replace(again, tell=tell, reservation=kept, foreign=foreign, recovers=False)

    def wish_again(self, wait_seconds: float) -> Wish:
        """Ask for a line in place of one that was lost."""
        principal, request = self.principal, self.request
        holder = Holder(principal.tenant, principal.caller, self.id, request.correlation_id)
        identifier = request.safety_identifier
        return Wish(holder, wait_seconds, self._ended, safety_identifier=identifier, recovers=True)

    def takes(self, line: LeasedLine) -> None:
        """Have this line from now on."""
        self.line, self.upstream_session_id = line, line.upstream.session_id
        self.observer.leased(line.source.name.lower(), line.waited_seconds, line.dial)

    async def _converse(self, begins: Opening | Claim, line: LeasedLine | None, leases: AsyncExitStack) -> Ending:
        parts = self._parts
        made = assemble(self, self._first, begins, line, leases, parts)
        opening, relay, callers, lanes, outbox = made.opening, made.relay, made.callers, made.lanes, made.outbox
        self.conversation, self._relay, self.callers, self.epoch = made.conversation, relay, callers, lanes.epoch
        if line is not None:
            self.first_line = line
            self.takes(line)
            relay.attach(line.upstream)
            self.move(SessionEvent.UPSTREAM_READY)
            token = callers.downlink.issue_token() if callers.is_resumable else ""
            entry = entry_of(opening, self.observer.trace) if callers.is_resumable else None
            lanes.control(opened(self, line, opening.pool.template, parts, token), opening=entry)
        works: list[Callable[[], Awaitable[None]]] = [
            lanes.run,
            callers.run,
            made.lines.run,
            lambda: hold_to_limits(self, relay, callers.downlink, lanes, parts),
            lambda: lift_guard(relay, opening),  # a claimed session was greeted by its first owner
            lambda: self._converse_to_the_end(relay, callers, opening, line),
        ]
        async with asyncio.TaskGroup() as group:
            children = [group.create_task(self._guard(work)) for work in works]
            keeper = group.create_task(made.lines.renew(self._left))
            ending = await self._ended
            told = await self._farewell(ending, lanes, outbox)
            self._is_over = True
            for child in (*children, keeper):
                child.cancel()
        if not told and ending.reason is out.ClosedReason.BYE and not self._left.is_set():
            error = CallerError(Reason.SLOW_CALLER, "the last messages were not read")
            ending = Ending(out.ClosedReason.SLOW_CALLER, error)
        if self._left.is_set() and ending.error is None:
            ending = GONE  # its last read looked like a polite half-close
        return ending

    async def _guard(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run one part of the session; its failure ends this session and no other."""
        try:
            await work()
        except CallerGoneError:
            self.caller_left()
        except Exception as error:  # noqa: BLE001 the bulkhead: what is no refusal is a fault of ours
            self.fail(error)

    def fail(self, error: Exception) -> None:
        """End the session for an error that a part of it has raised."""
        self.end(Ending.of(error if isinstance(error, GatewayError) else self._fault(error)))

    def _fault(self, error: Exception) -> GatewayError:
        _log.error("session_failed", session_id=self.id, error=type(error).__name__, exc_info=error)
        return GatewayError(Reason.INTERNAL, f"session {self.id} failed inside the gateway")

    async def _converse_to_the_end(
        self, relay: Relay, callers: CallerKeeping, opening: Opening, line: LeasedLine | None
    ) -> None:
        """Send what comes first, listen until the caller has said everything, finish what is due, and end."""
        if line is not None:
            is_configured = line.is_configured and not self.request.overrides
            await send_first(relay, opening, is_configured=is_configured)
        callers.uplink.listen()
        bye = await callers.uplink.bye
        cut = (bye is not None and bye.now) or await self._finish(relay, callers.uplink.cut)
        self.end(Ending(out.ClosedReason.BYE_NOW if cut else out.ClosedReason.BYE))

    async def _finish(self, relay: Relay, cut: asyncio.Event) -> bool:
        """Let what is due come; return whether the caller cut it off by a late `bye {now}`."""
        tasks: list[asyncio.Task[Any]] = [
            asyncio.ensure_future(relay.finish(self._parts.options.finish_max_seconds)),
            asyncio.ensure_future(cut.wait()),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if tasks[0].done():
                tasks[0].result()
            return cut.is_set()
        finally:
            for task in tasks:
                task.cancel()

    async def _farewell(self, ending: Ending, lanes: Lanes, outbox: Outbox) -> bool:
        """Tell why it ends; return whether the caller was told."""
        for event in ending.steps(is_detached=self.state is SessionState.DETACHED):
            self.move(event)
        if ending.moves:
            return await last_stored(lanes, self._parts.options)
        closed = last_event(ending, total_usage(self), self._now() - self.started_at)
        left = self._left
        if self.callers is not None and self.callers.is_away and ending.reason is not out.ClosedReason.BYE:
            left = asyncio.Event()  # there is nobody to take leave of
            left.set()
        return await take_leave(closed, lanes, outbox, left, self._parts.options, self.id)

    # Words and numbers.

    def move(self, event: SessionEvent) -> None:
        """Go on to the state after an event."""
        self.state = step(TABLE, self.state, event)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
