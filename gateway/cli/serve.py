"""`trunkline serve`: the gateway, from configuration to the last drained session."""

import asyncio
import gc
import signal
import sys
from pathlib import Path

import structlog

from gateway.app import Gateway, Source
from gateway.cli.failure import CommandError
from gateway.core.errors import GatewayError
from gateway.rpc.server import ListenError as GrpcListenError
from gateway.settings import Settings, SettingsError, load
from gateway.telemetry.logs import configure
from gateway.telemetry.ops_http import ListenError as OpsListenError

_log = structlog.get_logger(__name__)
# What a shell expects of a process that a second signal has cut.
FORCED_EXIT = 1
# New objects before a collection, and how many of those before one of the next generation.
COLLECT_THRESHOLDS = (10_000, 20, 50)


def serve(config: Path | None, *, insecure_dev: bool, pretty: bool) -> None:
    """Run until a signal. Raises `CommandError` when it cannot start."""
    configure(pretty=pretty)
    try:
        source = Source(config, lambda: load(config))
        gateway = Gateway(load(config), insecure_dev=insecure_dev, source=source)
        run(_until_signal(gateway))
    except (SettingsError, GrpcListenError, OpsListenError) as error:
        raise CommandError(str(error)) from None
    except GatewayError as error:
        raise CommandError(error.message) from None


def settings_of(config: Path | None) -> Settings:
    """Load the configuration. Raises `CommandError`."""
    try:
        return load(config)
    except SettingsError as error:
        raise CommandError(str(error)) from None


def run(main: "asyncio.Future[None] | object") -> None:
    """Run on uvloop where there is one: a third less work per frame."""
    if sys.platform == "win32":
        asyncio.run(main)  # type: ignore[arg-type]
        return
    import uvloop  # noqa: PLC0415 not there on every platform

    uvloop.run(main)  # type: ignore[arg-type]


async def _until_signal(gateway: Gateway) -> None:
    """Serve; the first SIGTERM or Ctrl-C drains, the second cuts. SIGHUP looks at the files now."""
    stop, started, signalled = asyncio.Event(), asyncio.Event(), False
    loop = asyncio.get_running_loop()
    serving = loop.create_task(gateway.run(stop, started))
    calming = loop.create_task(_calm_collector(started), name="collector")

    def on_signal() -> None:
        nonlocal signalled
        if signalled:  # a drain that an operator asked for is not a first signal
            serving.cancel()
        signalled = True
        gateway.hurry()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    loop.add_signal_handler(signal.SIGHUP, gateway.reload)
    try:
        await serving
    except asyncio.CancelledError:
        _log.warning("forced_stop")
        sys.exit(FORCED_EXIT)
    finally:
        calming.cancel()


async def _calm_collector(started: asyncio.Event) -> None:
    """Let collections of garbage be short and rare: each is a hole in everybody's audio.

    What was built for the start stays for good and need not be looked through; little of a session is in cycles.
    With Python's own thresholds full collections of 0.1 s and more fall into bursts of opens.
    """
    await started.wait()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_THRESHOLDS)
