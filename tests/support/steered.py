"""Callers whom an operator's measure is to reach: one in the middle of a talk, one that waits for a line."""

from typing import Any, Final

from trunkline.v1 import event_pb2 as event
from trunkline.v1 import session_pb2 as session

from tests.support.calls import Caller
from tests.support.stack import Running, pool

STILL: Final[dict[str, Any]] = {
    "default": pool(floor=2, ceiling=6, wait_max_ms=5000, demand={"enabled": False}),
}
FULL: Final[dict[str, Any]] = {
    "default": pool(floor=1, ceiling=1, wait_max_ms=20_000, demand={"enabled": False}),
}


async def has_turn(caller: Caller) -> None:
    """Ask something, and hear the whole answer."""
    await caller.say("Hello there")
    await caller.answer_please()
    assert (await caller.until("response_done")).status == event.RESPONSE_STATUS_COMPLETED


async def queued(running: Running) -> tuple[Caller, Caller]:
    """Return a caller that has the only line, and one that waits for it."""
    holder, waiter = running.caller(), running.caller()
    await holder.open()
    await waiter.send(open=session.Open(correlation_id="waits"))
    await waiter.until("queued")
    return holder, waiter
