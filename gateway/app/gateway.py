"""The composition root: builds every part from the settings, starts them in order, stops them in reverse.

The only file that knows everybody.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random

import structlog

from gateway import __version__
from gateway.core.breaker import Breaker, BreakerOptions
from gateway.core.errors import GatewayError
from gateway.core.events import Durability
from gateway.core.ids import LeaseId
from gateway.core.pool import PoolCore
from gateway.core.pool_limits import PoolStats, together
from gateway.core.share import BARE
from gateway.rpc.parts import ServiceParts
from gateway.rpc.responses import encode
from gateway.rpc.server import GrpcServer, ServerOptions, TlsFiles
from gateway.runtime.directory import Directory
from gateway.runtime.lanes import LaneOptions
from gateway.runtime.pool import WarmPool
from gateway.runtime.reservations import Reservations
from gateway.runtime.session_options import SessionOptions, SessionParts
from gateway.runtime.trunk_group import TrunkGroup
from gateway.settings import PoolSettings, Settings, parts
from gateway.store.embedded import EmbeddedValkey
from gateway.store.options import RedisOptions, SlotsOptions
from gateway.store.redis_store import RedisStore
from gateway.store.reservations import RedisReservations
from gateway.store.sealing_keys import SealingKeys
from gateway.store.slots import RedisSlots
from gateway.store.tokens import SealedTokens
from gateway.telemetry.health import Health, LoopLag, Status
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.observers import PoolMetrics, SessionMetrics, StoreMetrics
from gateway.telemetry.ops_http import OpsOptions, OpsServer
from gateway.upstream.dialer import DialOptions, RealtimeDialer

_log = structlog.get_logger(__name__)
# Before an embedded server that has ended is started again.
RESTART_SECONDS = 1.0
# How often the components' state is looked at.
HEALTH_SECONDS = 0.25


class Gateway:
    """One gateway in this process."""

    def __init__(self, settings: Settings, *, insecure_dev: bool = False) -> None:
        """Read every secret that is named. Raises `SettingsError`; nothing is started."""
        self._settings = settings
        self._authenticator = parts.authenticator(settings, insecure_dev=insecure_dev)
        self._accounts = parts.accounts(settings)
        self._templates = parts.templates(settings)
        self._metrics = Metrics()
        self.pools: dict[str, WarmPool] = {}
        self._groups: list[TrunkGroup] = []
        self._breakers: dict[tuple[str, str], Breaker] = {}

    async def run(self, stop: asyncio.Event, started: asyncio.Event | None = None) -> None:
        """Serve until `stop` is set, then drain and end. Raises `SettingsError` or `ListenError`s."""
        loop = asyncio.get_running_loop()
        health = Health(loop.time())
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(OpsServer(OpsOptions(self._settings.ops.address), self._metrics, health))
            await stack.enter_async_context(LoopLag(self._metrics, health))
            store, keys = await stack.enter_async_context(self._store())
            # An embedded store has one gateway; of another Redis nothing is known before it has answered.
            assumed = SlotsOptions(gateways_assumed=1) if self._settings.redis.url == "embedded" else SlotsOptions()
            slots = RedisSlots(store.writer, parts.slots(self._settings), assumed)
            self._build_pools(slots)
            await stack.enter_async_context(slots)
            stack.push_async_callback(_all_stopped, self._groups)
            reservations = self._reservations(store, keys, slots.gateway_id)
            looking = loop.create_task(reservations.run(), name="reservations")
            stack.push_async_callback(_cancelled, looking)
            directory = Directory(self._session_parts(store, reservations), self._settings.limits.sessions_max)
            self._watch(directory)
            server = self._server(directory, store, reservations)
            await server.start()
            stack.push_async_callback(server.stop)
            for group in self._groups:
                group.start()
            watcher = loop.create_task(self._keep_health(health, store, slots, server, directory), name="health")
            stack.push_async_callback(_cancelled, watcher)
            _log.info("serving", address=self._settings.grpc.address, version=__version__)
            if started is not None:
                started.set()
            await stop.wait()
            health.draining = True
            await server.set_serving(serving=False)
            _log.info("draining", sessions=len(directory.sessions()))
            for group in self._groups:  # places and turns are for the gateways that stay
                group.drain()
            await directory.drain(self._settings.limits.drain_seconds)
        _log.info("stopped")

    # Parts.

    @asynccontextmanager
    async def _store(self) -> AsyncIterator[tuple[RedisStore, SealingKeys]]:
        settings = self._settings
        async with AsyncExitStack() as stack:
            if settings.redis.url == "embedded":
                valkey = await stack.enter_async_context(EmbeddedValkey())
                options = RedisOptions(url=valkey.url, durability=Durability.PROCESS)
                keys = SealingKeys.of_this_process()
                keeper = asyncio.get_running_loop().create_task(_keep_running(valkey), name="valkey")
                stack.push_async_callback(_cancelled, keeper)
            else:
                options = RedisOptions(
                    url=settings.redis.url,
                    replicas_wait=settings.store.replicas_wait,
                    retention_seconds=settings.store.retention_seconds,
                )
                keys = SealingKeys.from_files([(k.id, k.file) for k in settings.store.sealing_keys])
            store = RedisStore(options, keys, StoreMetrics(self._metrics))
            await stack.enter_async_context(store)
            if settings.redis.url != "embedded":
                for sentence in await store.check():
                    _log.warning("store_setting", message=sentence)
            yield store, keys

    def _build_pools(self, slots: RedisSlots) -> None:
        """Make one group of lines for each line class, with a pool for each template that uses it."""
        dialer = RealtimeDialer(self._accounts, DialOptions(user_agent=f"trunkline/{__version__}"))
        observer = PoolMetrics(self._metrics)
        served = parts.by_tenant(self._settings, self._templates.values())
        for line_class in dict.fromkeys(template.line_class for _, template in served):
            mine = {each.name: each for _, each in served if each.line_class == line_class}
            tenant = next(tenant for tenant, each in served if each.line_class == line_class)
            shares = {
                name: (each.version, parts.pool_limits(self._settings.pools.get(name, PoolSettings())))
                for name, each in mine.items()
            }
            breaker = self._breakers.setdefault((line_class.target, line_class.account), Breaker(BreakerOptions()))
            core = PoolCore(shares, breaker, Random(), _lease_ids())  # noqa: S311 jitter, not a secret
            group = TrunkGroup(line_class, mine, core, dialer, slots, observer)
            pools = [WarmPool(each, group, observer, tenant) for each in mine.values()]
            group.on_revoke = lambda lease_id, pools=pools: _revoke(pools, lease_id)  # type: ignore[misc]
            group.on_change = lambda group=group: self._look_again(group)  # type: ignore[misc]
            self._groups.append(group)
            self.pools.update({f"{pool.name}\0{tenant}" if tenant else pool.name: pool for pool in pools})
        slots.on_recall = self._give_back
        slots.on_fenced = self._fence

    def _look_again(self, changed: TrunkGroup) -> None:
        """Let the other groups of the same breaker look whether they may dial now."""
        mine = (changed.line_class.target, changed.line_class.account)
        for group in self._groups:
            if group is not changed and (group.line_class.target, group.line_class.account) == mine:
                group.tick()

    def _give_back(self, account: str, lines: int) -> None:
        """Close warm lines whose places another gateway needs."""
        for group in self._groups:
            if group.line_class.account == account:
                lines -= group.give_back(lines)

    def _fence(self) -> None:
        """Close every line: others may have our places."""
        for group in self._groups:
            group.fence()

    def _reservations(self, store: RedisStore, keys: SealingKeys, gateway_id: str) -> Reservations:
        return Reservations(self.pools, RedisReservations(store.writer), SealedTokens(keys), gateway_id)

    def _session_parts(self, store: RedisStore, reservations: Reservations) -> SessionParts:
        limits = self._settings.limits
        options = SessionOptions(
            message_max_bytes=limits.message_max_bytes,
            session_life_max_seconds=limits.session_life_max_seconds,
            session_idle_max_seconds=limits.session_idle_max_seconds,
            heartbeat_ms=limits.heartbeat_ms,
            lanes=LaneOptions(hold_ms=self._settings.store.durable_hold_ms),
        )
        return SessionParts(
            pools=self.pools,
            reservations=reservations,
            store=store,
            observer=SessionMetrics(self._metrics),
            encode=encode,
            owner_address=self._settings.grpc.advertise or "",
            options=options,
        )

    def _server(self, directory: Directory, store: RedisStore, reservations: Reservations) -> GrpcServer:
        settings, tls = self._settings, self._settings.grpc.tls
        service_parts = ServiceParts(
            directory=directory,
            pools=self.pools,
            reservations=reservations,
            gateway=settings.grpc.advertise or settings.grpc.address,
            owner_address=settings.grpc.advertise or "",
            version=__version__,
            message_max_bytes=settings.limits.message_max_bytes,
            durability=lambda: store.durability,
        )
        files = None
        if tls.cert_file is not None and tls.key_file is not None:
            files = TlsFiles(tls.cert_file, tls.key_file, tls.client_ca_file)
        options = ServerOptions(
            address=settings.grpc.address,
            message_max_bytes=settings.limits.message_max_bytes,
            tls=files,
            reflection=settings.profile == "development",
        )
        return GrpcServer(options, service_parts, self._authenticator)

    def _watch(self, directory: Directory) -> None:
        self._metrics.watch_pools(self)
        self._metrics.watch_breakers(lambda: self._breakers)
        self._metrics.watch_sessions(directory.states)

    def stats(self) -> dict[str, PoolStats]:
        """Take a snapshot of every pool; tenants with lines of their own are added up."""
        found = [(pool.name, pool.stats()) for pool in self.pools.values()]
        found += [(group.bare_name, group.stats(BARE)) for group in self._groups if group.core.has_bare]
        return {name: together([each for key, each in found if key == name]) for name, _ in found}

    async def _keep_health(
        self, health: Health, store: RedisStore, slots: RedisSlots, server: GrpcServer, directory: Directory
    ) -> None:
        """Copy what the parts know into the health report."""
        serving: bool | None = None
        while True:
            stats = self.stats()
            for name, each in stats.items():
                failing = each.last_failure is not None and not each.ready
                reason = f"dialling fails: {each.last_failure}" if failing else ""
                health.set(f"pool:{name}", Status.DEGRADED if failing else Status.OK, reason)
            shared = not slots.degraded
            health.set("slots", Status.OK if shared else Status.DEGRADED, "" if shared else "Redis does not answer")
            degraded = store.degraded
            health.set("store", Status.DEGRADED if degraded else Status.OK)
            health.overloaded = directory.is_full
            if any(each.ready or each.leased for each in stats.values()):
                health.starting = False
            ready = health.ready(asyncio.get_running_loop().time())
            if ready is not serving:
                serving = ready
                await server.set_serving(serving=ready)
            await asyncio.sleep(HEALTH_SECONDS)


def _lease_ids() -> Iterator[LeaseId]:
    while True:
        yield LeaseId(f"lease_{secrets.token_urlsafe(12)}")


async def _keep_running(valkey: EmbeddedValkey) -> None:
    """Start the embedded server again when it has ended; what it held is lost, and the store says so."""
    while True:
        await valkey.ended()
        _log.error("embedded_store_ended")
        await asyncio.sleep(RESTART_SECONDS)
        try:
            await valkey.start()
        except GatewayError as error:
            _log.error("embedded_store_not_started", error=error.message)


def _revoke(pools: Iterable[WarmPool], lease_id: LeaseId) -> None:
    for pool in pools:
        pool.revoked(lease_id)


async def _all_stopped(groups: Sequence[TrunkGroup]) -> None:
    await asyncio.gather(*(group.stop() for group in groups))


async def _cancelled(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.wait({task}, timeout=HEALTH_SECONDS)
