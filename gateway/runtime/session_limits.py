"""Holds one session to its limits, once a second, and tells its caller when the store's promise changes."""

import asyncio
from typing import TYPE_CHECKING, Final

from gateway.core import events as out
from gateway.core.errors import CallerError, Reason
from gateway.runtime.downlink import Downlink
from gateway.runtime.lanes import Lanes
from gateway.runtime.relay import Relay
from gateway.runtime.session_options import Ending, SessionParts
from gateway.runtime.session_words import idle_max_seconds, life_max_seconds

if TYPE_CHECKING:
    from gateway.runtime.session import LiveSession

LOOK_SECONDS: Final = 1.0


async def hold_to_limits(
    session: "LiveSession", relay: Relay, downlink: Downlink, lanes: Lanes, parts: SessionParts
) -> None:
    """Look once a second until cancelled. Raises `CallerError` SLOW_CALLER or UNAUTHENTICATED."""
    options, promised = parts.options, parts.lanes.store.durability
    life, idle = life_max_seconds(session.request, options), idle_max_seconds(session.request, options)
    loop, told_to_leave = asyncio.get_running_loop(), False
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        now = loop.time()
        session.stirred_at = relay.stirred_at
        if session.callers is not None and session.callers.snapshots is not None:
            session.callers.snapshots.look(now)
        if now - session.started_at >= life:
            session.end(Ending(out.ClosedReason.LIFE_OVER))
        elif now - relay.stirred_at >= idle:
            session.end(Ending(out.ClosedReason.IDLE))
        if downlink.writing_seconds(now) >= options.send_max_seconds:
            text = f"a message has waited {options.send_max_seconds:.0f} s to be read"
            raise CallerError(Reason.SLOW_CALLER, text)
        if (durability := parts.lanes.store.durability) is not promised:
            promised = durability
            lanes.promise(durability)
        if session.leaves_by is None:
            told_to_leave = False
        elif not told_to_leave:
            lanes.live(out.GoAway("credentials_expire", round(max(0.0, session.leaves_by - now) * 1000)))
            told_to_leave = True
        elif now >= session.leaves_by:
            raise CallerError(Reason.UNAUTHENTICATED, "the caller's credentials have been taken away")
