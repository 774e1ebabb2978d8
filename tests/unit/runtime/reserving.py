"""Callers with a reservation: they make one, and open a session with its token."""

import asyncio

from gateway.core import events as out
from gateway.runtime.reservations import Reserved
from tests.unit.runtime.fakes import Caller
from tests.unit.runtime.holders import wish
from tests.unit.runtime.stage import Stage

TTL_SECONDS = 30.0


async def reserved(stage: Stage, key: str = "", ttl_seconds: float = TTL_SECONDS) -> Reserved:
    return await stage.reservations.acquire(stage.pool, ttl_seconds, wish(), key)


async def session(stage: Stage, token: str, caller: Caller | None = None) -> Caller:
    """Open a session with a token; return its caller, whatever came of it."""
    caller = caller or Caller()
    caller.say(out.OpenRequest(lease_token=token))
    call = stage.serve(caller)
    opened = asyncio.ensure_future(caller.until(out.Opened))
    await asyncio.wait({call, opened}, return_when=asyncio.FIRST_COMPLETED)
    opened.cancel()
    return caller


def source(caller: Caller) -> out.LineSource:
    opened = caller.got[-1].event
    assert isinstance(opened, out.Opened)
    return opened.source


def caller_with(token: str) -> Caller:
    """A caller that opens with a token."""
    caller = Caller()
    caller.say(out.OpenRequest(lease_token=token))
    return caller
