"""What can be set on a simulator, validated where it is made."""

from dataclasses import dataclass
from typing import Final

from gateway.simulator.faults import Fault

CONVERSATION_MODELS: Final = frozenset(
    {
        "gpt-realtime",
        "gpt-realtime-1.5",
        "gpt-realtime-2",
        "gpt-realtime-2.1",
        "gpt-realtime-2.1-mini",
        "gpt-realtime-2025-08-28",
        "gpt-realtime-mini",
        "gpt-realtime-mini-2025-10-06",
        "gpt-realtime-mini-2025-12-15",
    }
)
"""Models that a socket may be opened with, as of November 2026."""

_PORT_MAX: Final = 65_535


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorOptions:
    """How a simulator listens and how fast it is. Zero delays and no limits but the provider's own by default.

    port: explicit, never 0: a port from the ephemeral range collides with outgoing connections of a busy test.
    connect_delay_ms: holds back the answer to the upgrade request.
    created_delay_ms: holds back `session.created` after the upgrade.
    first_audio_ms: time between `response.created` and the first output, in real time whatever `speed` says.
    expire_after_seconds: life of a session, as `expires_at` announces it.
    speed: how many times faster than speech a response is produced; `math.inf` sends it at once.
    rate_limits: whether `rate_limits.updated` follows each `response.done`.
    models: what `?model=` may name; anything else is answered 404.
    commentary: whether a word is said before a tool is called, in the same response, as gpt-realtime-2 models may.
    faults: what goes wrong from the start; `fault_from_text` reads them.
    seed: of the chance by which sockets get faults.
    keep_committed: of how many committed turns, the newest, `GET /_sim/committed` tells what they held.
    """

    port: int
    host: str = "127.0.0.1"
    connect_delay_ms: int = 0
    created_delay_ms: int = 0
    first_audio_ms: int = 0
    expire_after_seconds: float = 3600
    speed: float = 5.0
    rate_limits: bool = False
    models: frozenset[str] = CONVERSATION_MODELS
    commentary: bool = False
    faults: tuple[Fault, ...] = ()
    seed: int = 0
    keep_committed: int = 0

    def __post_init__(self) -> None:
        """Refuse what could only fail later. Raises ValueError."""
        if not 0 < self.port <= _PORT_MAX:
            message = f"port must be 1 to {_PORT_MAX}, not {self.port}"
            raise ValueError(message)
        for name in ("connect_delay_ms", "created_delay_ms", "first_audio_ms", "keep_committed"):
            if getattr(self, name) < 0:
                message = f"{name} must not be negative"
                raise ValueError(message)
        if not self.expire_after_seconds > 0 or not self.speed > 0:
            message = "expire_after_seconds and speed must be positive"
            raise ValueError(message)
