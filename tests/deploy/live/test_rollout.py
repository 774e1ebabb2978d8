"""A roll-out by the chart's own timings: nobody who talks loses anything, and nobody who opens is refused.

The rendered production Deployment, its configuration and its Secrets, run as processes: TLS for callers, a Redis with
TLS and a user of its own, three gateways that are replaced one by one while 100 sessions talk and others open.
"""

import asyncio
import hashlib
import json
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
import trustme
import yaml
from trunkline_client import AsyncClient, ConnectionOptions, TlsOptions, TrunklineError
from trunkline_client.events import ResponseDone

from tests.chaos.talker import END_SECONDS, TEXT, Talker
from tests.chaos.validator import judge
from tests.support import redis_access
from tests.support.deployment import Deployment, deployment
from tests.support.helm import CHART, read, render
from tests.support.names import name_server
from tests.support.proxy import random_proxy
from tests.support.redis_tls import tls_redis
from tests.support.simulated import simulated_provider
from tests.support.tools import tool

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(300)]
SESSIONS: Final = 100
# Each says a word so often: many sessions are not what is measured.
PAUSE_SECONDS: Final = 2.0
OPENERS: Final = 4
OPENS_PAUSE_SECONDS: Final = 0.5
TOKEN: Final = "tok-of-the-billing-bot"
# From a word until it is heard of; on two cores that three gateways and all callers share.
MUTE_MAX_MS: Final = 8_000
NAME: Final = "trunkline-headless.speech.svc"
RESULTS: Final = Path("output")


def values_for(redis_url: str, provider_url: str) -> dict[str, Any]:
    """Return production's smallest values, for this many callers and with both neighbours on this machine."""
    values = read(CHART / "ci" / "minimal-values.yaml")
    values["replicas"] = 3
    values["redis"] |= {"url": redis_url, "ca": {"existingSecret": "redis-ca", "key": "ca.crt"}}
    values["config"] = {
        "targets": {"openai": {"url": provider_url}},
        "accounts": {"main": {"connections_max": 2000, "dials_per_second": 2000, "dials_burst": 2000}},
        "pools": {"default": {"floor": 16, "ceiling": 2 * SESSIONS, "dials_max": 16, "wait_max_ms": 10_000}},
    }
    return values


def secrets(redis_ca: Path, authority: trustme.CA) -> dict[str, dict[str, bytes]]:
    """Return the Secrets that the values name."""
    served = authority.issue_cert(NAME, "localhost")
    return {
        "openai": {"api-key": b"sk-simulated-key"},
        "trunkline-callers": {"billing-bot": hashlib.sha256(TOKEN.encode()).hexdigest().encode()},
        "trunkline-tls": {
            "tls.crt": b"".join(each.bytes() for each in served.cert_chain_pems),
            "tls.key": served.private_key_pem.bytes(),
        },
        "trunkline-redis": {"password": redis_access.GATEWAY_PASSWORD.encode()},
        "redis-ca": {"ca.crt": redis_ca.read_bytes()},
        "trunkline-sealing": {"k1": redis_access.SEALING_KEY},
    }


@dataclass
class Opener:
    """A service that keeps one client, and opens one session after the other."""

    client: AsyncClient
    served: int = 0
    failures: list[str] = field(default_factory=list)

    async def run(self, stopped: asyncio.Event) -> None:
        while not stopped.is_set():
            try:
                async with asyncio.timeout(20), self.client.open(overrides=TEXT) as session:
                    await session.send_text("Hello")
                    await session.create_response()
                    async for event in session:
                        if isinstance(event, ResponseDone) and not event.status_reason:
                            break
                self.served += 1
            except (TrunklineError, TimeoutError) as failure:
                self.failures.append(repr(failure))
            await asyncio.sleep(OPENS_PAUSE_SECONDS)


@asynccontextmanager
async def connected(address: str, ca_file: Path, count: int) -> AsyncIterator[list[AsyncClient]]:
    options = ConnectionOptions(tls=TlsOptions(ca_file=str(ca_file)))
    async with AsyncExitStack() as stack:
        made = [AsyncClient(address, token=TOKEN, options=options) for _ in range(count)]
        yield [await stack.enter_async_context(each) for each in made]


@asynccontextmanager
async def balanced(running: Deployment) -> AsyncIterator[str]:
    """Give the address of a node's balancer: it draws a gateway for each connection."""
    async with random_proxy(running.endpoints) as address:
        yield address.replace("127.0.0.1", "localhost")


@asynccontextmanager
async def resolved(running: Deployment) -> AsyncIterator[str]:
    """Give the name of the headless Service, which a client resolves to all gateways by itself."""
    async with name_server(NAME, running.endpoints) as names:
        yield f"dns://{names.address}/{NAME}:{running.port}"
        assert names.asked


WAYS: Final[dict[str, Callable[[Deployment], AbstractAsyncContextManager[str]]]] = {
    "balanced": balanced,
    "resolved": resolved,
}


async def rolled_under_callers(running: Deployment, address: str, ca_file: Path) -> Mapping[str, Any]:
    """Replace all pods while everybody talks; return what came of it."""
    stopped = asyncio.Event()
    async with connected(address, ca_file, SESSIONS) as clients, connected(address, ca_file, OPENERS) as more:
        talkers = [Talker(each, f"t{number}", pause_seconds=PAUSE_SECONDS) for number, each in enumerate(clients)]
        openers = [Opener(each) for each in more]
        talking = [asyncio.create_task(each.run()) for each in talkers]
        opening = [asyncio.create_task(each.run(stopped)) for each in openers]
        async with asyncio.timeout(END_SECONDS):
            await asyncio.gather(*(each.opened.wait() for each in talkers))
        gone = await running.roll()
        await asyncio.sleep(2 * PAUSE_SECONDS)
        stopped.set()
        for each in talkers:
            each.stop()
        await asyncio.wait([*talking, *opening], timeout=END_SECONDS)
        for task in (*talking, *opening):
            task.cancel()
    verdict = judge(each.history for each in talkers)
    took = sorted(seconds for each in talkers for seconds in each.history.heard_after)
    return {
        "sessions": SESSIONS,
        "moves": sum(len(each.history.resumed) for each in talkers),
        "unmoved": sum(not each.history.resumed for each in talkers),
        "events": verdict.total,
        "lost": verdict.lost,
        "duplicated": verdict.duplicated,
        "failed_calls": verdict.failed_calls,
        "faults": verdict.faults[:20],
        "opened": sum(each.served for each in openers),
        "open_failures": [failure for each in openers for failure in each.failures],
        "exit_codes": [pod.process.code for pod in gone],
        "killed": sum(pod.was_killed for pod in gone),
        "drained_seconds": [round(pod.drained_seconds, 1) for pod in gone],
        "usual_ms": round(took[len(took) // 2] * 1000, 1),
        "longest_ms": round(took[-1] * 1000, 1),
        "words": len(took),
    }


@pytest.mark.parametrize("way", WAYS)
async def test_three_gateways_are_replaced_under_100_sessions_and_no_call_fails(way: str) -> None:
    assert tool("redis-server")
    authority = trustme.CA()
    with tempfile.TemporaryDirectory(prefix="tk", dir="/tmp") as name, tls_redis() as redis:
        folder = Path(name)
        authority.cert_pem.write_to_path(str(ca_file := folder / "callers-ca.pem"))
        with simulated_provider(folder) as provider:
            objects = render(values_for(redis.url, provider.url))
            files = secrets(redis.ca_file, authority)
            async with deployment(objects, files, folder) as running, WAYS[way](running) as address:
                figures = await rolled_under_callers(running, address, ca_file)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"rollout-{way}.json").write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    told = yaml.safe_dump(dict(figures), sort_keys=False)
    assert figures["failed_calls"] == figures["lost"] == figures["duplicated"] == figures["killed"] == 0, told
    assert figures["open_failures"] == [], told
    assert figures["exit_codes"] == [0, 0, 0], told
    # Everybody was somewhere that has gone, nobody was mute for long, and many sessions were opened meanwhile.
    assert figures["unmoved"] == 0, told
    assert figures["longest_ms"] < MUTE_MAX_MS, told
    assert figures["opened"] >= OPENERS * 10, told
