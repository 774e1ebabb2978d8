"""All lines of one gateway: a group for each line class, a pool for each template. Follows a changed configuration."""

import asyncio
import secrets
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from random import Random
from typing import Final

import structlog

from gateway.core.breaker import Breaker, BreakerOptions
from gateway.core.ids import LeaseId
from gateway.core.pool import PoolCore
from gateway.core.pool_limits import PoolStats, together
from gateway.core.share import BARE
from gateway.core.template import LineClass, Template
from gateway.runtime.pool import WarmPool
from gateway.runtime.ports import Dialer, PoolObserver, Slots
from gateway.runtime.tasks import TaskScope
from gateway.runtime.trunk_group import TrunkGroup
from gateway.settings import PoolSettings, Settings, parts

# How long new pools may take to have a line before callers are sent to them.
READY_SECONDS: Final = 10.0
# How often it is looked whether a group that is leaving still has somebody.
LEAVING_SECONDS: Final = 0.5
# A template, the tenant whose lines it makes (empty = everybody's), and the bounds of its pool.
Served = tuple[Template, str, PoolSettings]
_log = structlog.get_logger(__name__)


class Exchange:
    """The groups and pools in force, and those that leave once their callers have."""

    def __init__(self, dialer: Dialer, slots: Slots, observer: PoolObserver) -> None:
        """Begin without any."""
        self._dialer = dialer
        self._slots = slots
        self._observer = observer
        # By template, and tenant where it has lines of its own. Others keep this very mapping.
        self.pools: dict[str, WarmPool] = {}
        self.breakers: dict[tuple[str, str], Breaker] = {}
        self._groups: dict[LineClass, TrunkGroup] = {}
        self._leaving: dict[TrunkGroup, list[WarmPool]] = {}
        self._served: dict[LineClass, dict[str, Served]] = {}
        # How often each account's key has changed.
        self._keys: dict[str, int] = {}
        self._tasks = TaskScope("exchange")

    # Life.

    def build(self, settings: Settings, templates: Mapping[str, Template]) -> None:
        """Make the groups and pools; nothing is dialled before `start`."""
        self._served = _by_class(settings, templates)
        for line_class, served in self._served.items():
            self.pools.update(self._made(line_class, served))

    def start(self) -> None:
        """Open the first lines."""
        for group in self._groups.values():
            group.start()

    def drain(self) -> None:
        """Take nothing new: places and turns are for the gateways that stay."""
        for group in self._everyone():
            group.drain()

    async def stop(self) -> None:
        """Close every line; leases must have ended before."""
        await self._tasks.cancel(LEAVING_SECONDS)
        await asyncio.gather(*(group.stop() for group in self._everyone()))

    # A changed configuration.

    async def change(self, settings: Settings, templates: Mapping[str, Template], new_keys: Iterable[str]) -> None:
        """Follow the settings and the accounts whose keys are new. Running sessions keep their lines.

        Where a line class keeps its templates, their lines are replaced one by one; else it gets new pools, which
        take the callers over as soon as they have a line.
        """
        for account in new_keys:
            self._keys[account] = self._keys.get(account, 0) + 1
        wanted = _by_class(settings, templates)
        stays = {each for each in wanted if each in self._groups and wanted[each].keys() == self._served[each].keys()}
        for line_class in stays:
            self._follow(line_class, wanted[line_class])
        for account in new_keys:
            self._forgive(account)
        leaving = {each: group for each, group in self._groups.items() if each not in stays}
        for line_class in leaving:
            del self._groups[line_class]
        pools = [self._made(each, served) for each, served in wanted.items() if each not in stays]
        for line_class in wanted.keys() - stays:
            self._groups[line_class].start()
        self._served = wanted
        fresh = {key: pool for made in pools for key, pool in made.items()}
        await _have_lines(fresh.values())
        self._hand_over(leaving.values(), fresh, wanted)

    def _follow(self, line_class: LineClass, served: Mapping[str, Served]) -> None:
        group, before = self._groups[line_class], self._served[line_class]
        for key, (template, _, bounds) in served.items():
            self.pools[key].template = group.templates[template.name] = template
            if bounds != before[key][2]:  # else what an operator has set meanwhile stays
                self.pools[key].set_limits(parts.pool_limits(bounds))
            group.retire(template.name, self._version(template))
        if group.core.has_bare:
            group.retire(BARE, self._bare_version(line_class))

    def _forgive(self, account: str) -> None:
        for group in self._groups.values():
            if group.line_class.account == account:
                group.forgive()

    def _hand_over(
        self, groups: Iterable[TrunkGroup], fresh: Mapping[str, WarmPool], wanted: Mapping[LineClass, dict[str, Served]]
    ) -> None:
        known = {key for served in wanted.values() for key in served}
        before = dict(self.pools)
        self.pools.update(fresh)
        for key in self.pools.keys() - known:
            del self.pools[key]
        for group in groups:
            self._leaving[group] = [pool for key, pool in before.items() if self.pools.get(key) is not pool]
            self._tasks.spawn(self._see_off(group), "leaving")

    async def _see_off(self, group: TrunkGroup) -> None:
        """Let who waits be served and who talks finish; then close."""
        pools = self._leaving[group]
        # Nobody new comes: whoever waits has his line, or has gone, after so long.
        await asyncio.sleep(max((pool.limits.wait_max_ms / 1000 for pool in pools), default=0.0))
        group.drain()
        while any(pool.leases for pool in pools):  # noqa: ASYNC110 a look now and then; nobody waits for it
            await asyncio.sleep(LEAVING_SECONDS)
        await group.stop()
        del self._leaving[group]

    # Building.

    def _made(self, line_class: LineClass, served: Mapping[str, Served]) -> dict[str, WarmPool]:
        """Make one group and its pools."""
        templates = {template.name: template for template, _, _ in served.values()}
        shares = {
            template.name: (self._version(template), parts.pool_limits(bounds))
            for template, _, bounds in served.values()
        }
        breaker = self.breakers.setdefault((line_class.target, line_class.account), Breaker(BreakerOptions()))
        bare_version = self._bare_version(line_class)
        core = PoolCore(shares, breaker, Random(), _lease_ids(), bare_version)  # noqa: S311 jitter, not a secret
        group = TrunkGroup(line_class, templates, core, self._dialer, self._slots, self._observer)
        pools = {
            key: WarmPool(template, group, self._observer, tenant) for key, (template, tenant, _) in served.items()
        }
        group.on_revoke = partial(_revoke, list(pools.values()))
        group.on_change = partial(self._look_again, group)
        self._groups[line_class] = group
        return pools

    def _version(self, template: Template) -> str:
        """What a ready line must have been made with to be handed out as it is."""
        return f"{template.version}.{self._keys.get(template.line_class.account, 0)}"

    def _bare_version(self, line_class: LineClass) -> str:
        return f".{self._keys.get(line_class.account, 0)}"

    # Others' wishes.

    def give_back(self, account: str, lines: int) -> None:
        """Close warm lines whose places another gateway needs."""
        for group in self._everyone():
            if group.line_class.account == account:
                lines -= group.give_back(lines)

    def fence(self) -> None:
        """Close every line: others may have our places."""
        for group in self._everyone():
            group.fence()

    def stats(self) -> dict[str, PoolStats]:
        """Take a snapshot of every pool; those of one template are added up."""
        pools = [*self.pools.values(), *(pool for leaving in self._leaving.values() for pool in leaving)]
        found = [(pool.name, pool.stats()) for pool in pools]
        found += [(group.bare_name, group.stats(BARE)) for group in self._everyone() if group.core.has_bare]
        return {name: together([each for key, each in found if key == name]) for name, _ in found}

    def _everyone(self) -> list[TrunkGroup]:
        return [*self._groups.values(), *self._leaving]

    def _look_again(self, changed: TrunkGroup) -> None:
        """Let the other groups of the same breaker look whether they may dial now."""
        mine = (changed.line_class.target, changed.line_class.account)
        for group in self._everyone():
            if group is not changed and (group.line_class.target, group.line_class.account) == mine:
                group.tick()


def _by_class(settings: Settings, templates: Mapping[str, Template]) -> dict[LineClass, dict[str, Served]]:
    """Sort the templates, and their tenants' own, by what is fixed when a line is dialled."""
    found: dict[LineClass, dict[str, Served]] = {}
    for tenant, template in parts.by_tenant(settings, templates.values()):
        key = f"{template.name}\0{tenant}" if tenant else template.name
        bounds = settings.pools.get(template.name, PoolSettings())
        found.setdefault(template.line_class, {})[key] = (template, tenant, bounds)
    return found


async def _have_lines(pools: Iterable[WarmPool]) -> None:
    """Return when each pool has a line, or wants none, or has not got one in time."""
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + READY_SECONDS
    waiting = list(pools)
    while loop.time() < ends_at:
        waiting = [pool for pool in waiting if (stats := pool.stats()).floor and not stats.ready and not stats.leased]
        if not waiting:
            return
        await asyncio.sleep(LEAVING_SECONDS / 5)
    _log.warning("new_pools_without_lines", pools=[pool.name for pool in waiting])


def _lease_ids() -> Iterator[LeaseId]:
    while True:
        yield LeaseId(f"lease_{secrets.token_urlsafe(12)}")


def _revoke(pools: Iterable[WarmPool], lease_id: LeaseId) -> None:
    for pool in pools:
        pool.revoked(lease_id)
