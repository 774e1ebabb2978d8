"""The composition root: builds every part from the settings, starts them in order, stops them in reverse.

The only file that knows everybody.
"""

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from urllib.parse import urlsplit

import structlog

from gateway import __version__
from gateway.core.errors import GatewayError
from gateway.core.events import Durability
from gateway.core.ids import LeaseId
from gateway.core.pool import PoolCore
from gateway.core.pool_limits import PoolLimits, PoolStats
from gateway.core.principal import Principal, Right
from gateway.core.template import LineClass, Template
from gateway.rpc.auth import Authenticator, InsecureDev, StaticTokens, TokenHolder
from gateway.rpc.responses import encode
from gateway.rpc.server import GrpcServer, ServerOptions, TlsFiles
from gateway.rpc.services import ServiceParts
from gateway.runtime.directory import Directory
from gateway.runtime.lanes import LaneOptions
from gateway.runtime.pool import WarmPool
from gateway.runtime.session_options import SessionOptions, SessionParts
from gateway.settings import PoolSettings, Settings, SettingsError, environment_key, is_loopback
from gateway.store.embedded import EmbeddedValkey
from gateway.store.options import RedisOptions
from gateway.store.redis_store import RedisStore
from gateway.store.sealing_keys import SealingKeys
from gateway.telemetry.health import Health, LoopLag, Status
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.observers import PoolMetrics, SessionMetrics, StoreMetrics
from gateway.telemetry.ops_http import OpsOptions, OpsServer
from gateway.upstream.account import Account, ApiKey
from gateway.upstream.dialer import DialOptions, RealtimeDialer

_log = structlog.get_logger(__name__)
# Before an embedded server that has ended is started again.
RESTART_SECONDS = 1.0
# How often the components' state is looked at.
HEALTH_SECONDS = 0.25
# Works with a simulator on loopback, and opens nothing anywhere else.
_SIMULATOR_KEY = "simulator"


class Gateway:
    """One gateway in this process."""

    def __init__(self, settings: Settings, *, insecure_dev: bool = False) -> None:
        """Read every secret that is named. Raises `SettingsError`; nothing is started."""
        self._settings = settings
        self._authenticator = authenticator(settings, insecure_dev=insecure_dev)
        self._accounts = accounts(settings)
        self._templates = templates(settings)
        self._metrics = Metrics()
        self.pools: dict[str, WarmPool] = {}

    async def run(self, stop: asyncio.Event, started: asyncio.Event | None = None) -> None:
        """Serve until `stop` is set, then drain and end. Raises `SettingsError` or `ListenError`s."""
        loop = asyncio.get_running_loop()
        health = Health(loop.time())
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(OpsServer(OpsOptions(self._settings.ops.address), self._metrics, health))
            await stack.enter_async_context(LoopLag(self._metrics, health))
            store = await stack.enter_async_context(self._store())
            self._build_pools()
            stack.push_async_callback(_all_stopped, list(self.pools.values()))
            directory = Directory(self._session_parts(store), self._settings.limits.sessions_max)
            self._watch(directory)
            server = self._server(directory, store)
            await server.start()
            stack.push_async_callback(server.stop)
            for pool in self.pools.values():
                pool.start()
            watcher = loop.create_task(self._keep_health(health, store, server, directory), name="health")
            stack.push_async_callback(_cancelled, watcher)
            _log.info("serving", address=self._settings.grpc.address, version=__version__)
            if started is not None:
                started.set()
            await stop.wait()
            health.draining = True
            await server.set_serving(serving=False)
            _log.info("draining", sessions=len(directory.sessions()))
            await directory.drain(self._settings.limits.drain_seconds)
        _log.info("stopped")

    # Parts.

    @asynccontextmanager
    async def _store(self) -> AsyncIterator[RedisStore]:
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
            yield store

    def _build_pools(self) -> None:
        dialer = RealtimeDialer(self._accounts, DialOptions(user_agent=f"trunkline/{__version__}"))
        observer = PoolMetrics(self._metrics)
        for name, template in self._templates.items():
            limits = pool_limits(self._settings.pools.get(name, PoolSettings()))
            core = PoolCore(limits, Random(), _lease_ids())  # noqa: S311 jitter, not a secret
            self.pools[name] = WarmPool(template, core, dialer, observer)

    def _session_parts(self, store: RedisStore) -> SessionParts:
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
            store=store,
            observer=SessionMetrics(self._metrics),
            encode=encode,
            owner_address=self._settings.grpc.advertise or "",
            options=options,
        )

    def _server(self, directory: Directory, store: RedisStore) -> GrpcServer:
        settings, tls = self._settings, self._settings.grpc.tls
        parts = ServiceParts(
            directory=directory,
            pools=self.pools,
            gateway=settings.grpc.advertise or settings.grpc.address,
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
        return GrpcServer(options, parts, self._authenticator)

    def _watch(self, directory: Directory) -> None:
        self._metrics.watch_pools(self)
        self._metrics.watch_sessions(directory.states)

    def stats(self) -> dict[str, PoolStats]:
        """Take a snapshot of every pool."""
        return {name: pool.stats() for name, pool in self.pools.items()}

    async def _keep_health(self, health: Health, store: RedisStore, server: GrpcServer, directory: Directory) -> None:
        """Copy what the parts know into the health report."""
        serving: bool | None = None
        while True:
            stats = self.stats()
            for name, each in stats.items():
                failing = each.last_failure is not None and not each.ready
                reason = f"dialling fails: {each.last_failure}" if failing else ""
                health.set(f"pool:{name}", Status.DEGRADED if failing else Status.OK, reason)
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


# From settings to parts.


def authenticator(settings: Settings, *, insecure_dev: bool) -> Authenticator:
    """Return who decides about callers. Raises `SettingsError` when nobody would."""
    if insecure_dev and settings.profile == "production":
        raise SettingsError("--insecure-dev is not for production")
    if settings.callers:
        return StaticTokens(
            [
                _holder(caller.name, caller.tenant, caller.token_sha256_file, frozenset(caller.rights))
                for caller in settings.callers
            ]
        )
    if not insecure_dev:
        raise SettingsError(
            "callers: nobody may call. Name at least one caller with a token, or start with "
            "--insecure-dev to let everybody on this machine in"
        )
    if not is_loopback(settings.grpc.address.rpartition(":")[0]):
        raise SettingsError(f"--insecure-dev serves loopback only, not {settings.grpc.address}")
    return InsecureDev()


def _holder(name: str, tenant: str, file: Path, rights: frozenset[Right]) -> TokenHolder:
    text = _secret(file, f"callers.{name}.token_sha256_file")
    try:
        digest = bytes.fromhex(text)
    except ValueError:
        digest = b""
    if len(digest) != hashlib.sha256().digest_size:
        raise SettingsError(f"callers.{name}.token_sha256_file: {file} must hold 64 hex digits")
    if digest == hashlib.sha256(b"").digest():
        raise SettingsError(f"callers.{name}.token_sha256_file: {file} is the hash of an empty token")
    return TokenHolder(Principal(tenant, name, rights), digest)


def accounts(settings: Settings) -> dict[str, Account]:
    """Return the accounts with their keys. Raises `SettingsError`, without a word of a key."""
    return {name: _account(settings, name) for name in settings.accounts}


def _account(settings: Settings, name: str) -> Account:
    chosen = settings.accounts[name]
    where = f"accounts.{name}.key_file"
    value = _secret(chosen.key_file, where) if chosen.key_file else _key_without_file(settings, name)
    try:
        key = ApiKey(value)
    except ValueError:
        raise SettingsError(f"{where}: what it holds is not a key") from None
    return Account(name, key, chosen.organization, chosen.project)


def _key_without_file(settings: Settings, name: str) -> str:
    urls = [target.url for target in settings.targets.values() if name in target.accounts]
    if all(is_loopback(urlsplit(url).hostname or "") for url in urls):
        return _SIMULATOR_KEY
    value = environment_key()
    if not value:
        raise SettingsError(f"accounts.{name}.key_file: no file is named, and OPENAI_API_KEY is not set")
    return value


def _secret(file: Path, where: str) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SettingsError(f"{where}: {file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{where}: {file} is not text") from None


def templates(settings: Settings) -> dict[str, Template]:
    """Return the templates with their line classes."""
    made = {}
    for name, chosen in settings.templates.items():
        target = settings.targets[chosen.target]
        account = target.accounts[0]
        line = LineClass(
            target=chosen.target,
            provider=target.provider,
            url=target.url,
            model=chosen.model,
            session_type="realtime",
            account=account,
            key_version="1",
            safety=settings.accounts[account].safety,
        )
        made[name] = Template(name, line, chosen.session, chosen.recovery.user_turns, chosen.durability)
    return made


def pool_limits(chosen: PoolSettings) -> PoolLimits:
    """Return the pool's bounds."""
    return PoolLimits(
        floor=chosen.floor,
        ceiling=chosen.ceiling,
        reserve=chosen.reserve,
        reserve_after_ms=chosen.reserve_after_ms,
        dials_max=chosen.dials_max,
        age_max_seconds=chosen.age_max_seconds,
        age_jitter_ratio=chosen.age_jitter_ratio,
        waiters_max=chosen.waiters_max,
        wait_max_ms=chosen.wait_max_ms,
    )


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


async def _all_stopped(pools: Sequence[WarmPool]) -> None:
    await asyncio.gather(*(pool.stop() for pool in pools))


async def _cancelled(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.wait({task}, timeout=HEALTH_SECONDS)
