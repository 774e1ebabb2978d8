"""A process with several sessions that speak, until somebody kills it.

python -m tests.support.churn_child ADDRESS SESSIONS
"""

import asyncio
import sys

from tests.support.calls import Caller
from tests.support.stack import channel_to

PIECE_SECONDS = 0.1


async def _speak(caller: Caller) -> None:
    while True:
        await caller.send(audio=bytes(4800))
        await asyncio.sleep(PIECE_SECONDS)


async def main(address: str, sessions: int) -> None:
    channel = channel_to(address)
    callers = [Caller(channel) for _ in range(sessions)]
    await asyncio.gather(*(caller.open(wait_max_ms=2000) for caller in callers))
    print("talking", flush=True)
    await asyncio.gather(*(_speak(caller) for caller in callers))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
