"""What can be configured, section by section: names, defaults, meaning, and the bounds of each value."""

import ipaddress
import json
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from gateway.core.principal import Right
from gateway.store.address import parse

# What may stand in a header: no blank, no line end.
HEADER_WORD: Final = r"^[\x21-\x7e]+$"
# The name of a sealing key: it stands in each record.
KEY_ID: Final = r"^[A-Za-z0-9._-]{1,64}$"
# The longest that the contract's 32-bit counts and a day's work need.
LIFE_MAX_SECONDS: Final = 86_400
PORT_MAX: Final = 65_535


def is_loopback(host: str) -> bool:
    """Whether a host name or address can only be this machine."""
    name = host.strip("[]")
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


class Section(BaseModel):
    """A part of the configuration. What it does not know is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _host_and_port(address: str) -> str:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) <= PORT_MAX:
        raise ValueError(f"{address!r} is no HOST:PORT with a port of 1 to {PORT_MAX}")
    return address


ListenAddress = Annotated[str, AfterValidator(_host_and_port)]


def port_is_valid(parts: SplitResult) -> bool:
    """Whether the port of a URL, where it has one, is a port."""
    try:
        return parts.port is None or parts.port > 0
    except ValueError:
        return False


class TlsSettings(Section):
    """Files of a listener's TLS; changed files are used without a restart."""

    cert_file: Path | None = Field(None, description="the certificate chain, PEM")
    key_file: Path | None = Field(None, description="its private key, PEM")
    client_ca_file: Path | None = Field(None, description="callers must show a certificate of this authority")

    @model_validator(mode="after")
    def _pair(self) -> "TlsSettings":
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file go together")
        if self.client_ca_file is not None and self.cert_file is None:
            raise ValueError("client_ca_file needs cert_file and key_file")
        return self


class GrpcSettings(Section):
    """The door for callers."""

    address: ListenAddress = Field("127.0.0.1:50051", description="where callers connect")
    advertise: str | None = Field(None, description="the address that callers are told to resume at; null = none")
    tls: TlsSettings = TlsSettings()


class OpsSettings(Section):
    """Metrics and probes."""

    address: ListenAddress = Field("127.0.0.1:9464", description="/metrics, /livez, /readyz over HTTP")


class DoorSettings(Section):
    """The OpenAI-compatible WebSocket."""

    address: ListenAddress = Field("127.0.0.1:8080", description="not served yet")
    browser_origins: list[str] = Field([], description="not served yet")


class RedisSettings(Section):
    """Where session state is kept."""

    url: str = Field(
        "embedded",
        repr=False,
        description="embedded | redis:// rediss:// unix:// | redis+sentinel://HOST:PORT,…/NAME/DB | "
        "redis+cluster://HOST:PORT,… (with TLS: rediss+…)",
    )
    password_file: Path | None = Field(None, description="the password of the URL's user, read at each connect")
    sentinel_password_file: Path | None = Field(None, description="the Sentinels' own password, where they ask for one")
    ca_file: Path | None = Field(
        None, description="the authority of the servers' certificates, PEM; null = the system's"
    )

    @model_validator(mode="after")
    def _known(self) -> "RedisSettings":
        address = None if self.url == "embedded" else parse(self.url)
        if address is None and (self.password_file or self.sentinel_password_file or self.ca_file):
            raise ValueError("password_file, sentinel_password_file and ca_file are for an external Redis")
        if address is not None and address.password is not None and self.password_file is not None:
            raise ValueError("url holds a password, and password_file names another one")
        if self.ca_file is not None and address is not None and not address.tls:
            raise ValueError("ca_file needs a URL that begins with rediss")
        return self


class SealingKeySettings(Section):
    """One key that seals session state."""

    id: str = Field(pattern=KEY_ID, description="named in each record")
    file: Path = Field(description="32 bytes: raw, as hex or as base64")


class StoreSettings(Section):
    """How session state is kept."""

    sealing_keys: list[SealingKeySettings] = Field(
        [], description="the first seals, all open; needed with an external Redis"
    )
    replicas_wait: int = Field(0, ge=0, description="replicas that must confirm an event")
    durable_hold_ms: int = Field(
        250, ge=0, description="how long an event may wait for its store before it goes out anyway"
    )
    opens_without_redis: bool = Field(True, description="whether sessions open while it is down; no effect yet")
    retention_seconds: int = Field(0, ge=0, description="how long state stays after the end")

    @model_validator(mode="after")
    def _ids_differ(self) -> "StoreSettings":
        ids = [key.id for key in self.sealing_keys]
        if len(set(ids)) != len(ids):
            raise ValueError("sealing_keys: two keys have one id")
        return self


class CallerSettings(Section):
    """One caller with a static token."""

    name: str = Field(description="in logs and admin answers")
    tenant: str = Field(description="whose it is")
    token_sha256_file: Path = Field(description="the SHA-256 of its token, as hex")
    rights: list[Right] = Field([Right.CONVERSE], description="converse, read, admin")


class AccountSettings(Section):
    """Whose key is used at the provider."""

    key_file: Path | None = Field(None, description="the API key; null in development = OPENAI_API_KEY")
    organization: str | None = Field(None, pattern=HEADER_WORD, description="sent as OpenAI-Organization")
    project: str | None = Field(None, pattern=HEADER_WORD, description="sent as OpenAI-Project")
    connections_max: int = Field(100, ge=1, description="the provider's limit for the account, shared by all gateways")
    tenant_lines_max: int | None = Field(None, ge=1, description="of one tenant, at all gateways; null = no limit")
    dials_per_second: float = Field(5, gt=0, description="how often lines may be opened, by all gateways together")
    dials_burst: int = Field(10, ge=1, description="and how many at once after a quiet time")
    safety: Literal["none", "tenant", "end_user"] = Field(
        "none", description="which safety identifier a line carries: none, its tenant's, or its end user's"
    )


class TargetSettings(Section):
    """A place that speaks the Realtime API."""

    provider: Literal["openai"] = Field("openai", description="its dialect")
    url: str = Field("wss://api.openai.com/v1/realtime", description="ws:// on loopback only")
    accounts: list[str] = Field(["main"], min_length=1, description="the first one is used")

    @model_validator(mode="after")
    def _safe(self) -> "TargetSettings":
        parts = urlsplit(self.url)
        extra = "@" in parts.netloc or parts.query or parts.fragment
        if parts.scheme not in ("ws", "wss") or not parts.hostname or extra or not port_is_valid(parts):
            raise ValueError("url must be wss://HOST[:PORT]/PATH, without a user, a query or a fragment")
        if parts.scheme == "ws" and not is_loopback(parts.hostname):
            raise ValueError("url may be ws:// on loopback only: the key would travel in the clear")
        return self


class RecoverySettings(Section):
    """What a recovered conversation gets back."""

    user_turns: Literal["transcript", "audio", "none"] = Field("transcript", description="audio is not served yet")


def _default_session() -> dict[str, Any]:
    pcm = {"type": "audio/pcm", "rate": 24_000}
    return {
        "output_modalities": ["audio"],
        "audio": {
            "input": {
                "format": pcm,
                "transcription": {"model": "gpt-realtime-whisper"},
                "turn_detection": {"type": "server_vad"},
            },
            "output": {"format": pcm, "voice": "marin"},
        },
    }


class TemplateSettings(Section):
    """A named configuration that lines are made ready with."""

    target: str = Field("openai", description="where its lines are dialled")
    model: str = Field("gpt-realtime-2.1", description="the provider's model")
    session: dict[str, Any] = Field(default_factory=_default_session, description="the provider's session object")
    recovery: RecoverySettings = RecoverySettings()
    durability: Literal["available", "strict"] = Field("available", description="strict is not served yet")
    language: str | None = Field(None, description="BCP 47, for fallback speech; no effect yet")
    keep_warm: bool = Field(False, description="keep lines ready where idling costs money; no effect yet")

    @model_validator(mode="after")
    def _is_json(self) -> "TemplateSettings":
        try:
            json.dumps(self.session, sort_keys=True, allow_nan=False)
        except (TypeError, ValueError, RecursionError):
            raise ValueError("session must be what JSON can say") from None
        if not isinstance(self.session.get("type", ""), str):
            raise ValueError("session.type must be a word")
        return self

    @model_validator(mode="after")
    def _transcribes(self) -> "TemplateSettings":
        audio = self.session.get("audio") or {}
        given = (audio.get("input") if isinstance(audio, dict) else audio) or {}
        if not isinstance(given, dict):
            raise ValueError("session.audio and session.audio.input must be mappings")
        if self.recovery.user_turns == "transcript" and not given.get("transcription"):
            raise ValueError(
                "recovery.user_turns is transcript, so session.audio.input.transcription must be "
                "set (or set recovery.user_turns to none)"
            )
        return self


class DemandSettings(Section):
    """How the floor follows demand."""

    enabled: bool = Field(True, description="the floor follows demand, upwards from `floor`")
    k: float = Field(3, ge=0, description="how many deviations above the mean")


class PoolSettings(Section):
    """The bounds of a template's warm lines."""

    floor: int = Field(2, ge=0, description="lines to have ready at least")
    ceiling: int = Field(16, ge=1, description="lines that there may be, in any state")
    reserve: int = Field(2, ge=0, description="of these, kept for callers who have waited")
    reserve_after_ms: int = Field(250, ge=0, description="for so long")
    rotations_max: int = Field(4, ge=0, description="lines above the ceiling, for running sessions that need another")
    dials_max: int = Field(4, ge=1, description="lines being opened at once")
    age_max_seconds: float = Field(300, gt=0, description="how long a line stands ready")
    age_jitter_ratio: float = Field(0.2, ge=0, lt=1, description="so that not all go at once")
    proof_max_seconds: float = Field(
        10, gt=0, description="how old a proof of life may be at most when a line is handed out"
    )
    waiters_max: int = Field(50, ge=0, description="callers that may wait")
    wait_max_ms: int = Field(2000, ge=1, description="for so long")
    leak_after_seconds: float = Field(
        10, gt=0, description="a lease that its session no longer renews is taken back after so long"
    )
    demand: DemandSettings = DemandSettings()

    @model_validator(mode="after")
    def _fits(self) -> "PoolSettings":
        if self.floor + self.reserve > self.ceiling:
            raise ValueError(f"floor {self.floor} + reserve {self.reserve} is over ceiling {self.ceiling}")
        return self


class LimitSettings(Section):
    """The bounds of sessions."""

    message_max_bytes: int = Field(262_144, ge=4096, le=4 << 20, description="from a caller")
    session_life_max_seconds: int = Field(7200, ge=1, le=LIFE_MAX_SECONDS, description="a session's longest life")
    session_idle_max_seconds: int = Field(300, ge=1, le=LIFE_MAX_SECONDS, description="without input and output")
    heartbeat_ms: int = Field(1000, ge=100, le=60_000, description="silence before an ack travels alone")
    drain_seconds: float = Field(45, ge=0, description="how long sessions may finish at a stop")
    sessions_max: int = Field(1000, ge=1, description="sessions in one process")
    connections_max: int = Field(4096, ge=1, description="callers' connections to one process; more are closed at once")
