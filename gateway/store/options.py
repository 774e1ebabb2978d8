"""What can be chosen about Redis. Validated here; settings only fill it in."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from gateway.core.events import Durability
from gateway.store.keys import RECORD_LIFE_SECONDS

SCHEMES: Final = ("redis", "rediss", "unix")
# A server looks after expired waits ten times a second: its answer to WAIT may be so much late.
SERVER_TICK_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisOptions:
    """Where Redis is, and every limit of what is asked of it. Raises `ValueError`."""

    # Never shown: a URL may hold a password.
    url: str = field(repr=False)
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls_ca_file: Path | None = None
    # What a stored event outlives while all is well: PROCESS for the embedded server.
    durability: Durability = Durability.REPLICATED
    # For one batch, from the first byte out to the last answer, the replicas' included.
    deadline_seconds: float = 0.25
    # For a new connection, with TLS and authentication.
    connect_seconds: float = 1.0
    replicas_wait: int = 0
    replicas_wait_seconds: float = 0.1
    record_life_seconds: int = RECORD_LIFE_SECONDS
    retention_seconds: int = 0
    session_max_entries: int = 1024
    session_max_bytes: int = 1024 * 1024
    # Appends that wait for the writer or are on their way; past it they are refused at once.
    pending_max_bytes: int = 8 * 1024 * 1024
    batch_max_bytes: int = 1024 * 1024
    # The widest pause between two tries to reach a server that is gone.
    probe_max_seconds: float = 1.0
    # A quiet connection is asked this often whether it is still one.
    idle_ping_seconds: float = 2.0

    def __post_init__(self) -> None:
        """Refuse what cannot work, without repeating the URL."""
        if urlsplit(self.url).scheme not in SCHEMES:
            message = f"redis.url must begin with one of {', '.join(f'{s}://' for s in SCHEMES)}"
            raise ValueError(message)
        if self.replicas_wait and self._latest_confirmation_seconds >= self.deadline_seconds:
            message = f"deadline_seconds must exceed replicas_wait_seconds + {SERVER_TICK_SECONDS}"
            raise ValueError(message)
        if self.session_max_bytes > self.pending_max_bytes:
            raise ValueError("pending_max_bytes must hold at least one session's session_max_bytes")

    @property
    def _latest_confirmation_seconds(self) -> float:
        return self.replicas_wait_seconds + SERVER_TICK_SECONDS
