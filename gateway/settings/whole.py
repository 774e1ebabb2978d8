"""All settings together, and the rules that hold between sections."""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Final, Literal

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from gateway.settings.rotate import RotateSettings
from gateway.settings.sections import (
    AccountSettings,
    CallerSettings,
    DoorSettings,
    GrpcSettings,
    LimitSettings,
    OpsSettings,
    PoolSettings,
    RedisSettings,
    StoreSettings,
    TargetSettings,
    TemplateSettings,
    is_loopback,
)
from gateway.settings.tracing import TracingSettings
from gateway.store.address import RedisAddress, parse

ENV_PREFIX: Final = "TRUNKLINE_"


class Settings(BaseSettings):
    """Everything that can be configured."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True
    )

    profile: Literal["development", "production"] = Field(
        "development",
        description="production turns off reflection, plaintext listeners beyond loopback, "
        "secrets from the environment and --insecure-dev",
    )
    grpc: GrpcSettings = GrpcSettings()
    ops: OpsSettings = OpsSettings()
    door: DoorSettings = DoorSettings()
    redis: RedisSettings = RedisSettings()
    store: StoreSettings = StoreSettings()
    callers: list[CallerSettings] = Field([], description="who may call")
    accounts: dict[str, AccountSettings] = {"main": AccountSettings()}
    targets: dict[str, TargetSettings] = {"openai": TargetSettings()}
    templates: dict[str, TemplateSettings] = Field(default_factory=lambda: {"default": TemplateSettings()})
    pools: dict[str, PoolSettings] = Field({"default": PoolSettings()}, description="keyed by template")
    rotate: RotateSettings = RotateSettings()
    limits: LimitSettings = LimitSettings()
    tracing: TracingSettings = TracingSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the environment win over the file, whose content comes as init values."""
        del settings_cls, dotenv_settings, file_secret_settings
        return (env_settings, init_settings)

    @model_validator(mode="after")
    def _names_meet(self) -> "Settings":
        for name, target in self.targets.items():
            _known(target.accounts, self.accounts, f"targets.{name}.accounts", "accounts")
        for name, template in self.templates.items():
            _known([template.target], self.targets, f"templates.{name}.target", "targets")
        _known(self.pools, self.templates, "pools", "templates")
        if self.redis.url != "embedded" and not self.store.sealing_keys:
            raise ValueError("store.sealing_keys: an external Redis needs at least one key")
        _check_served(self)
        _check_ceilings(self)
        if self.profile == "production":
            _check_production(self)
        return self


def _check_served(settings: Settings) -> None:
    """Refuse what is in the contract and not served yet, so that nobody relies on it in vain."""
    if not settings.store.opens_without_redis:
        raise ValueError("store.opens_without_redis: false is not served yet")
    for name, template in settings.templates.items():
        if template.durability != "available":
            raise ValueError(f"templates.{name}.durability: strict is not served yet")
        if template.recovery.user_turns == "audio":
            raise ValueError(f"templates.{name}.recovery.user_turns: audio is not served yet")


def ceilings(settings: Settings) -> dict[str, int]:
    """Return how many lines the pools of each account may have together in one process."""
    used: dict[str, int] = {}
    for name, template in settings.templates.items():
        account = settings.targets[template.target].accounts[0]
        ceiling = settings.pools.get(name, PoolSettings()).ceiling
        if settings.accounts[account].safety == "tenant":  # each has lines of its own
            ceiling *= max(1, len({caller.tenant for caller in settings.callers}))
        used[account] = used.get(account, 0) + ceiling
    return used


def _check_ceilings(settings: Settings) -> None:
    for name, total in ceilings(settings).items():
        limit = settings.accounts[name].connections_max
        if total > limit:
            raise ValueError(
                f"accounts.{name}.connections_max is {limit}, but the ceilings of its pools sum up to {total}"
            )


def _known(names: Iterable[str], there: Mapping[str, Any], where: str, what: str) -> None:
    for name in names:
        if name not in there:
            raise ValueError(f"{where}: {name!r} is not among {what}: {', '.join(sorted(there))}")


def _check_production(settings: Settings) -> None:
    host = settings.grpc.address.rpartition(":")[0]
    if settings.grpc.tls.cert_file is None and not is_loopback(host):
        raise ValueError("grpc.tls: in production only a loopback address may go without")
    if settings.redis.url != "embedded":
        _check_production_redis(parse(settings.redis.url))
    for name, account in settings.accounts.items():
        if account.key_file is None:
            raise ValueError(f"accounts.{name}.key_file: needed in production")


def _check_production_redis(address: RedisAddress) -> None:
    """Refuse what would carry sessions in the clear, or let the gateway do more at Redis than it needs."""
    if address.password is not None:
        raise ValueError("redis.url: holds a password; in production it stands in redis.password_file")
    if address.username in (None, "default"):
        raise ValueError("redis.url: in production it names a user of its own, not default")
    if not address.tls and not address.is_local:
        raise ValueError("redis.url: in production only this machine may be reached without TLS (rediss://)")
