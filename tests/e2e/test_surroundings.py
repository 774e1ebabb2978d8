"""What is not there, or in the way, around a gateway: names, proxies, and everything that it depends on."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Never

import aiohttp
import pytest

from gateway.store.embedded import EmbeddedValkey
from tests.support.ports import free_port
from tests.support.stack import Running, gateway_on, pool, simulator, stack
from tests.support.waiting import eventually

STILL: Final = {"default": pool(floor=2, ceiling=8, wait_max_ms=2000, demand={"enabled": False})}
# Nothing is dialled but for a caller.
ON_DEMAND: Final = {"default": pool(floor=0, ceiling=8, wait_max_ms=5000, demand={"enabled": False})}
PROXIES: Final = ("http_proxy", "https_proxy", "all_proxy", "ws_proxy", "wss_proxy", "socks_proxy", "grpc_proxy")


async def talks(running: Running) -> None:
    caller = running.caller()
    await caller.open()
    await caller.answer_please()
    await caller.until("response_done")
    await caller.bye()
    await caller.rest()


async def page(running: Running, path: str) -> tuple[int, dict[str, Any]]:
    async with aiohttp.ClientSession() as http, http.get(running.ops_url + path) as answer:
        return answer.status, await answer.json()


async def until_told(running: Running, component: str, status: str) -> None:
    """Wait until the report says so of a component; it is looked at once a second."""
    async with asyncio.timeout(10):
        while (await page(running, "/readyz"))[1]["components"][component]["status"] != status:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


def nobody_knows(*_args: Any, **_more: Any) -> Never:
    raise socket.gaierror(socket.EAI_AGAIN, "temporary failure in name resolution")


async def test_while_the_providers_name_is_not_found_calls_go_on_and_newcomers_are_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with stack(pools=ON_DEMAND) as (running, _):
        talking = running.caller()
        await talking.open()
        with monkeypatch.context() as patch:
            patch.setattr(socket, "getaddrinfo", nobody_knows)
            status = await running.caller().refused(wait_max_ms=300)
            assert status.reason == "UPSTREAM_UNREACHABLE"
            assert status.info.metadata["retryable"] == "true"
            await talking.answer_please()
            await talking.until("response_done")
        await talks(running)


@pytest.mark.usefixtures("_a_proxy_for_everything")
async def test_a_proxy_of_the_environment_is_not_asked_for_the_provider() -> None:
    async with stack(pools=STILL) as (running, sim):
        await running.until_warm(2)
        await talks(running)
        assert running.pool().last_failure is None
        assert sim.connections()


@pytest.fixture
def _a_proxy_for_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """One at which nobody listens."""
    nowhere = f"http://127.0.0.1:{free_port()}"
    for name in PROXIES:
        monkeypatch.setenv(name, nowhere)
        monkeypatch.setenv(name.upper(), nowhere)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    # The callers of this test are no part of it.
    monkeypatch.setenv("no_grpc_proxy", "127.0.0.1")


@asynccontextmanager
async def external(folder: Path) -> AsyncIterator[tuple[EmbeddedValkey, dict[str, Any]]]:
    key = folder / "key"
    key.write_bytes(bytes(range(32)))
    async with EmbeddedValkey() as server:
        yield server, {"redis": {"url": server.url}, "store": {"sealing_keys": [{"id": "k1", "file": str(key)}]}}


async def test_a_gateway_without_redis_and_provider_is_alive_and_ready(tmp_path: Path) -> None:
    """A probe that went red with them would restart every gateway at once, and mend nothing."""
    async with (
        external(tmp_path) as (server, sections),
        simulator() as sim,
        gateway_on(sim.url, pools=STILL, **sections) as running,
    ):
        await running.until_warm(2)
        async with asyncio.timeout(10):
            while (await page(running, "/readyz"))[0] != 200:  # noqa: ASYNC110 the same
                await asyncio.sleep(0.05)
        await server.stop()
        await sim.stop()
        await eventually(lambda: running.pool().ready == 0, "every line is lost")
        status = await running.caller().refused()
        assert status.reason == "UPSTREAM_UNREACHABLE"
        await until_told(running, "store", "degraded")
        await until_told(running, "pool:default", "degraded")
        for path in ("/livez", "/readyz"):
            assert (await page(running, path))[0] == 200
