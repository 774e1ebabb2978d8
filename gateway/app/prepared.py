"""What a configuration and the files that it names come to."""

from dataclasses import dataclass

from gateway.core.rotation import RotationOptions
from gateway.core.slowness import SlownessOptions
from gateway.core.template import Template
from gateway.rpc.auth import Authenticator
from gateway.rpc.server import ListenError, check_tls
from gateway.runtime.session_options import SessionOptions
from gateway.settings import Settings, SettingsError, parts
from gateway.store.sealing_keys import DataKey
from gateway.upstream.account import Account


@dataclass(frozen=True, slots=True)
class Prepared:
    """All that can be followed while a gateway runs, read and checked."""

    authenticator: Authenticator
    accounts: dict[str, Account]
    templates: dict[str, Template]
    sealing_keys: list[DataKey]


def session_options(settings: Settings) -> SessionOptions:
    """Return the limits of each session."""
    limits, rotate = settings.limits, settings.rotate
    return SessionOptions(
        message_max_bytes=limits.message_max_bytes,
        session_life_max_seconds=limits.session_life_max_seconds,
        session_idle_max_seconds=limits.session_idle_max_seconds,
        heartbeat_ms=limits.heartbeat_ms,
        rotation=RotationOptions(rotate.before_seconds, rotate.jitter_seconds, rotate.hard_seconds),
        slowness=SlownessOptions(ratio=rotate.slow_ratio, sums_up=rotate.sums_up),
    )


def prepare(settings: Settings, *, insecure_dev: bool) -> Prepared:
    """Read every file that is named. Raises `SettingsError` or `StoreError`."""
    if (files := parts.tls_files(settings)) is not None:  # the listener itself follows them, at each handshake
        try:
            check_tls(files)
        except ListenError as error:
            raise SettingsError(str(error)) from None
    return Prepared(
        parts.authenticator(settings, insecure_dev=insecure_dev),
        parts.accounts(settings),
        parts.templates(settings),
        # The embedded server's key is this process's own.
        parts.sealing_keys(settings) if settings.redis.url != "embedded" else [],
    )
