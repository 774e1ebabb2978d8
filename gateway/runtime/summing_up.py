"""Lets a long conversation become a short one before a fresh line is told it: a summary, and what was said last."""

import asyncio
import secrets
from dataclasses import dataclass
from typing import Final

import structlog

from gateway.core import events as out
from gateway.core.aside import Aside, summary_item
from gateway.core.realtime import encode
from gateway.core.record import Note
from gateway.runtime.lanes import Lanes
from gateway.runtime.relay import Relay

# So many items stay as they are; where there are not many more, there is nothing to be gained.
KEPT: Final = 20
LEAST: Final = 20
# How long the model may take, and how often it is looked.
ANSWER_SECONDS: Final = 15.0
LOOK_SECONDS: Final = 0.05
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Summary:
    """What the model says of some items."""

    text: str
    items: tuple[str, ...]


async def summary_of(relay: Relay, session_id: str) -> Summary | None:
    """Ask the session's line for a summary of what is old; None = there is none to be had, or no need."""
    old = relay.continuity.old_items(KEPT)
    if len(old) < LEAST:
        return None
    relay.aside = aside = Aside(secrets.token_hex(8))
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + ANSWER_SECONDS
    await relay.send(encode(aside.request()))
    while aside.text is None and loop.time() < ends_at:  # noqa: ASYNC110 it has a deadline too
        await asyncio.sleep(LOOK_SECONDS)
    relay.conversation.tally.usage += aside.usage
    if not aside.text:
        _log.warning("no_summary", session_id=session_id, count=len(old))
        return None
    return Summary(aside.text, old)


def compact(summary: Summary, relay: Relay, lanes: Lanes, *, is_resumable: bool) -> None:
    """Let the summary stand for its items from the next line on; the caller is told that those are gone."""
    create = relay.stamped(relay.continuity.named(summary_item(summary.text, "")))
    if is_resumable:  # another owner has to know where it stands
        lanes.control(out.ControlTaken(0), Note((create,)))
    for item_id in summary.items:
        if relay.continuity.has(item_id):
            deleted = out.ItemDeleted(item_id)
            relay.continuity.heard(deleted)
            lanes.control(deleted)
