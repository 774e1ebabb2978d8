"""The live sessions of this process: admits them, finds them again for a caller that comes back, ends them."""

import asyncio
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from weakref import WeakValueDictionary

import structlog

from gateway.core import events as out
from gateway.core.errors import CallerError, CapacityError, GatewayError, Reason
from gateway.core.events import ClosedReason
from gateway.core.principal import Principal
from gateway.core.session import SessionState
from gateway.runtime.attachment import Attachment
from gateway.runtime.claiming import Claim, claim
from gateway.runtime.held import HeldLine
from gateway.runtime.moving import LOOK_SECONDS, Moves, can_move
from gateway.runtime.opening import first_message
from gateway.runtime.ports import CallerGoneError, CallerStream
from gateway.runtime.preparing import CLAIM_SECONDS, line_made_ready, while_held
from gateway.runtime.refusals import going_away
from gateway.runtime.resume_tokens import NO_SESSION, ResumeToken
from gateway.runtime.session import LiveSession
from gateway.runtime.session_options import Ending, SessionParts
from gateway.runtime.session_words import unopened
from gateway.runtime.tasks import TaskScope

_log = structlog.get_logger(__name__)
# What sessions that were told to end may take beyond their own bounds.
STOP_SECONDS = 5.0
# So large a part of the sessions may wait for one and the same caller to come back.
WAITING_RATIO = 0.5
# Streams that have not said `open` yet, all callers' together: so many times the sessions that there may be.
SILENT_TIMES = 2


class Directory:
    """Owns the task of every session, so that none is a child of an RPC."""

    def __init__(self, parts: SessionParts, sessions_max: int) -> None:
        """Begin empty. Streams that have not said `open` yet are no sessions, and bounded apart."""
        self._parts = parts
        self._sessions_max = sessions_max
        self._sessions: dict[asyncio.Task[GatewayError | None], LiveSession] = {}
        # Whose the streams are that have said nothing yet.
        self._silent: Counter[tuple[str, str]] = Counter()
        self._owners = TaskScope("session")
        # Sessions that somebody comes back to at this moment.
        self._claiming: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        # Sessions for which a line stands ready here, or is about to.
        self._preparing: set[str] = set()
        self._draining = False
        self._ends_at = math.inf
        # Each is done when even that one has to go: of a future that all share, each would search all the callbacks.
        self._silent_ends: set[asyncio.Future[None]] = set()
        self._is_over = False

    def sessions(self) -> list[LiveSession]:
        """Every live session, oldest first."""
        return list(self._sessions.values())

    def find(self, session_id: str) -> LiveSession | None:
        """The live session of that name."""
        known = (session for session in self._sessions.values() if session.id == session_id)
        return max(known, key=lambda session: session.epoch, default=None)

    def states(self) -> dict[SessionState, int]:
        """How many sessions stand in each state."""
        counts = dict.fromkeys(SessionState, 0)
        for session in self._sessions.values():
            counts[session.state] += 1
        return counts

    @property
    def is_full(self) -> bool:
        """Whether a new session would be refused."""
        return len(self._sessions) >= self._sessions_max

    async def serve(self, stream: CallerStream) -> GatewayError | None:
        """Run a session on `stream`, a new one or one that goes on; return the error for its status, None = OK.

        When this call is cancelled, the session learns that its caller is gone and cleans up by itself.
        """
        attachment = Attachment(stream, self._now())
        session: LiveSession | None = None
        error: GatewayError | None = None
        try:
            session = await self._begin(attachment)
        except CallerGoneError:
            error = going_away() if self._is_over else None
        except GatewayError as refusal:
            error = refusal
        except Exception as fault:  # noqa: BLE001 the bulkhead: anything else is a fault of ours
            _log.exception("stream_failed", error=type(fault).__name__)
            error = GatewayError(Reason.INTERNAL, "the stream failed inside the gateway")
        finally:
            if session is None:
                seconds = self._now() - attachment.came_at
                self._parts.observer.session_ended(unopened(stream.principal, error, seconds))
        if session is None:
            if error is not None:
                self._parts.observer.refused(error.reason)
            return error
        try:
            return await asyncio.shield(attachment.over)
        except asyncio.CancelledError:
            session.leave(attachment)
            raise

    async def _begin(self, attachment: Attachment) -> LiveSession:
        """Find out which session a stream is to carry. Raises `GatewayError`, and `CallerGoneError`."""
        message = await self._first_message(attachment.stream)
        if isinstance(message, out.OpenRequest):
            return self._open(attachment, message)
        if message.prepares:
            return await self._prepare(attachment, message)
        return await self._resume(attachment, message)

    async def _first_message(
        self, stream: CallerStream, max_seconds: float | None = None
    ) -> out.OpenRequest | out.ResumeRequest:
        """Listen to a stream without a session. Raises `GatewayError`, and `CallerGoneError`."""
        if max_seconds is None:
            max_seconds = self._parts.options.first_message_seconds
        self._check_silent(stream.principal)
        name = stream.principal.tenant, stream.principal.caller
        self._silent[name] += 1
        ends: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._silent_ends.add(ends)
        try:
            return await first_message(stream, ends, max_seconds)
        finally:
            self._silent_ends.discard(ends)
            self._silent -= Counter({name: 1})  # what comes to nothing leaves no entry

    def _open(self, attachment: Attachment, begins: out.OpenRequest | Claim) -> LiveSession:
        if (refusal := self.refusal()) is not None:
            raise refusal
        if not isinstance(begins, Claim):
            self._check_waiting(attachment.stream.principal)
        elif begins.line is not None:
            begins = replace(begins, line=begins.line.handed_over())
        session = LiveSession(attachment, begins, self._parts)
        owner = self._owners.spawn(session.run(), session.id)
        self._sessions[owner] = session
        owner.add_done_callback(self._ended)
        return session

    async def _prepare(self, attachment: Attachment, request: out.ResumeRequest) -> LiveSession:
        """Make a line ready for another gateway's session, and go on with that when its caller says so."""
        stream, parts = attachment.stream, self._parts
        token = self._token(request, stream.principal)
        if (refusal := self.refusal()) is not None:
            raise refusal
        here = self.find(token.session_id)
        if here is not None and here.epoch >= token.epoch and await here.is_owner():  # there is nothing to be done
            await stream.write(out.Outgoing(out.Prepared(request.last_seq)))
            return await self._resume(attachment, _claims(await self._first_message(stream, CLAIM_SECONDS)))
        if token.session_id in self._preparing:  # nobody is to hold more lines than sessions by this
            text = "a line is being made ready for this session already"
            raise CapacityError(Reason.RATE_LIMITED, text, retry_after_seconds=1.0)
        self._preparing.add(token.session_id)
        try:
            async with line_made_ready(token, stream.principal, parts) as (held, seq):
                await stream.write(out.Outgoing(out.Prepared(seq)))
                claims = _claims(await while_held(held, self._first_message(stream, CLAIM_SECONDS)))
                if self._token(claims, stream.principal).session_id != token.session_id:
                    raise CallerError(Reason.RESUME_REFUSED, NO_SESSION)
                return await self._resume(attachment, claims, held)
        finally:
            self._preparing.discard(token.session_id)

    def _token(self, request: out.ResumeRequest, principal: Principal) -> ResumeToken:
        """Return what a caller's token says. Raises `CallerError` RESUME_REFUSED."""
        token = self._parts.tokens.read(request.token)
        if token is None or not token.is_of(principal):
            raise CallerError(Reason.RESUME_REFUSED, NO_SESSION)
        return token

    async def _resume(
        self, attachment: Attachment, request: out.ResumeRequest, ready: HeldLine | None = None
    ) -> LiveSession:
        """Let a stream go on with a session: one that is here, or another gateway's, for which a line may be ready."""
        principal = attachment.stream.principal
        token = self._token(request, principal)
        lock = self._claiming.setdefault(token.session_id, asyncio.Lock())
        async with lock:  # of two that come at once the second one finds what the first has claimed
            here = self.find(token.session_id)
            if here is not None and here.epoch >= token.epoch and await here.is_owner():
                here.resume(attachment, request, token)
                return here
            if (refusal := self.refusal()) is not None:
                raise refusal
            claimed = await claim(token, request, principal, self._parts)
            session = self._open(attachment, replace(claimed, line=ready))
            await asyncio.sleep(0)  # its task puts it together in its first step: then it can be resumed
            return session

    def refusal(self) -> CapacityError | None:
        """Why nothing new is taken now; None = it is."""
        if self._draining:
            return going_away()
        if self.is_full:
            text = f"this gateway has {self._sessions_max} sessions, its limit"
            return CapacityError(Reason.OVERLOADED, text, retry_after_seconds=1.0)
        return None

    def _check_waiting(self, principal: Principal) -> None:
        """Raise `CapacityError` when too many sessions wait for this caller, who opens them and hangs up on them."""
        allowed = max(1, round(self._sessions_max * WAITING_RATIO))
        if len(self._sessions) < allowed:
            return
        name = principal.tenant, principal.caller
        own = (each for each in self._sessions.values() if (each.principal.tenant, each.principal.caller) == name)
        waiting = sum(each.callers is not None and each.callers.is_away for each in own)
        if waiting >= allowed:
            text = f"{waiting} sessions of this caller wait for it to come back: resume them, or say bye"
            raise CapacityError(Reason.OVERLOADED, text, retry_after_seconds=1.0)

    def _check_silent(self, principal: Principal) -> None:
        """Raise `CapacityError` when no further stream is listened to: too many have not said `open`.

        One caller cannot use them all up.
        """
        if self._is_over:
            raise going_away()
        silent, own = self._silent.total(), self._silent[principal.tenant, principal.caller]
        if silent >= SILENT_TIMES * self._sessions_max or own >= self._sessions_max:
            text = f"{silent} streams have not said open yet"
            raise CapacityError(Reason.RATE_LIMITED, text, retry_after_seconds=1.0)

    def _ended(self, owner: "asyncio.Task[GatewayError | None]") -> None:
        """Let the calls end that still carry the session."""
        session = self._sessions.pop(owner)
        for attachment in session.attachments:
            if owner.cancelled():
                attachment.over.cancel()
            else:
                attachment.end(owner.result())

    def expel(self, knows: Callable[[Principal], bool]) -> None:
        """Let sessions end soon whose caller is not known any more; each is told. Who is known again may stay."""
        for session in self._sessions.values():
            session.expel(expelled=not knows(session.principal))

    def hurry(self, seconds: float) -> None:
        """Let a drain, now or later, end after so long at the latest."""
        self._ends_at = min(self._ends_at, asyncio.get_running_loop().time() + seconds)

    async def drain(self, timeout_seconds: float) -> None:
        """Refuse new sessions, let the running ones finish, end what is left at the deadline."""
        self._draining = True
        self.hurry(timeout_seconds)
        moves = Moves()
        try:
            while (left := self._ends_at - self._now()) > 0:
                moves.look(self._sessions.values(), self._now(), self._ends_at)
                if await self._owners.wait(min(left, LOOK_SECONDS)):
                    return
                await asyncio.gather(*(each.is_owner() for each in moves.under_way()))
            for session in self._sessions.values():
                session.end(Ending(ClosedReason.DRAINING, going_away(), moves=can_move(session)))
            self._is_over = True
            for ends in self._silent_ends:
                if not ends.done():
                    ends.set_result(None)
            await self._owners.wait(STOP_SECONDS)
        finally:  # also when the drain itself is cut by a second signal
            await self._owners.cancel(STOP_SECONDS)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def _claims(message: out.OpenRequest | out.ResumeRequest) -> out.ResumeRequest:
    """Return what a caller says for whom a line is ready. Raises `CallerError`."""
    if isinstance(message, out.ResumeRequest) and not message.prepares:
        return message
    raise CallerError(Reason.INVALID_FRAME, "what was prepared is to be claimed: resume with RESUME_MODE_CLAIM")
