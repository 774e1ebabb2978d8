"""What the services reach of the runtime."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gateway.core.events import Durability
from gateway.core.principal import Principal, Right
from gateway.core.template import Template
from gateway.runtime.directory import Directory
from gateway.runtime.pool import WarmPool
from gateway.runtime.ports import SessionStore
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
    # Ends this gateway as a first signal does; takes how long sessions may go on, in seconds.
    drain: Callable[[float], None]
    drain_seconds: float
    # Set when the last session has ended: nothing is left to be watched.
    emptied: asyncio.Event
    # Pools that take nobody new and still have somebody.
    leaving: Callable[[], list[WarmPool]]
    # How many lines each account may have.
    lines_max: Mapping[str, int]
    # Whether a caller may still do what it does.
    knows: Callable[[Principal, Right], bool]
    store: SessionStore

    def templates(self) -> list[Template]:
        """Every template, by name."""
        named = {pool.name: pool.template for pool in self.pools.values()}
        return [named[name] for name in sorted(named)]

    def named(self, name: str) -> list[WarmPool]:
        """The pools of a template, one for each tenant where they have lines of their own; empty = of all templates."""
        found = [pool for pool in self.pools.values() if name in ("", pool.name)]
        return sorted(found, key=lambda pool: (pool.name, pool.tenant))
