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
    provider: SimulatedProvider
    # Where each has its file and its words.
    folders: dict[str, Path]
    # With what each begins; another tree's may be put here before a restart. None = as these tests run.
    environments: dict[str, Mapping[str, str] | None]
    # None = somebody else's.
    own_redis: RedisServer | None

    @property
    def redis(self) -> RedisServer:
        assert self.own_redis is not None
        return self.own_redis

    @property
    def addresses(self) -> list[str]:
        return list(self.gateways)

    def restart(self, address: str) -> Process:
        """Start one again that has ended; returns at once."""
        ended = self.gateways[address]
        assert ended.ended, f"{address} runs"
        folder = self.folders[address]
        log = folder / f"gateway-{len(list(folder.glob('*.log')))}.log"
        self.gateways[address] = Process(_arguments(folder / "trunkline.yaml"), log, self.environments[address])
        return self.gateways[address]


@contextmanager
def fleet(
    count: int,
    simulated: Mapping[str, Any] | None = None,
    *,
    provider: SimulatedProvider | None = None,
    redis: Mapping[str, Any] | None = None,
    advertised: Mapping[str, str] | None = None,
    environments: Sequence[Mapping[str, str] | None] | None = None,
    **changes: Any,
) -> Iterator[Fleet]:
    """Run them; each tells its own address as `owner_address`.

    `simulated` are the simulator's options. A `provider` that runs already, and settings that lead to a
    `redis` that runs already, are used instead of new ones. `advertised` gives the addresses to listen on,
    `count` of them, and what each tells instead, where something stands between. `environments` are theirs, in order.
    What `changes` say of `grpc` stands beside the addresses.
    """
    with tempfile.TemporaryDirectory(prefix="tk", dir="/tmp") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        own = None if redis is not None else stack.enter_context(redis_server(folder))
        settings = redis if own is None else own.settings
        provider = provider or stack.enter_context(simulated_provider(folder, **(simulated or {})))
        places = advertised or {address: address for address in (f"127.0.0.1:{free_port()}" for _ in range(count))}
        assert len(places) == count
        begins_with = dict(zip(places, environments or [None] * count, strict=True))
        gateways: dict[str, Process] = {}
        folders: dict[str, Path] = {}
        for number, (address, told) in enumerate(places.items()):
            folders[address] = folder / f"gateway-{number}"
            folders[address].mkdir()
            own_sections = _sections(address, told, provider)
            grpc = {**own_sections["grpc"], **changes.get("grpc", {})}
            sections = {**own_sections, **(settings or {}), **changes, "grpc": grpc}
            config = write_yaml(folders[address], sections)
            log, env = folders[address] / "gateway.log", begins_with[address]
            gateways[address] = Process(_arguments(config), log, env, forks=True)
            stack.callback(lambda each: _ended(gateways[each]), address)
        for process in gateways.values():
            process.says('"serving"')
        yield Fleet(gateways, provider, folders, begins_with, own)


def _sections(address: str, told: str, provider: SimulatedProvider) -> dict[str, Any]:
    return {
        "grpc": {"address": address, "advertise": told},
        "ops": {"address": f"127.0.0.1:{free_port()}"},
        "accounts": UNLIMITED,
        "targets": {"openai": {"url": provider.url}},
        "limits": {"drain_seconds": 1},
        "pools": {"default": pool()},
    }


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
