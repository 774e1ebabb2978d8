"""Why a session leaves a line that works, and when it is to begin with that."""

import asyncio
from typing import Final

from gateway.core.slowness import SlownessOptions
from gateway.runtime.relay import Relay

# The triggers of a rotation.
EXPIRY: Final = "expiry"
SLOW: Final = "slow"
# How often it is looked whether a line has become slow.
LOOK_SECONDS: Final = 10.0


async def trigger_of(relay: Relay, ready_at: float, soft: float, options: SlownessOptions) -> str:
    """Return the trigger, when there is one: the line's end comes near (`soft`), or it has become slow.

    Times are of the loop's clock; `ready_at` = since when the line stands.
    """
    now = asyncio.get_running_loop().time
    while (left := soft - now()) > 0:
        await asyncio.sleep(min(left, LOOK_SECONDS))
        if relay.slowness.has_grown(now() - ready_at, options):
            return SLOW
    return EXPIRY
