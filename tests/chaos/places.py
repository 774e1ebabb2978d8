"""Gateways that share an account's places are killed and frozen: what they held comes back, and never twice."""

import asyncio
import tempfile
from pathlib import Path
from typing import Final

from tests.chaos.figures import Outcome, Size
from tests.support.slots_scene import scene

# As the tests of the store have them: a fifth of what a gateway has by default, so that many fit into a run.
TTL_SECONDS: Final = 3.0
HEARTBEAT_SECONDS: Final = 1.0
# Every so many kills comes a freeze.
FROZEN_RATIO: Final = 1.5


async def places(size: Size) -> Outcome:
    """SIGKILL, with a new process in its place; and SIGSTOP until others have its places, then SIGCONT.

    Every other one is frozen at the worst moment, while it waits for the server's answer.
    """
    kills, freezes = size.of(20, 2), size.of(8, 1)
    reclaims = list[float]()
    with tempfile.TemporaryDirectory(prefix="tk", dir="/tmp") as folder:
        async with scene(Path(folder), TTL_SECONDS, HEARTBEAT_SECONDS) as made:
            for turn in range(kills):
                reclaims.append(await made.kill())
                made.start()
                if turn * freezes // kills != (turn + 1) * freezes // kills:
                    async with made.frozen(asking=turn % 2 == 1):
                        await asyncio.sleep(TTL_SECONDS * FROZEN_RATIO)
                await made.busy()
            overshoot, story = made.overshoot(), made.story()
    outcome = Outcome(
        {
            "slot_reclaim_s": {"n": len(reclaims), "max": round(max(reclaims), 2)},
            "slot_reclaim_late_s": round(max(0.0, max(reclaims) - TTL_SECONDS), 2),
            "cap_overshoot": overshoot,
        },
        kills + freezes,
    )
    if overshoot:
        outcome.verdict.faults.append(f"{overshoot} connections above the cap; {story}")
    return outcome
