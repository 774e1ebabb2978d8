"""How to connect: TLS, deadlines, limits, and the gRPC settings that a voice stream needs."""

from dataclasses import dataclass, fields
from typing import Final

_MEBIBYTE: Final = 1024 * 1024

# Whether `open` asks for a session that outlives its stream, where the caller does not say.
RESUMABLE_BY_DEFAULT: Final = True


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """Files in PEM. Without `ca_file`, gRPC's own roots; with cert and key, mutual TLS."""

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    # The name that the gateway's certificate must carry, where it is not the address's own.
    server_name: str | None = None

    def __post_init__(self) -> None:
        """Refuse half of a key pair."""
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file belong together: give both or none")


@dataclass(frozen=True, slots=True)
class ConnectionOptions:
    """Settings of one client. Deadlines end with TIMED_OUT; sizes are of serialised messages.

    Each number is above 0, else ValueError.
    """

    tls: TlsOptions | None = None
    # Without TLS the token and the audio are readable on the way, so it is for loopback and Unix
    # sockets.
    allow_plaintext: bool = False

    # Deadlines.
    call_timeout_seconds: float = 10.0
    write_timeout_seconds: float = 10.0
    close_timeout_seconds: float = 2.0
    # The gRPC deadline of a session. It bounds every read of it and costs nothing per message; a
    # dead peer is noticed by the pings long before, an idle session ended by the gateway.
    session_timeout_seconds: float = 86_400.0

    # Limits. The gateway sends up to 4 MiB; the rest is room for the frame around it.
    receive_message_max_bytes: int = 4 * _MEBIBYTE + 65_536
    # What may lie unread here before the stream is held up; asyncio, and blocking sessions that are
    # resumable: the others read straight from gRPC.
    receive_buffer_max_bytes: int = 16_384
    # What may wait to be sent before a send waits; blocking alone, for on asyncio a send waits for
    # gRPC itself.
    send_queue_max_bytes: int = 262_144

    # Resumable sessions. The owner of a session and the client's own address are dialled together, in
    # rounds with pauses of chance that grow from the first to the longest. This bounds the wait for the
    # owner where another gateway is there, and is the first one's time to answer.
    owner_timeout_seconds: float = 1.0
    resume_backoff_first_seconds: float = 0.05
    resume_backoff_max_seconds: float = 2.0
    # How much of the audio that was sent can be sent again.
    input_kept_seconds: float = 10.0
    # How soon what has come is acknowledged, where nothing goes that could carry it.
    ack_interval_seconds: float = 0.25

    # HTTP/2. How often a ping is sent, and how long its answer may take.
    keepalive_time_ms: int = 10_000
    ping_timeout_ms: int = 5_000
    # What the gateway may send ahead of what gRPC has handed over here.
    lookahead_bytes: int = 16_384
    # How long one attempt to connect may take, TLS included. gRPC calls it
    # `min_reconnect_backoff_ms`, but it does not slow reconnecting: measured, 100 ms refuses every
    # gateway that is 100 ms away.
    connect_timeout_ms: int = 5_000
    initial_reconnect_backoff_ms: int = 100
    max_reconnect_backoff_ms: int = 2_000
    # How soon a name is looked up again. gRPC waits for 30 s by itself: measured, a client whose
    # gateways were all replaced finds none for so long.
    resolution_interval_ms: int = 1_000

    def __post_init__(self) -> None:
        """Refuse a number that means nothing: gRPC would take it for something else."""
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int | float) and not isinstance(value, bool) and not value > 0:
                raise ValueError(f"{field.name} must be above 0, not {value}")
