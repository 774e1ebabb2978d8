"""From settings to the parts that they describe. Reads every secret that is named; starts nothing."""

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from gateway.core.demand import DemandOptions
from gateway.core.pool_limits import PoolLimits
from gateway.core.principal import Principal, Right
from gateway.core.template import LineClass, Template
from gateway.rpc.auth import Authenticator, InsecureDev, StaticTokens, TokenHolder
from gateway.rpc.server import TlsFiles
from gateway.settings.load import SettingsError, environment_key
from gateway.settings.sections import PoolSettings, TemplateSettings, is_loopback
from gateway.settings.whole import Settings
from gateway.store.options import AccountSlots
from gateway.store.sealing_keys import DataKey, read_key
from gateway.upstream.account import Account, ApiKey

# Works with a simulator on loopback, and opens nothing anywhere else.
_SIMULATOR_KEY: Final = "simulator"
# 128 bits: no two tenants share one by chance.
IDENTIFIER_DIGITS: Final = 32


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
    except ValueError:  # a path that cannot be one
        raise SettingsError(f"{where}: no path of a file") from None


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
            model=_model(chosen),
            session_type=chosen.session.get("type", "realtime"),
            account=account,
            safety=settings.accounts[account].safety,
        )
        made[name] = Template(name, line, chosen.session, chosen.recovery.user_turns, chosen.durability)
    return made


def tls_files(settings: Settings) -> TlsFiles | None:
    """Return the files of the listener's TLS; None = it has none."""
    tls = settings.grpc.tls
    if tls.cert_file is None or tls.key_file is None:
        return None
    return TlsFiles(tls.cert_file, tls.key_file, tls.client_ca_file)


def lines_max(settings: Settings) -> int:
    """Return how many lines all pools of one process together may have."""
    # Not the ceilings of today: an operator, or the next configuration, may raise them up to this.
    return sum(account.connections_max for account in settings.accounts.values())


def sealing_keys(settings: Settings) -> list[DataKey]:
    """Return the keys that seal what is stored. Raises `StoreError`."""
    return [read_key(key.id, key.file) for key in settings.store.sealing_keys]


def by_tenant(settings: Settings, made: Iterable[Template]) -> list[tuple[str, Template]]:
    """Return each template with the tenant whose lines it makes; empty = everybody's.

    Where an account wants its tenants named, each tenant has lines of its own.
    """
    tenants = sorted({caller.tenant for caller in settings.callers}) or [InsecureDev.TENANT]
    found: list[tuple[str, Template]] = []
    for template in made:
        if template.line_class.safety != "tenant":
            found.append(("", template))
            continue
        for tenant in tenants:
            line = replace(template.line_class, safety_identifier=tenant_identifier(tenant))
            found.append((tenant, replace(template, line_class=line)))
    return found


def tenant_identifier(tenant: str) -> str:
    """Return what the provider may know of a tenant: always the same, at every gateway, and not its name."""
    return hashlib.sha256(b"trunkline tenant\0" + tenant.encode()).hexdigest()[:IDENTIFIER_DIGITS]


def _model(chosen: TemplateSettings) -> str:
    """The model that answers, or that transcribes where nothing is answered."""
    given = (chosen.session.get("audio") or {}).get("input") or {}
    transcribes = chosen.session.get("type") == "transcription"
    return str(given["transcription"]["model"]) if transcribes and given.get("transcription") else chosen.model


def pool_limits(chosen: PoolSettings) -> PoolLimits:
    """Return the pool's bounds."""
    return PoolLimits(
        floor=chosen.floor,
        rotations_max=chosen.rotations_max,
        ceiling=chosen.ceiling,
        reserve=chosen.reserve,
        reserve_after_ms=chosen.reserve_after_ms,
        dials_max=chosen.dials_max,
        age_max_seconds=chosen.age_max_seconds,
        age_jitter_ratio=chosen.age_jitter_ratio,
        waiters_max=chosen.waiters_max,
        wait_max_ms=chosen.wait_max_ms,
        proof_max_seconds=chosen.proof_max_seconds,
        leak_after_seconds=chosen.leak_after_seconds,
        demand=DemandOptions(enabled=chosen.demand.enabled, k=chosen.demand.k),
    )


def tenant_limits(settings: Settings) -> dict[str, int]:
    """Return how many lines one tenant may have, by account; without those that do not say."""
    limits = {name: account.tenant_lines_max for name, account in settings.accounts.items()}
    return {name: limit for name, limit in limits.items() if limit is not None}


def slots(settings: Settings) -> dict[str, AccountSlots]:
    """Return what the provider allows each account."""
    return {
        name: AccountSlots(account.connections_max, account.dials_per_second, account.dials_burst)
        for name, account in settings.accounts.items()
    }
