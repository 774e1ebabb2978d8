"""The live sessions of this process: admits them, shows them, ends them."""

import asyncio

from gateway.core.errors import CapacityError, GatewayError, Reason
from gateway.core.events import ClosedReason
from gateway.core.session import SessionState
from gateway.runtime.ports import CallerStream
from gateway.runtime.session import LiveSession
from gateway.runtime.session_options import Ending, SessionParts
from gateway.runtime.tasks import TaskScope

# What sessions that were told to end may take beyond their own bounds.
STOP_SECONDS = 5.0


class Directory:
    """Owns the task of every session, so that none is a child of an RPC."""

    def __init__(self, parts: SessionParts, sessions_max: int) -> None:
        """Begin empty."""
        self._parts = parts
        self._sessions_max = sessions_max
        self._sessions: dict[asyncio.Task[GatewayError | None], LiveSession] = {}
        self._owners = TaskScope("session")
        self._draining = False

    def sessions(self) -> list[LiveSession]:
        """Every live session, oldest first."""
        return list(self._sessions.values())

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
        """Run one session on `stream` to its end; return the error for its status, None = OK.

        When this call is cancelled, the session learns that its caller is gone and cleans up by itself.
        """
        if (refusal := self.refusal()) is not None:
            self._parts.observer.refused(refusal.reason)
            return refusal
        session = LiveSession(stream, self._parts)
        owner = self._owners.spawn(session.run(), session.id)
        self._sessions[owner] = session
        owner.add_done_callback(self._sessions.pop)
        try:
            return await asyncio.shield(owner)
        except asyncio.CancelledError:
            session.caller_left()
            raise

    def refusal(self) -> GatewayError | None:
        """Why nothing new is taken now; None = it is."""
        if self._draining:
            return CapacityError(Reason.DRAINING, "this gateway is going away")
        if self.is_full:
            text = f"this gateway has {self._sessions_max} sessions, its limit"
            return CapacityError(Reason.OVERLOADED, text, retry_after_seconds=1.0)
        return None

    async def drain(self, timeout_seconds: float) -> None:
        """Refuse new sessions, let the running ones finish, end what is left at the deadline."""
        self._draining = True
        try:
            if await self._owners.wait(timeout_seconds):
                return
            error = CapacityError(Reason.DRAINING, "this gateway is going away")
            for session in self._sessions.values():
                session.end(Ending(ClosedReason.DRAINING, error))
            await self._owners.wait(STOP_SECONDS)
        finally:  # also when the drain itself is cut by a second signal
            await self._owners.cancel(STOP_SECONDS)
