"""How a line is made ready for a session that another gateway still has: it is told what the log says, and waits.

Nothing is claimed by that: who has the session goes on with it, and its caller takes it away when that suits it.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from gateway.core import event_ids
from gateway.core import events as out
from gateway.core.errors import CallerError, Reason, UpstreamError
from gateway.core.principal import Principal
from gateway.core.realtime import encode, session_update
from gateway.core.replay import Ahead
from gateway.core.template import configuration
from gateway.runtime.claiming import pool_of, retold_by
from gateway.runtime.held import HeldLine, hold
from gateway.runtime.lease import Holder, Wish
from gateway.runtime.ports import SessionKey
from gateway.runtime.resume_tokens import NO_SESSION, ResumeToken
from gateway.runtime.session_options import SessionParts

# How long a line may be waited for, and then stand ready.
LINE_SECONDS: Final = 5.0
CLAIM_SECONDS: Final = 30.0
# How often its holder says that it uses it.
RENEW_SECONDS: Final = 1.0
# Of items that are created meanwhile; there are none.
NAMES: Final = "item_tl_"
_Answer = TypeVar("_Answer")


@asynccontextmanager
async def line_made_ready(
    token: ResumeToken, principal: Principal, parts: SessionParts
) -> AsyncIterator[tuple[HeldLine, int]]:
    """Hold a line that was told a session's log, and say up to which event. It is let go unless it is handed over.

    Raises `GatewayError`.
    """
    pool = pool_of(token, parts)
    entries = await parts.lanes.store.read(SessionKey(principal.tenant, token.session_id))
    # What is being said just now is not told: it is not known how it ends.
    retold = retold_by(entries, pool, NAMES, out.OutputPosition(), parts)
    if retold.caller != principal.caller:
        raise CallerError(Reason.RESUME_REFUSED, NO_SESSION)
    replay, _ = retold.continuity.replay()
    holder = Holder(principal.tenant, principal.caller, token.session_id, retold.opening.correlation_id)
    nobody: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    identifier = retold.opening.safety_identifier
    wish = Wish(holder, LINE_SECONDS, nobody, safety_identifier=identifier, recovers=True)
    held = await hold(pool, wish)
    async with held.leases:
        held.ahead = Ahead.of(replay)
        await _tell(held, held.ahead, parts.options.restore_max_seconds)
        yield held, entries[-1].seq


async def _tell(held: HeldLine, ahead: Ahead, max_seconds: float) -> None:
    upstream, has = held.line.upstream, configuration(held.pool.template, {}) if held.line.is_configured else None
    try:
        async with asyncio.timeout(max_seconds):
            if has != ahead.configuration:
                await upstream.send(session_update(ahead.configuration, event_ids.CONFIG))
            for event in ahead.events():
                await upstream.send(encode(event))
    except TimeoutError:
        text = "the provider does not take what was said before"
        raise UpstreamError(Reason.UPSTREAM_STUCK, text) from None


async def while_held(held: HeldLine, answer: Awaitable[_Answer]) -> _Answer:
    """Wait for something, and say meanwhile that the line is in use."""
    task = asyncio.ensure_future(answer)
    try:
        while not task.done():
            await asyncio.wait({task}, timeout=RENEW_SECONDS)
            held.renew()
        return task.result()
    finally:
        task.cancel()
