"""What the services reach of the runtime."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gateway.core.events import Durability
from gateway.core.template import Template
from gateway.runtime.directory import Directory
from gateway.runtime.pool import WarmPool
from gateway.runtime.reservations import Reservations


@dataclass(frozen=True, slots=True)
class ServiceParts:
    """What the services reach."""

    directory: Directory
    pools: Mapping[str, WarmPool]
    reservations: Reservations
    # This gateway's name in admin answers, and where callers are told to come back to.
    gateway: str
    owner_address: str
    version: str
    message_max_bytes: int
    durability: Callable[[], Durability]

    def templates(self) -> list[Template]:
        """Every template, by name."""
        return [self.pools[name].template for name in sorted(self.pools)]
