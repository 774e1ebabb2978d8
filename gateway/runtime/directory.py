"""The live sessions of this process: admits them, shows them, ends them."""

import asyncio
import math
from collections import Counter
from collections.abc import Callable

from gateway.core.errors import CapacityError, GatewayError, Reason
from gateway.core.events import ClosedReason
from gateway.core.principal import Principal
from gateway.core.session import SessionState
from gateway.runtime.ports import CallerStream
from gateway.runtime.session import LiveSession
from gateway.runtime.session_options import Ending, SessionParts
from gateway.runtime.tasks import TaskScope

# What sessions that were told to end may take beyond their own bounds.
STOP_SECONDS = 5.0
# How often a drain looks whether it is to end sooner.
LOOK_SECONDS = 0.5
# Streams that have not said `open` yet, all callers' together: so many times the sessions that there may be.
SILENT_TIMES = 2


class Directory:
    """Owns the task of every session, so that none is a child of an RPC."""

    def __init__(self, parts: SessionParts, sessions_max: int) -> None:
        """Begin empty. Streams that have not said `open` yet are no sessions, and bounded apart."""
        self._parts = parts
        self._sessions_max = sessions_max
        self._sessions: dict[asyncio.Task[GatewayError | None], LiveSession] = {}
        # Of these, how many are sessions, and whose the others are.
        self._admitted = 0
        self._silent: Counter[tuple[str, str]] = Counter()
        self._owners = TaskScope("session")
        self._draining = False
        self._ends_at = math.inf

    def sessions(self) -> list[LiveSession]:
        """Every live session, oldest first."""
        return list(self._sessions.values())

    def find(self, session_id: str) -> LiveSession | None:
        """The live session of that name."""
        return next((session for session in self._sessions.values() if session.id == session_id), None)

    def states(self) -> dict[SessionState, int]:
        """How many sessions stand in each state."""
        counts = dict.fromkeys(SessionState, 0)
        for session in self._sessions.values():
            counts[session.state] += 1
        return counts

    @property
    def is_full(self) -> bool:
        """Whether a new session would be refused."""
        return self._admitted >= self._sessions_max

    async def serve(self, stream: CallerStream) -> GatewayError | None:
        """Run one session on `stream` to its end; return the error for its status, None = OK.

        When this call is cancelled, the session learns that its caller is gone and cleans up by itself.
        """
        if (refusal := self.refusal() or self._silent_refusal(stream.principal)) is not None:
            self._parts.observer.refused(refusal.reason)
            return refusal
        session = LiveSession(stream, self._parts, self._admit)
        owner = self._owners.spawn(session.run(), session.id)
        self._sessions[owner] = session
        self._silent[_name(stream.principal)] += 1
        owner.add_done_callback(self._ended)
        try:
            return await asyncio.shield(owner)
        except asyncio.CancelledError:
            session.caller_left()
            raise

    def refusal(self) -> CapacityError | None:
        """Why nothing new is taken now; None = it is."""
        if self._draining:
            return CapacityError(Reason.DRAINING, "this gateway is going away")
        if self.is_full:
            text = f"this gateway has {self._sessions_max} sessions, its limit"
            return CapacityError(Reason.OVERLOADED, text, retry_after_seconds=1.0)
        return None

    def _admit(self, principal: Principal) -> None:
        """Let one more stream become a session. Raises `CapacityError`."""
        if (refusal := self.refusal()) is not None:
            raise refusal
        self._silent[_name(principal)] -= 1
        self._admitted += 1

    def _silent_refusal(self, principal: Principal) -> CapacityError | None:
        """Why no further stream is listened to: too many have not said `open`. One caller cannot use them all up."""
        silent = len(self._sessions) - self._admitted
        if silent < SILENT_TIMES * self._sessions_max and self._silent[_name(principal)] < self._sessions_max:
            return None
        text = f"{silent} streams have not said open yet"
        return CapacityError(Reason.RATE_LIMITED, text, retry_after_seconds=1.0)

    def _ended(self, owner: "asyncio.Task[GatewayError | None]") -> None:
        session = self._sessions.pop(owner)
        if session.is_admitted:
            self._admitted -= 1
        else:
            self._silent -= Counter({_name(session.stream.principal): 1})  # what comes to nothing leaves no entry

    def expel(self, knows: Callable[[Principal], bool]) -> None:
        """Let sessions end soon whose caller is not known any more; each is told. Who is known again may stay."""
        for session in self._sessions.values():
            session.expel(expelled=not knows(session.stream.principal))

    def hurry(self, seconds: float) -> None:
        """Let a drain, now or later, end after so long at the latest."""
        self._ends_at = min(self._ends_at, asyncio.get_running_loop().time() + seconds)

    async def drain(self, timeout_seconds: float) -> None:
        """Refuse new sessions, let the running ones finish, end what is left at the deadline."""
        self._draining = True
        self.hurry(timeout_seconds)
        loop = asyncio.get_running_loop()
        try:
            while (left := self._ends_at - loop.time()) > 0:
                if await self._owners.wait(min(left, LOOK_SECONDS)):
                    return
            error = CapacityError(Reason.DRAINING, "this gateway is going away")
            for session in self._sessions.values():
                session.end(Ending(ClosedReason.DRAINING, error))
            await self._owners.wait(STOP_SECONDS)
        finally:  # also when the drain itself is cut by a second signal
            await self._owners.cancel(STOP_SECONDS)


def _name(principal: Principal) -> tuple[str, str]:
    return principal.tenant, principal.caller
