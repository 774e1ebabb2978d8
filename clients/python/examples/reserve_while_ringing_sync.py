"""Keep a line for a call while the telephone rings, without asyncio.

    python reserve_while_ringing_sync.py 127.0.0.1:50051 --rings 5

A thread renews the reservation while this one does what it likes, so it may ring for longer than
its `ttl_seconds`. It is used when somebody answers, and given back when nobody does (`--nobody`).
The token comes from TRUNKLINE_TOKEN.
"""

import argparse
import os
import sys

from trunkline_client import Client, Lease, TrunklineError
from trunkline_client.events import ResponseDone, TranscriptDelta
from trunkline_client.inputs import Greet

TTL_SECONDS = 3


def ring(lease: Lease, seconds: float) -> None:
    """Wait for somebody to answer. Raises what ended the reservation meanwhile, if something did."""
    print(f"ringing; {lease.id} is reserved for {TTL_SECONDS} s at a time")
    if lease.wait_ended(seconds) and lease.failure is not None:
        raise lease.failure


def talk(client: Client, lease: Lease) -> None:
    """Let the model speak first, on the line that was kept."""
    with client.open(lease=lease, greet=Greet(instructions="Greet the caller.")) as session:
        print(f"somebody answers; waited {session.opened.waited_ms} ms for the line")
        for event in session:
            match event:
                case TranscriptDelta():
                    print(event.delta, end="", flush=True)
                case ResponseDone():
                    print()
                    break


def main() -> None:
    """Reserve, ring, and talk or hang up."""
    parser = argparse.ArgumentParser(description="Reserve a line while the telephone rings.")
    parser.add_argument("address")
    parser.add_argument("--rings", type=float, default=5, help="for how many seconds it rings")
    parser.add_argument("--nobody", action="store_true", help="nobody answers")
    arguments = parser.parse_args()
    with (
        Client(arguments.address, token=os.environ.get("TRUNKLINE_TOKEN", "")) as client,
        client.reserve("default", ttl_seconds=TTL_SECONDS) as lease,
    ):
        ring(lease, arguments.rings)
        if not arguments.nobody:
            talk(client, lease)
    print("nobody answered; the line was given back" if arguments.nobody else "done")


if __name__ == "__main__":
    try:
        main()
    except TrunklineError as error:
        sys.exit(f"{error}\n{error.advice}")
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
