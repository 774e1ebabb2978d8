"""The end of a session's stream: the record is told why, and the caller, where there still is one."""

import asyncio
import contextlib

import structlog

from gateway.core.errors import CallerError, StoreError, UpstreamError
from gateway.core.events import Closed, ClosedReason, ErrorEvent, Usage
from gateway.runtime.lanes import Lanes
from gateway.runtime.outbox import Outbox
from gateway.runtime.ports import SessionKey
from gateway.runtime.session_options import Ending, SessionOptions, SessionParts

_log = structlog.get_logger(__name__)


def last_event(ending: Ending, usage: Usage, duration_seconds: float) -> Closed:
    """Return what a caller is told of an ending."""
    error = None
    if ending.error is not None:
        code = ending.error.upstream_code if isinstance(ending.error, UpstreamError) else ""
        error = ErrorEvent(ending.error.reason, ending.error.message, upstream_code=code)
    return Closed(ending.reason, usage, round(duration_seconds * 1000), error, ending.detail)


async def take_leave(
    closed: Closed, lanes: Lanes, outbox: Outbox, left: asyncio.Event, options: SessionOptions, session_id: str
) -> bool:
    """Let the last of a session be stored and go out; return whether it has. `left` = the caller is gone for good."""
    if closed.reason in (ClosedReason.BYE_NOW, ClosedReason.SLOW_CALLER):
        outbox.flush_audio()
    try:
        lanes.control(closed)
    except CallerError as full:  # so much waits that not even this finds room
        _log.warning("closed_not_told", session_id=session_id, reason=full.reason)
        return False
    patient = closed.reason is ClosedReason.BYE
    words = asyncio.ensure_future(_last_words(lanes, outbox, options, session_id, patient=patient))
    leaving = asyncio.ensure_future(left.wait())
    try:
        await asyncio.wait({words, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not leaving.done():
            return words.result()
    finally:
        for task in (words, leaving):
            task.cancel()
    with contextlib.suppress(TimeoutError):  # then it is as if the store were away
        async with asyncio.timeout(options.farewell_seconds):
            await lanes.settled()
    return False


async def _last_words(lanes: Lanes, outbox: Outbox, options: SessionOptions, session_id: str, *, patient: bool) -> bool:
    """Let what is left go out. After a `bye` the caller gets all of it, for as long as it reads on."""
    now = asyncio.get_running_loop().time
    step_seconds = options.send_max_seconds if patient else options.farewell_seconds
    ends_at = now() + (options.delivery_max_seconds if patient else options.farewell_seconds)
    before = -1
    while (outbox.sent_events != before or outbox.is_parked) and now() < ends_at:  # who is away may come for the rest
        before = outbox.sent_events
        try:
            async with asyncio.timeout_at(min(ends_at, now() + step_seconds)):
                await lanes.settled()
                await outbox.emptied()
                return True
        except TimeoutError:
            continue
    _log.warning("last_words_not_read", session_id=session_id)
    return False


async def last_stored(lanes: Lanes, options: SessionOptions) -> bool:
    """Let what a session has told be stored, for whoever goes on with it; return whether it is."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(options.farewell_seconds):
            await lanes.settled()
            return True
    return False


async def forget(ending: Ending, key: SessionKey, epoch: int, parts: SessionParts) -> None:
    """Let the stored state go; where that fails, its time to live does it."""
    if ending.reason is ClosedReason.SUPERSEDED or ending.moves:
        return  # it belongs to a newer owner, or is to have one
    try:
        async with asyncio.timeout(parts.options.farewell_seconds):
            await parts.lanes.store.finish(key, epoch)
    except (StoreError, TimeoutError) as error:
        _log.warning("record_left_to_expire", session_id=key.session_id, error=type(error).__name__)
