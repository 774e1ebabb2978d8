"""Watches whether a line does its work: it reads, what it owes comes, and its answers come to something."""

import asyncio
from typing import Final, NoReturn

import structlog

from gateway.core import event_ids
from gateway.core.errors import Reason, UpstreamError
from gateway.core.realtime import encode
from gateway.core.watchdog import Step, Watchdog
from gateway.runtime.relay import Relay
from gateway.runtime.session_options import SessionOptions

LOOK_SECONDS: Final = 0.5
# A look that comes later than this finds a loop that stood still: what the line has said meanwhile is not read yet.
LATE_SECONDS: Final = 0.25
_log = structlog.get_logger(__name__)


async def watch_work(relay: Relay, options: SessionOptions, session_id: str) -> NoReturn:
    """Look again and again. Raises `UpstreamError` UPSTREAM_STUCK when another line is needed."""
    now, conversation = asyncio.get_running_loop().time, relay.conversation
    watchdog, tally = Watchdog(options.watchdog), conversation.tally
    before = now()
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        seconds, before = now() - before, now()
        seconds = seconds if seconds <= LOOK_SECONDS + LATE_SECONDS else 0.0
        if relay.sending_seconds(before) >= options.send_max_seconds:
            raise UpstreamError(Reason.UPSTREAM_STUCK, "the provider has stopped reading")
        if watchdog.is_poisoned(tally.failures):
            text = f"{tally.failures} answers in a row have failed on one line"
            raise UpstreamError(Reason.UPSTREAM_STUCK, text)
        match watchdog.look(conversation.debt, tally.frames_out, seconds):
            case Step.PROBE:
                _log.info("line_probed", session_id=session_id)
                await relay.configure({"type": relay.session_type}, event_ids.PROBE)
            case Step.CANCEL:
                # Past what is remembered: on another line the answer is asked for again, where nothing of it was heard.
                _log.info("answer_stuck", session_id=session_id)
                await relay.send(encode({"type": "response.cancel", "event_id": event_ids.PROBE}))
            case Step.REPLACE:
                raise UpstreamError(Reason.UPSTREAM_STUCK, "the provider does not answer what it was asked")
            case Step.WAIT:
                pass
