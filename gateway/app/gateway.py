"""One gateway: its parts, in the order in which they start and, in reverse, stop."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import structlog

from gateway import __version__
from gateway.app.descriptors import callers_connections
from gateway.app.drain import Drain
from gateway.app.exchange import Exchange
from gateway.app.observers import Observers, observers
from gateway.app.prepared import Prepared, prepare, session_options
from gateway.app.reload import Reload, Source
from gateway.core.errors import GatewayError
from gateway.core.events import Durability
from gateway.core.principal import Right
from gateway.core.tenants import TenantShares
from gateway.rpc.auth import AuthInterceptor
from gateway.rpc.parts import ServiceParts
from gateway.rpc.records import RecordForm
from gateway.rpc.server import GrpcServer, ServerOptions
from gateway.runtime.directory import Directory
from gateway.runtime.lane_parts import LaneOptions, LaneParts
from gateway.runtime.pool import WarmPool
from gateway.runtime.reservations import Reservations
from gateway.runtime.resume_tokens import ResumeTokens
from gateway.runtime.session_options import SessionParts
from gateway.runtime.tenants import Tenants
from gateway.settings import Settings, parts
from gateway.store.embedded import EmbeddedValkey
from gateway.store.options import RedisOptions, SlotsOptions
from gateway.store.redis_store import RedisStore
from gateway.store.reservations import RedisReservations
from gateway.store.sealing_keys import SealingKeys
from gateway.store.slots import RedisSlots
from gateway.store.tenants import RedisTenants
from gateway.store.tokens import SealedTokens
from gateway.telemetry.health import Health, LoopLag, Status
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.observers import StoreMetrics
from gateway.telemetry.ops_http import OpsOptions, OpsServer
from gateway.upstream.dialer import DialOptions, RealtimeDialer

_log = structlog.get_logger(__name__)
# Before an embedded server that has ended is started again.
RESTART_SECONDS = 1.0
# How often the components' state is looked at.
HEALTH_SECONDS = 0.25


class Gateway:
    """One gateway in this process."""

    def __init__(self, settings: Settings, *, insecure_dev: bool = False, source: Source | None = None) -> None:
        """Read every secret that is named. Raises `SettingsError`; nothing is started.

        With a `source`, changed files are followed while it runs.
        """
        self._settings = settings
        self._read = partial(prepare, insecure_dev=insecure_dev)
        # Before the files are read: a change in between is seen later.
        self._reload = Reload(source, settings, self._read) if source is not None else None
        self._first = self._read(settings)
        # The dialer looks keys up in here: a new one takes its place.
        self._accounts = dict(self._first.accounts)
        self._door = AuthInterceptor(self._first.authenticator)
        self._metrics = Metrics()
        self._drain: Drain | None = None
        # The pools in force, by template.
        self.pools: Mapping[str, WarmPool] = {}

    def hurry(self) -> None:
        """Let a drain that is under way end as one that a signal began would."""
        if self._drain is not None:
            self._drain.ask(self._settings.limits.drain_seconds)

    def reload(self) -> None:
        """Look at the files now."""
        if self._reload is not None:
            self._reload.ask()

    async def run(self, stop: asyncio.Event, started: asyncio.Event | None = None) -> None:
        """Serve until `stop` is set, then drain and end. Raises `SettingsError` or `ListenError`s."""
        loop, settings = asyncio.get_running_loop(), self._settings
        health = Health(loop.time())
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(OpsServer(OpsOptions(settings.ops.address), self._metrics, health))
            await stack.enter_async_context(LoopLag(self._metrics, health))
            store, keys = await stack.enter_async_context(self._store())
            # An embedded store has one gateway; of another Redis nothing is known before it has answered.
            assumed = SlotsOptions(gateways_assumed=1) if settings.redis.url == "embedded" else SlotsOptions()
            slots = RedisSlots(store.writer, parts.slots(settings), assumed)
            told = await stack.enter_async_context(observers(settings, self._metrics))
            exchange = self._exchange(slots, told)
            self.pools = exchange.pools
            await stack.enter_async_context(slots)
            stack.push_async_callback(exchange.stop)
            tokens = SealedTokens(keys)
            reservations = Reservations(RedisReservations(store.writer), tokens, slots.gateway_id)
            looking = loop.create_task(reservations.run(), name="reservations")
            stack.push_async_callback(_cancelled, looking)
            tenants = self._tenants(store, reservations)
            telling = loop.create_task(tenants.run(), name="tenants")
            stack.push_async_callback(_cancelled, telling)
            directory = Directory(
                self._session_parts(exchange, store, reservations, tokens, tenants, told), settings.limits.sessions_max
            )
            self._metrics.watch_health(health.unwell)
            self._metrics.watch_pools(exchange)
            self._metrics.watch_breakers(lambda: exchange.breakers)
            self._metrics.watch_sessions(directory.states)
            drain = self._drain = Drain(stop, settings.limits.drain_seconds, directory)
            server = self._server(exchange, directory, store, reservations, drain)
            await server.start()
            self._metrics.watch_certificate(lambda: server.certificate)
            stack.push_async_callback(server.stop)
            exchange.start()
            following = loop.create_task(self._follow(exchange, directory, keys, server), name="reload")
            stack.push_async_callback(_cancelled, following)
            looks = self._keep_health(health, store, slots, exchange, server, directory)
            stack.push_async_callback(_cancelled, loop.create_task(looks, name="health"))
            _log.info("serving", address=settings.grpc.address, version=__version__)
            if started is not None:
                started.set()
            await stop.wait()
            health.draining = True
            await _cancelled(following)  # a change would open lines in a gateway that leaves
            await server.set_serving(serving=False)
            _log.info("draining", sessions=len(directory.sessions()))
            exchange.drain()
            await directory.drain(drain.seconds)
            drain.emptied.set()
        _log.info("stopped")

    # Parts.

    @asynccontextmanager
    async def _store(self) -> AsyncIterator[tuple[RedisStore, SealingKeys]]:
        settings = self._settings
        async with AsyncExitStack() as stack:
            if settings.redis.url == "embedded":
                valkey = await stack.enter_async_context(EmbeddedValkey())
                kept = settings.store.retention_seconds
                options = RedisOptions(url=valkey.url, durability=Durability.PROCESS, retention_seconds=kept)
                keys = SealingKeys.of_this_process()
                keeper = asyncio.get_running_loop().create_task(_keep_running(valkey), name="valkey")
                stack.push_async_callback(_cancelled, keeper)
            else:
                options = RedisOptions(
                    url=settings.redis.url,
                    password_file=settings.redis.password_file,
                    sentinel_password_file=settings.redis.sentinel_password_file,
                    tls_ca_file=settings.redis.ca_file,
                    replicas_wait=settings.store.replicas_wait,
                    retention_seconds=settings.store.retention_seconds,
                )
                keys = SealingKeys(self._first.sealing_keys)
            store = RedisStore(options, keys, StoreMetrics(self._metrics))
            await stack.enter_async_context(store)
            if settings.redis.url != "embedded":
                for sentence in await store.check():
                    _log.warning("store_setting", message=sentence)
            yield store, keys

    def _exchange(self, slots: RedisSlots, told: Observers) -> Exchange:
        dialer = RealtimeDialer(self._accounts, DialOptions(user_agent=f"trunkline/{__version__}"))
        exchange = Exchange(dialer, slots, told.pools)
        exchange.build(self._settings, self._first.templates)
        slots.on_recall, slots.on_fenced = exchange.give_back, exchange.fence
        return exchange

    def _tenants(self, store: RedisStore, reservations: Reservations) -> Tenants:
        shares = TenantShares(parts.tenant_limits(self._settings))
        tenants = Tenants(shares, RedisTenants(store.writer), reservations.reserved)
        reservations.check_tenant = tenants.check
        return tenants

    def _session_parts(
        self,
        exchange: Exchange,
        store: RedisStore,
        reservations: Reservations,
        tokens: SealedTokens,
        tenants: Tenants,
        told: Observers,
    ) -> SessionParts:
        return SessionParts(
            pools=exchange.pools,
            reservations=reservations,
            tenants=tenants,
            lanes=LaneParts(store, RecordForm(), LaneOptions(hold_ms=self._settings.store.durable_hold_ms)),
            tokens=ResumeTokens(tokens),
            observer=told.sessions,
            owner_address=self._settings.grpc.advertise or "",
            options=session_options(self._settings),
        )

    def _server(
        self, exchange: Exchange, directory: Directory, store: RedisStore, reservations: Reservations, drain: Drain
    ) -> GrpcServer:
        settings = self._settings
        service_parts = ServiceParts(
            directory=directory,
            pools=exchange.pools,
            reservations=reservations,
            store=store,
            gateway=settings.grpc.advertise or settings.grpc.address,
            owner_address=settings.grpc.advertise or "",
            version=__version__,
            message_max_bytes=settings.limits.message_max_bytes,
            durability=lambda: store.durability,
            leaving=exchange.leaving,
            lines_max={name: account.connections_max for name, account in settings.accounts.items()},
            knows=self._door.knows,
            drain=drain.ask,
            emptied=drain.emptied,
            drain_seconds=drain.seconds,
        )
        options = ServerOptions(
            address=settings.grpc.address,
            message_max_bytes=settings.limits.message_max_bytes,
            connections_max=callers_connections(settings.limits.connections_max, parts.lines_max(settings)),
            tls=parts.tls_files(settings),
            reflection=settings.profile == "development",
        )
        return GrpcServer(options, service_parts, self._door)

    # While it runs.

    async def _follow(self, exchange: Exchange, directory: Directory, keys: SealingKeys, server: GrpcServer) -> None:
        """Follow changed files."""

        async def apply(settings: Settings, prepared: Prepared) -> None:
            if prepared.sealing_keys:
                keys.become(prepared.sealing_keys)
            fresh = prepared.accounts
            new_keys = [name for name, account in fresh.items() if not account.key.same_as(self._accounts[name].key)]
            self._accounts.update(fresh)
            self._door.authenticator = prepared.authenticator
            directory.expel(lambda principal: self._door.knows(principal, Right.CONVERSE))
            exchange.change(settings, prepared.templates, new_keys)

        if self._reload is not None:
            await self._reload.run(apply, server.look_at_certificate)

    async def _keep_health(
        self,
        health: Health,
        store: RedisStore,
        slots: RedisSlots,
        exchange: Exchange,
        server: GrpcServer,
        directory: Directory,
    ) -> None:
        """Copy what the parts know into the health report."""
        serving: bool | None = None
        while True:
            stats = exchange.stats()
            health.keep({f"pool:{name}" for name in stats}, among="pool:")
            for name, each in stats.items():
                failing = each.last_failure is not None and not each.ready
                reason = f"dialling fails: {each.last_failure}" if failing else ""
                health.set(f"pool:{name}", Status.DEGRADED if failing else Status.OK, reason)
            shared = not slots.degraded
            health.set("slots", Status.OK if shared else Status.DEGRADED, "" if shared else "Redis does not answer")
            degraded = store.degraded
            health.set("store", Status.DEGRADED if degraded else Status.OK)
            # Who leaves follows nothing any more: those that come after it have the change.
            refused = self._reload.refused if self._reload is not None and not health.draining else ""
            health.set("configuration", Status.DEGRADED if refused else Status.OK, refused)
            health.overloaded = directory.is_full
            if any(each.ready or each.leased for each in stats.values()):
                health.starting = False
            ready = health.ready(asyncio.get_running_loop().time())
            if ready is not serving:
                serving = ready
                await server.set_serving(serving=ready)
            await asyncio.sleep(HEALTH_SECONDS)


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


async def _cancelled(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.wait({task}, timeout=HEALTH_SECONDS)
