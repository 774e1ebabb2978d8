"""Keep a line for a call while the telephone rings.

    python reserve_while_ringing.py 127.0.0.1:50051 --rings 5

The reservation renews itself, so it may ring for longer than its `ttl_seconds`. It is used when
somebody answers, and given back when nobody does (`--nobody`). The token comes from
TRUNKLINE_TOKEN.
"""

import argparse
import asyncio
import os
import sys

from trunkline_client import AsyncClient, AsyncLease, CapacityError, TrunklineError
from trunkline_client.events import ResponseDone, TranscriptDelta
from trunkline_client.inputs import Greet

TTL_SECONDS = 3


async def ring(lease: AsyncLease, seconds: float) -> None:
    """Wait for somebody to answer. Raises what ended the reservation meanwhile, if something did."""
    print(f"ringing; {lease.id} is reserved for {TTL_SECONDS} s at a time")
    if await lease.wait_ended(seconds) and lease.failure is not None:
        raise lease.failure


async def talk(client: AsyncClient, lease: AsyncLease) -> None:
    """Let the model speak first, on the line that was kept."""
    async with client.open(lease=lease, greet=Greet(instructions="Greet the caller.")) as session:
        print(f"somebody answers; waited {session.opened.waited_ms} ms for the line")
        async for event in session:
            match event:
                case TranscriptDelta():
                    print(event.delta, end="", flush=True)
                case ResponseDone():
                    print()
                    break


async def main() -> None:
    """Reserve, ring, and talk or hang up."""
    parser = argparse.ArgumentParser(description="Reserve a line while the telephone rings.")
    parser.add_argument("address")
    parser.add_argument("--rings", type=float, default=5, help="for how many seconds it rings")
    parser.add_argument("--nobody", action="store_true", help="nobody answers")
    arguments = parser.parse_args()
    token = os.environ.get("TRUNKLINE_TOKEN", "")
    async with AsyncClient(arguments.address, token=token) as client:
        try:
            async with client.reserve("default", ttl_seconds=TTL_SECONDS) as lease:
                await ring(lease, arguments.rings)
                if not arguments.nobody:
                    await talk(client, lease)
        except CapacityError as full:
            # The moment to play a busy tone, or to send the call elsewhere.
            print(f"no line: {full}; {full.numbers}", file=sys.stderr)
            raise
    print("nobody answered; the line was given back" if arguments.nobody else "done")


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except TrunklineError as error:
        sys.exit(f"{error}\n{error.advice}")
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
