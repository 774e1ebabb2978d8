"""A simulator and a gateway in the test's own loop, on ports of their own."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc

from gateway.app import Gateway
from gateway.core.pool_limits import PoolStats
from gateway.settings import Settings
from gateway.simulator import Simulator, SimulatorOptions
from tests.support.calls import Caller
from tests.support.ports import free_port
from tests.support.waiting import eventually

START_SECONDS: Final = 20.0
STOP_SECONDS: Final = 25.0
INSTANT: Final = float("inf")
# The simulator has no limits: a test is about the dial rate, or is not slowed by it.
UNLIMITED: Final = {"main": {"connections_max": 2000, "dials_per_second": 2000, "dials_burst": 2000}}


@dataclass
class Running:
    """A gateway that serves, and a channel to it."""

    gateway: Gateway
    settings: Settings
    channel: grpc.aio.Channel
    stop: asyncio.Event
    callers: list[Caller] = field(default_factory=list)

    @property
    def address(self) -> str:
        return self.settings.grpc.address

    @property
    def ops_url(self) -> str:
        return f"http://{self.settings.ops.address}"

    def caller(self, token: str = "", deadline_seconds: float = 60) -> Caller:
        self.callers.append(Caller(self.channel, token, deadline_seconds))
        return self.callers[-1]

    def pool(self, name: str = "default") -> PoolStats:
        return self.gateway.pools[name].stats()

    async def until_warm(self, lines: int, name: str = "default") -> None:
        await eventually(lambda: self.pool(name).ready >= lines, f"{lines} lines of {name} are warm")

    async def until_free(self, name: str = "default") -> None:
        """Wait until no line is leased or closing."""
        await eventually(lambda: self.pool(name).leased == self.pool(name).draining == 0, "all leases have ended")


def pool(floor: int = 1, ceiling: int = 8, reserve: int = 0, **more: Any) -> dict[str, Any]:
    """Return the settings of a pool that is small and has nothing in reserve."""
    return {"floor": floor, "ceiling": ceiling, "reserve": reserve, **more}


def settings_for(upstream: str, **changes: Any) -> Settings:
    """Return settings on free ports; `changes` replace whole sections."""
    sections: dict[str, Any] = {
        "grpc": {"address": f"127.0.0.1:{free_port()}"},
        "ops": {"address": f"127.0.0.1:{free_port()}"},
        "accounts": UNLIMITED,
        "targets": {"openai": {"url": upstream}},
        "pools": {"default": pool()},
        "limits": {"drain_seconds": 0.5},
    }
    return Settings(**{**sections, **changes})


@asynccontextmanager
async def gateway_on(
    upstream: str,
    *,
    insecure_dev: bool = True,
    credentials: grpc.ChannelCredentials | None = None,
    **changes: Any,
) -> AsyncIterator[Running]:
    """Run a gateway whose provider is at `upstream`."""
    settings = settings_for(upstream, **changes)
    gateway = Gateway(settings, insecure_dev=insecure_dev)
    stop, started = asyncio.Event(), asyncio.Event()
    serving = asyncio.create_task(gateway.run(stop, started))
    begun = asyncio.create_task(started.wait())
    channel = channel_to(settings.grpc.address, credentials)
    running = Running(gateway, settings, channel, stop)
    try:
        await asyncio.wait({serving, begun}, timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            serving.result()
        assert started.is_set(), "the gateway did not start"
        yield running
    finally:
        begun.cancel()
        for caller in running.callers:
            caller.cancel()
        await channel.close()
        stop.set()
        await asyncio.wait_for(serving, STOP_SECONDS)


def channel_to(address: str, credentials: grpc.ChannelCredentials | None = None) -> grpc.aio.Channel:
    """Return a channel with a connection of its own."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    if credentials is None:
        return grpc.aio.insecure_channel(address, options)
    return grpc.aio.secure_channel(address, credentials, options)


@asynccontextmanager
async def simulator(**options: Any) -> AsyncIterator[Simulator]:
    """Run a simulator; it answers at once unless `speed` says otherwise."""
    chosen = SimulatorOptions(**{"port": free_port(), "speed": INSTANT, **options})
    async with Simulator(chosen) as running:
        yield running


@asynccontextmanager
async def stack(simulated: Mapping[str, Any] | None = None, **changes: Any) -> AsyncIterator[tuple[Running, Simulator]]:
    """Run both."""
    async with simulator(**(simulated or {})) as provider, gateway_on(provider.url, **changes) as running:
        yield running, provider


def hashed_token(folder: Path, name: str, token: str) -> str:
    """Write the file that a caller's settings name; return its path."""
    file = folder / f"{name}.sha256"
    file.write_text(hashlib.sha256(token.encode()).hexdigest() + "\n", "ascii")
    return str(file)


def caller_settings(folder: Path, token: str, *rights: str, name: str = "bot", tenant: str = "acme") -> dict[str, Any]:
    """Return the settings of one caller with a token."""
    return {
        "name": name,
        "tenant": tenant,
        "token_sha256_file": hashed_token(folder, name, token),
        "rights": list(rights),
    }
