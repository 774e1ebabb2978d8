"""Keeps a session with its caller: lets a stream carry it, and waits for the next one where that is lost.

A plain caller has one stream, and its end is the session's. A resumable one may come back: what it did not get goes
out again, and what it sends again is taken once.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import structlog

from gateway.core import events as out
from gateway.core.errors import CallerError, Reason, StoreError
from gateway.core.intake import Intake
from gateway.core.session import SessionEvent, SessionState
from gateway.runtime.attachment import Attachment
from gateway.runtime.claiming import Claim
from gateway.runtime.downlink import Downlink
from gateway.runtime.lanes import Lanes
from gateway.runtime.outbox import Outbox
from gateway.runtime.ports import CallerGoneError
from gateway.runtime.relay import Relay
from gateway.runtime.resume_tokens import NO_SESSION
from gateway.runtime.session_options import SessionParts
from gateway.runtime.snapshots import Snapshots
from gateway.runtime.uplink import Uplink

if TYPE_CHECKING:
    from gateway.runtime.session import LiveSession

# How often a session without a caller asks whether somebody else has it by now.
OWNER_LOOK_SECONDS: Final = 1.0
OWNER_ANSWER_SECONDS: Final = 0.25
_log = structlog.get_logger(__name__)


class CallerKeeping:
    """The streams of one session, one after the other."""

    def __init__(  # noqa: PLR0913, PLR0917 what a session is made of
        self,
        session: "LiveSession",
        first: Attachment,
        relay: Relay,
        lanes: Lanes,
        outbox: Outbox,
        parts: SessionParts,
        intake: Intake | None,
        claim: Claim | None = None,
    ) -> None:
        """Begin with one stream; nothing happens before `run`. `intake` = the caller is a resumable one.

        `claim` = it comes back to a session that somebody else had.
        """
        self._session = session
        self._relay = relay
        self._lanes = lanes
        self._outbox = outbox
        self._parts = parts
        self._intake = intake
        # What writes them, for a caller that may come back to another gateway.
        self.snapshots: Snapshots | None = None
        self.uplink = Uplink(relay, lanes, intake)
        self.downlink = Downlink(outbox, lanes, intake, self._token, parts.options)
        self._present: Attachment | None = first
        # Whether the caller may know how to come back: who was told nothing has no token.
        self._has_token = claim is not None
        # The stream that is to carry the session from now on, and with what it came.
        self._next: tuple[Attachment, out.ResumeRequest] | None = None
        self._came = asyncio.Event()
        # Since when nobody is there; None = somebody is.
        self._away_since: float | None = None
        if claim is not None:
            self._go_on(claim, first)
        self._went, self._back = asyncio.Event(), asyncio.Event()

    @property
    def is_resumable(self) -> bool:
        """Whether the caller may come back."""
        return self._intake is not None

    @property
    def is_away(self) -> bool:
        """Whether nobody is there, and somebody may come back."""
        return self._away_since is not None

    @property
    def attachments(self) -> list[Attachment]:
        """The stream that carries the session now, and the one that is to carry it in a moment."""
        coming = self._next[0] if self._next is not None else None
        return [each for each in (self._present, coming) if each is not None]

    @property
    def can_move(self) -> bool:
        """Whether another gateway can go on with it: its caller comes back, and its record outlives this process."""
        return self.is_resumable and self._lanes.durability is out.Durability.REPLICATED

    def tell(self, event: out.LiveEvent) -> None:
        """Tell the caller something of the moment; one that is away does not miss it."""
        if not self.is_away:
            self._lanes.live(event)

    async def away(self, seconds: float) -> None:
        """Return when the caller has been away for so long without a pause; for a plain one, never."""
        while True:
            await self._went.wait()
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._back.wait()
            if not self._back.is_set():
                return

    async def back(self) -> None:
        """Return when the caller is there; the session ends where it does not come in time."""
        await self._back.wait()

    def attach(self, attachment: Attachment, request: out.ResumeRequest, token_number: int) -> None:
        """Let a stream carry the session from now on. Raises `CallerError` RESUME_REFUSED."""
        is_old = token_number < self.downlink.token_confirmed
        if self._intake is None or is_old or request.last_seq > self._lanes.seq:
            raise CallerError(Reason.RESUME_REFUSED, NO_SESSION)
        if self._next is not None:
            self._next[0].end(_superseded())
        self._next = attachment, request
        self._came.set()

    async def run(self) -> None:
        """Carry stream after stream until cancelled; the end of the last one is the session's."""
        try:
            while (attachment := self._present) is not None:
                with suppress(CallerGoneError):
                    await self._carry(attachment)
                self._has_token = self._has_token or attachment.stream.written_bytes > 0
                if not self.is_resumable or not self._has_token:
                    break
                attachment.end(None)
                self._present = None
                if not await self._wait():
                    break
                self._take_next()
            self._session.caller_left()
        finally:
            self.uplink.stop()

    # One stream.

    async def _carry(self, attachment: Attachment) -> None:
        """Read and write until it ends. Raises `CallerGoneError` then; what ends the session stops no writer."""
        attachment.heard_at = self._now()
        read: Coroutine[Any, Any, None]
        works = [self.downlink.write(attachment), self._until_gone(attachment)]
        if self._intake is None:
            read = self.uplink.read(attachment)
        else:
            read = self.uplink.read_numbered(attachment, self._intake, self.downlink.acknowledge)
            works.append(self.downlink.beat(attachment))
        reader, *others = tasks = [asyncio.ensure_future(self._guard(work)) for work in (read, *works)]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            attachment.is_superseded.set()
            if self.uplink.leave(reader):
                reader.add_done_callback(lambda task: task.cancelled() or task.exception())
                tasks = others
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        raise CallerGoneError

    async def _until_gone(self, attachment: Attachment) -> None:
        """Raise `CallerGoneError` when the call is over, or another one takes its place."""
        waits = [asyncio.ensure_future(event.wait()) for event in (attachment.is_left, self._came)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()
        if self._came.is_set():
            attachment.end(_superseded())
        raise CallerGoneError

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        """Do one part of it. Raises `CallerGoneError`; anything else ends the session."""
        try:
            await work
        except CallerGoneError:
            raise
        except Exception as error:  # noqa: BLE001 the bulkhead: what is no refusal is a fault of ours
            self._session.fail(error)

    # Between two streams.

    def _go_on(self, claim: Claim, attachment: Attachment) -> None:
        """Let the caller hear what it missed of an older owner, and what has come to an end with that."""
        self.uplink.go_on(claim.retold)
        for outgoing in claim.missed:
            self._outbox.put(outgoing)
        self._outbox.begin_behind(claim.seq)
        self._welcome(claim.request, attachment, 0.0)
        if claim.retold.cut_item:
            cut = claim.request.output
            cause = out.InterruptionCause.UPSTREAM_LOST
            self._lanes.control(out.Interrupted("", cut.item_id, cause, cut.received, had_tool_calls=False))

    async def _wait(self) -> bool:
        """Wait for the caller to come back; return whether it has."""
        if self._came.is_set():
            return True
        session = self._session
        self._away_since = self._now()
        self._went.set()
        self._back.clear()
        self._outbox.is_parked = True
        if session.state in (SessionState.ACTIVE, SessionState.RECOVERING):
            session.move(SessionEvent.CALLER_LOST)
        _log.info("caller_away", session_id=session.id, pool=session.pool)
        ends_at = self._now() + self._parts.options.resume.window_seconds
        while not self._came.is_set() and self._now() < ends_at:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(OWNER_LOOK_SECONDS, ends_at - self._now())):
                    await self._came.wait()
                    break
            await self.is_owner()
        return self._came.is_set()

    async def is_owner(self) -> bool:
        """Whether the session is this owner's still; as far as the store says so in time. Ends it where it is not."""
        try:
            async with asyncio.timeout(OWNER_ANSWER_SECONDS):
                await self._lanes.keep()
        except TimeoutError:
            return True
        except StoreError as error:
            self._session.fail(error)
            return False
        return True

    def _take_next(self) -> None:
        """Let the stream that came carry the session: first what the caller missed."""
        assert self._next is not None, "somebody came"  # noqa: S101
        attachment, request = self._next
        self._present, self._next = attachment, None
        session = self._session
        away_seconds = self._now() - self._away_since if self._away_since is not None else 0.0
        self._away_since = None
        self._came.clear()
        self._went.clear()
        self._back.set()
        self._outbox.rewind(request.last_seq, request.output)
        self._welcome(request, attachment, away_seconds)
        if session.state in (SessionState.ACTIVE, SessionState.RECOVERING, SessionState.DETACHED):
            session.move(SessionEvent.CALLER_RESUMED)
            if session.has_line:
                session.move(SessionEvent.UPSTREAM_READY)

    def _welcome(self, request: out.ResumeRequest, attachment: Attachment, away_seconds: float) -> None:
        """Tell the caller, before all else, what it has come back to."""
        session, resumed = self._session, self._resumed(request)
        self._relay.caller_back()
        self._outbox.put_first(out.Outgoing(resumed, epoch=self._lanes.epoch))
        outcome, seconds = resumed.outcome.name.lower(), round(away_seconds, 3)
        self._session.observer.resumed(outcome, self._now() - attachment.came_at)
        _log.info("caller_back", session_id=session.id, pool=session.pool, result=outcome, duration_seconds=seconds)

    def _resumed(self, request: out.ResumeRequest) -> out.Resumed:
        intake, lanes, session = self._intake, self._lanes, self._session
        assert intake is not None, "plain streams are not resumed"  # noqa: S101
        first = self._outbox.next_seq
        has_gap = first > request.last_seq + 1
        return out.Resumed(
            session_id=session.id,
            outcome=out.ResumeOutcome.REATTACHED if session.has_line else out.ResumeOutcome.REBUILT,
            replay_to=lanes.seq,
            next_cseq=intake.cseq + 1,
            input_position_wanted=max(intake.samples, request.input_kept_from),
            resume_token=self.downlink.issue_token(),
            number=self.downlink.token_number,
            owner_address=self._parts.owner_address,
            upstream_session_id=session.upstream_session_id,
            durability=lanes.durability,
            gap_from=request.last_seq + 1 if has_gap else 0,
            gap_to=first - 1 if has_gap else 0,
        )

    def _token(self, number: int) -> str:
        session = self._session
        return self._parts.tokens.issue(session.id, session.principal, session.pool, self._lanes.epoch, number)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def _superseded() -> StoreError:
    return StoreError(Reason.SUPERSEDED, "another stream carries this session now")
