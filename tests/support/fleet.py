"""Several gateways as processes that share one Redis and one provider."""

import asyncio
import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.ports import free_port
from tests.support.processes import Process, all_gone, descendants, write_yaml
from tests.support.redis_server import RedisServer, redis_server
from tests.support.simulated import SimulatedProvider, simulated_provider
from tests.support.stack import UNLIMITED, pool
from tests.support.steering import Operator


@dataclass
class Fleet:
    """What runs."""

    gateways: dict[str, Process]
    redis: RedisServer
    provider: SimulatedProvider
    # Where each has its file and its words.
    folders: dict[str, Path]

    @property
    def addresses(self) -> list[str]:
        return list(self.gateways)

    def restart(self, address: str) -> Process:
        """Start one again that has ended; returns at once."""
        ended = self.gateways[address]
        assert ended.ended, f"{address} runs"
        folder = self.folders[address]
        log = folder / f"gateway-{len(list(folder.glob('*.log')))}.log"
        self.gateways[address] = Process(_arguments(folder / "trunkline.yaml"), log)
        return self.gateways[address]


@contextmanager
def fleet(count: int, simulated: Mapping[str, Any] | None = None, **changes: Any) -> Iterator[Fleet]:
    """Run them; each tells its own address as `owner_address`. `simulated` are the simulator's options."""
    with tempfile.TemporaryDirectory(prefix="tk", dir="/tmp") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        redis = stack.enter_context(redis_server(folder))
        provider = stack.enter_context(simulated_provider(folder, **(simulated or {})))
        gateways: dict[str, Process] = {}
        folders: dict[str, Path] = {}
        for number in range(count):
            mine = folder / f"gateway-{number}"
            mine.mkdir()
            address, process = _begun(mine, provider, {**redis.settings, **changes})
            gateways[address], folders[address] = process, mine
            stack.callback(lambda each: _ended(gateways[each]), address)
        for process in gateways.values():
            process.says('"serving"')
        yield Fleet(gateways, redis, provider, folders)


def _begun(folder: Path, provider: SimulatedProvider, changes: Mapping[str, Any]) -> tuple[str, Process]:
    address = f"127.0.0.1:{free_port()}"
    content = {
        "grpc": {"address": address, "advertise": address},
        "ops": {"address": f"127.0.0.1:{free_port()}"},
        "accounts": UNLIMITED,
        "targets": {"openai": {"url": provider.url}},
        "limits": {"drain_seconds": 1},
        "pools": {"default": pool()},
        **changes,
    }
    return address, Process(_arguments(write_yaml(folder, content)), folder / "gateway.log")


def _arguments(config: Path) -> list[str]:
    return ["-m", "gateway", "serve", "--insecure-dev", "--config", str(config)]


def _ended(process: Process) -> None:
    below = descendants(process.pid)
    process.stop()
    all_gone(below | {process.pid})


async def _rests(gateway: Operator, warm: int) -> bool:
    shown = await gateway.pool()
    held = shown.dialling + shown.leased + shown.draining
    return shown.warm >= warm and not held and not await gateway.leases()


async def at_rest(gateways: Sequence[Operator], warm: int) -> None:
    """Wait until every gateway has its floor and nothing else is held."""
    async with asyncio.timeout(30):
        for each in gateways:
            while not await _rests(each, warm):  # noqa: ASYNC110 it is another process
                await asyncio.sleep(0.1)
