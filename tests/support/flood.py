"""Attacks on a gateway, carried out by a process of its own (flood_child.py)."""

import asyncio
import base64
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any, Final

from tests.support.processes import ROOT, environment

START_SECONDS: Final = 10.0
STOP_SECONDS: Final = 5.0
# What an attack may take beyond its own time.
MORE_SECONDS: Final = 15.0
FULL_SPEED: Final = float("inf")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What the attacker saw. Times of holding are of the connections that the gateway closed."""

    opened: int
    failed: int
    closed: int
    left: int
    held_min_s: float | None
    held_max_s: float | None
    messages: int
    streams: int
    streams_ended: int
    stream_held_max_s: float
    resets: dict[str, int]
    seconds: float

    def figures(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value not in (0, None, {})}


class Attacker:
    """The process at work."""

    def __init__(self, process: asyncio.subprocess.Process, host: str, port: int) -> None:
        self._process = process
        self._host = host
        self._port = port

    async def carry_out(self, seconds: float, **attack: Any) -> Outcome:
        """Attack for so long; fields are those of `flood_child.Attack`."""
        packed = {k: base64.b64encode(v).decode() if isinstance(v, bytes) else v for k, v in attack.items()}
        line = json.dumps({"host": self._host, "port": self._port, "seconds": seconds, **packed})
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        return Outcome(**json.loads(await self._line(seconds + MORE_SECONDS)))

    def enough(self) -> None:
        """End the attack that goes on; its outcome comes as if its time were over."""
        self._process.send_signal(signal.SIGUSR1)

    async def ready(self) -> None:
        assert await self._line(START_SECONDS) == b"ready\n"

    async def _line(self, seconds: float) -> bytes:
        assert self._process.stdout is not None
        async with asyncio.timeout(seconds):
            line = await self._process.stdout.readline()
        assert line, "the attacker has ended"
        return line


@asynccontextmanager
async def attacker(address: str) -> AsyncIterator[Attacker]:
    """Run one against `address`."""
    host, _, port = address.rpartition(":")
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.flood_child", stdin=pipe, stdout=pipe, cwd=ROOT, env=environment()
    )
    try:
        chosen = Attacker(process, host, int(port))
        await chosen.ready()
        yield chosen
    finally:
        if process.stdin is not None:
            process.stdin.close()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
