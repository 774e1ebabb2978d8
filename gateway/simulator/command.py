"""Runs a simulator in the foreground until Ctrl-C or SIGTERM."""

import asyncio
import signal
import sys

from gateway.simulator.options import SimulatorOptions
from gateway.simulator.server import Simulator


def run(options: SimulatorOptions) -> None:
    """Listen until told to stop, then return. Raises OSError if the port is taken."""
    with asyncio.Runner(loop_factory=_new_loop) as runner:
        runner.run(_serve(options))


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop  # noqa: PLC0415 - not made for every platform
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


async def _serve(options: SimulatorOptions) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for each in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(each, stopped.set)
    async with Simulator(options) as simulator:
        sys.stdout.write(f"simulator listening on {simulator.url}\n")
        sys.stdout.flush()
        await stopped.wait()
