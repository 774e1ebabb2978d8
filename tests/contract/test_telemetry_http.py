"""The ops address as Prometheus, a kubelet and a stranger see it."""

import asyncio
import io
import json
import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
import pytest
import structlog
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_open_metrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse

from gateway.core.pool_limits import PoolStats
from gateway.telemetry.health import Health, LoopLag, Status
from gateway.telemetry.logs import configure
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.ops_http import ListenError, OpsOptions, OpsServer
from tests.support.ports import free_port

_PATIENCE = aiohttp.ClientTimeout(total=5)


@dataclass
class Ops:
    """A running server and what it shows."""

    options: OpsOptions
    metrics: Metrics
    health: Health
    http: aiohttp.ClientSession

    async def raw(self, request: bytes) -> bytes:
        """Send bytes and return all that comes until the server closes."""
        reader, writer = await asyncio.open_connection(*self.options.host_and_port)
        writer.write(request)
        try:
            return await asyncio.wait_for(reader.read(), 5)
        finally:
            writer.close()


@asynccontextmanager
async def _serving(**limits: float) -> AsyncIterator[Ops]:
    options = OpsOptions(f"127.0.0.1:{free_port()}", **limits)  # type: ignore[arg-type]
    metrics, health = Metrics(), Health(time.monotonic())
    async with (
        OpsServer(options, metrics, health),
        aiohttp.ClientSession(f"http://{options.address}", timeout=_PATIENCE) as http,
    ):
        yield Ops(options, metrics, health, http)


@pytest.fixture(name="ops")
async def _ops() -> AsyncIterator[Ops]:
    async with _serving() as ops:
        yield ops


@pytest.fixture(name="log")
def _log() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    stream = io.StringIO()
    configure("debug", stream)
    root.setLevel(logging.DEBUG)
    yield stream
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)


async def test_metrics_are_prometheus_text(ops: Ops) -> None:
    ops.metrics.acquires["default", "hit"].inc()
    async with ops.http.get("/metrics") as answer:
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        families = {each.name: each for each in parse(await answer.text())}
    assert families["trunkline_acquires"].samples[0].value == 1


async def test_metrics_are_open_metrics_for_who_asks(ops: Ops) -> None:
    accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
    async with ops.http.get("/metrics", headers={"Accept": accept}) as answer:
        kind = answer.headers["Content-Type"]
        assert kind == "application/openmetrics-text; version=1.0.0; charset=utf-8"
        text = await answer.text()
    assert list(parse_open_metrics(text))  # type: ignore[no-untyped-call]


async def test_odd_accept_headers_get_plain_text(ops: Ops) -> None:
    for accept in ("", "text/plain;version=nonsense", "*/*", "a" * 1_000, ";;,,="):
        async with ops.http.get("/metrics", headers={"Accept": accept}) as answer:
            assert answer.status == 200
            assert answer.content_type == "text/plain"


async def test_readyz_says_what_is_in_the_way_and_lists_every_component(ops: Ops) -> None:
    ops.health.set("store", Status.FAILING, "no answer")
    async with ops.http.get("/readyz") as answer:
        assert answer.status == 503
        assert (await answer.json())["obstacles"] == ["starting"]
    ops.health.starting = False
    async with ops.http.get("/readyz") as answer:
        assert answer.status == 200
        body = await answer.json()
    assert body["components"] == {"store": {"status": "failing", "reason": "no answer"}}


async def test_livez_follows_the_beat(ops: Ops) -> None:
    async with ops.http.get("/livez") as answer:
        assert (answer.status, await answer.json()) == (200, {"alive": True})
    ops.health.beat(time.monotonic() - 6)
    async with ops.http.get("/livez") as answer:
        assert (answer.status, await answer.json()) == (503, {"alive": False})


@pytest.mark.parametrize("path", ["/metrics", "/livez", "/readyz"])
async def test_head_is_get_without_a_body(ops: Ops, path: str) -> None:
    async with ops.http.get(path) as got, ops.http.head(path) as headed:
        assert headed.status == got.status
        assert headed.headers["Content-Type"] == got.headers["Content-Type"]
        assert headed.headers["Content-Length"] == got.headers["Content-Length"]
        assert await headed.read() == b""


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
async def test_nothing_can_be_written(ops: Ops, method: str) -> None:
    for path in ("/metrics", "/readyz", "/drain", "/"):
        async with ops.http.request(method, path, data=b"x" * 100) as answer:
            assert answer.status == 405
            assert answer.headers["Allow"] == "GET, HEAD"


@pytest.mark.parametrize("path", ["/", "/metrics/", "/debug/pprof", "/../etc/passwd", "/console"])
async def test_other_paths_are_not_there(ops: Ops, path: str) -> None:
    async with ops.http.get(path) as answer:
        assert answer.status == 404


GARBAGE = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
    b"GET /metrics HTTP/1.1\r\nHost x\r\n\r\n",
    b"GET /metrics HTTP/9.9\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 10_000 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: canary\r\n" * 200 + b"\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
]


@pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
async def test_garbage_gets_a_bare_refusal_and_no_line_in_the_log(ops: Ops, log: io.StringIO, garbage: bytes) -> None:
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    answer = await ops.raw(garbage)
    assert answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4")) or answer == b""
    for word in (b"aiohttp", b"Python", b"canary", b"aaaa"):
        assert word not in answer
    assert log.getvalue() == ""


async def test_no_answer_names_versions(ops: Ops) -> None:
    for path in ("/metrics", "/nowhere"):
        async with ops.http.get(path) as answer:
            assert answer.headers["Server"] == "trunkline"
            assert answer.headers["Cache-Control"] == "no-store"


async def test_nobody_holds_a_connection_for_long() -> None:
    async with _serving(connection_life_seconds=0.1) as ops:
        silent, slow = await asyncio.gather(
            ops.raw(b""),
            ops.raw(b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Slow: "),
            return_exceptions=True,
        )
        for outcome in (silent, slow):
            assert outcome == b"" or isinstance(outcome, ConnectionError)


async def test_connections_beyond_the_bound_are_cut_and_the_others_served() -> None:
    async with _serving(connections_max=2) as ops:
        held = [await asyncio.open_connection(*ops.options.host_and_port) for _ in range(2)]
        with pytest.raises(aiohttp.ClientConnectionError):
            await ops.http.get("/livez")
        reader, writer = held[0]
        writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP/1.1 200")
        for _, each in held:
            each.close()


async def test_a_page_that_fails_says_so_in_the_log_and_nothing_outside(ops: Ops, log: io.StringIO) -> None:
    class Broken:
        calls = 0

        def stats(self) -> dict[str, PoolStats]:
            self.calls += 1
            if self.calls > 1:
                message = "canary of the inside"
                raise LookupError(message)
            return {}

    ops.metrics.watch_pools(Broken())
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    async with ops.http.get("/metrics") as answer:
        assert answer.status == 500
        assert await answer.text() == "Internal Server Error\n"
    (line,) = map(json.loads, log.getvalue().splitlines())
    assert line["event"] == "ops_page_failed"
    assert "LookupError" in line["exception"]


async def test_requests_are_not_logged(ops: Ops, log: io.StringIO) -> None:
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    async with ops.http.get("/livez") as answer:
        assert answer.status == 200
    assert log.getvalue() == ""


def test_it_serves_on_the_loop_of_production() -> None:
    uvloop = pytest.importorskip("uvloop", reason="the service uses it where it exists")

    async def ask() -> None:
        async with _serving() as ops, LoopLag(ops.metrics, ops.health, period_seconds=0.001) as lag:
            async with ops.http.get("/metrics") as answer:
                assert answer.status == 200
            assert (await ops.raw(b"GET /livez HTTP/1.0\r\n\r\n")).endswith(b'{"alive": true}')
            assert lag.worst_seconds < 1

    uvloop.run(ask())


async def test_an_address_in_use_is_named() -> None:
    async with _serving() as ops:
        with pytest.raises(ListenError, match=f"{ops.options.address}: Address already in use"):
            async with OpsServer(ops.options, ops.metrics, ops.health):
                pytest.fail("two servers on one address")


async def test_the_address_is_free_again_afterwards() -> None:
    async with _serving() as ops:
        pass
    async with asyncio.timeout(5), OpsServer(ops.options, ops.metrics, ops.health):
        pass


async def test_a_scrape_lets_the_loop_breathe(ops: Ops) -> None:
    for number in range(50):
        ops.metrics.acquire_wait[f"pool_{number}", "hit"].observe(0.1)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    _, parts = ops.metrics.exposition()
    families = len(list(parts))
    counting = asyncio.get_running_loop().create_task(count())
    async with ops.http.get("/metrics") as answer:
        await answer.read()
    counting.cancel()
    assert turns > families
