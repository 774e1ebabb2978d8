"""All lines of one gateway: a group for each line class, a pool for each template. Follows a changed configuration."""

import asyncio
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Final

import structlog

from gateway.app.served import Served, by_class
from gateway.core.breaker import Breaker, BreakerOptions
from gateway.core.ids import LeaseId
from gateway.core.pool import PoolCore
from gateway.core.pool_limits import PoolStats, together
from gateway.core.share import BARE
from gateway.core.template import LineClass, Template, names_all
from gateway.runtime.observers import PoolObserver
from gateway.runtime.pool import WarmPool
from gateway.runtime.ports import Dialer, Slots
from gateway.runtime.tasks import TaskScope
from gateway.runtime.trunk_group import TrunkGroup
from gateway.settings import Settings, parts

# How long new pools may take to have a line before callers are sent to them.
READY_SECONDS: Final = 10.0
# How often it is looked whether a group that is leaving still has somebody.
LEAVING_SECONDS: Final = 0.5
_log = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class _Leaving:
    """Pools that take nobody new; `is_whole` = their group has no others."""

    group: TrunkGroup
    pools: list[WarmPool]
    is_whole: bool


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
        self._leaving: list[_Leaving] = []
        self._served: dict[LineClass, dict[str, Served]] = {}
        # How often each account's key has changed.
        self._keys: dict[str, int] = {}
        # Pools that take their callers over as soon as they have a line.
        self._fresh: dict[str, WarmPool] = {}
        self._tasks = TaskScope("exchange")

    # Life.

    def build(self, settings: Settings, templates: Mapping[str, Template]) -> None:
        """Make the groups and pools; nothing is dialled before `start`."""
        self._served = by_class(settings, templates)
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

    def change(self, settings: Settings, templates: Mapping[str, Template], new_keys: Iterable[str]) -> None:
        """Follow the settings and the accounts whose keys are new. Running sessions keep their lines.

        Lines are replaced one by one. A template whose lines are of another class now gets a new pool, which takes
        its callers over as soon as it has a line.
        """
        keys = list(new_keys)
        for account in keys:
            self._keys[account] = self._keys.get(account, 0) + 1
        before, wanted = self._served, by_class(settings, templates)
        self._served, latest, fresh = wanted, {**self.pools, **self._fresh}, dict[str, WarmPool]()
        for line_class in wanted.keys() & before.keys():
            self._follow(line_class, before[line_class], wanted[line_class], latest)
            fresh |= self._added(line_class, before[line_class], wanted[line_class])
            for key in before[line_class].keys() - wanted[line_class].keys():
                self._leave(_Leaving(self._groups[line_class], [latest[key]], is_whole=False))
        for account in keys:
            self._forgive(account)
        for line_class in before.keys() - wanted.keys():
            pools = [latest[key] for key in before[line_class]]
            self._leave(_Leaving(self._groups.pop(line_class), pools, is_whole=True))
        for line_class in wanted.keys() - before.keys():
            fresh |= self._made(line_class, wanted[line_class])
            self._groups[line_class].start()
        self._forget({key for served in wanted.values() for key in served})
        self._fresh |= fresh
        for key, pool in fresh.items():
            self._tasks.spawn(self._take_over(key, pool), "taking over")

    def _forget(self, known: Collection[str]) -> None:
        """Let nobody come to what is not served any more."""
        for pools in (self.pools, self._fresh):
            for key in pools.keys() - known:
                del pools[key]

    async def _take_over(self, key: str, pool: WarmPool) -> None:
        """Send callers to a new pool once it has a line, unless a newer one is to have them."""
        if not await _has_line(pool):
            _log.warning("new_pool_without_lines", pool=pool.name)
        if self._fresh.get(key) is pool:
            self.pools[key] = self._fresh.pop(key)

    def _follow(
        self,
        line_class: LineClass,
        before: Mapping[str, Served],
        served: Mapping[str, Served],
        latest: Mapping[str, WarmPool],
    ) -> None:
        """Let a class make the lines of its templates as they are now."""
        group = self._groups[line_class]
        for key in served.keys() & before.keys():
            (template, _, bounds), (old, _, old_bounds) = served[key], before[key]
            latest[key].template = group.templates[template.name] = template
            if bounds != old_bounds:  # else what an operator has set meanwhile stays
                latest[key].set_limits(parts.pool_limits(bounds))
            # What the new one does not name would stay as the old one had it.
            at_once = old.version != template.version and not names_all(template.session, old.session)
            group.perform(group.core.retire(template.name, self._version(template), group.now(), at_once=at_once))
        if group.core.has_bare:
            group.perform(group.core.retire(BARE, self._bare_version(line_class), group.now()))

    def _added(
        self, line_class: LineClass, before: Mapping[str, Served], served: Mapping[str, Served]
    ) -> dict[str, WarmPool]:
        """Let a class serve the templates that are new to it; return their pools."""
        group, fresh = self._groups[line_class], dict[str, WarmPool]()
        for key in served.keys() - before.keys():
            template, tenant, bounds = served[key]
            group.serve(template, self._version(template), parts.pool_limits(bounds))
            fresh[key] = self._back(group, template, tenant) or self._pool(group, template, tenant)
        return fresh

    def _back(self, group: TrunkGroup, template: Template, tenant: str) -> WarmPool | None:
        """Let a pool stay after all that was about to leave; None = it has left."""
        for leaving in self._leaving:
            pool = leaving.pools[0]
            if leaving.group is group and not leaving.is_whole and (pool.name, pool.tenant) == (template.name, tenant):
                self._leaving.remove(leaving)
                pool.template = template
                return pool
        return None

    def _forgive(self, account: str) -> None:
        for group in self._groups.values():
            if group.line_class.account == account:
                group.perform(group.core.forgive(group.now()))

    def _leave(self, leaving: _Leaving) -> None:
        self._leaving.append(leaving)
        self._tasks.spawn(self._see_off(leaving), "leaving")

    async def _see_off(self, leaving: _Leaving) -> None:
        """Let who waits be served, whose phone rings come, and who talks finish; then close."""
        group, pools = leaving.group, leaving.pools
        # Callers are sent here until the new pools have lines.
        if not await self._while(leaving, lambda: any(pool in self.pools.values() for pool in pools)):
            return
        for pool in pools:
            pool.pause()
        if not await self._while(leaving, lambda: any(p.stats().waiting or p.stats().reserved for p in pools)):
            return
        for pool in pools:
            pool.drain()
        if not await self._while(leaving, lambda: any(pool.leases for pool in pools)):
            return
        if leaving.is_whole:
            await group.stop()
        self._leaving.remove(leaving)

    async def _while(self, leaving: _Leaving, has_somebody: Callable[[], bool]) -> bool:
        """Wait for as long as there is somebody; False = it has come back meanwhile."""
        while leaving in self._leaving and has_somebody():  # noqa: ASYNC110 a look now and then
            await asyncio.sleep(LEAVING_SECONDS)
        return leaving in self._leaving

    # Building.

    def _made(self, line_class: LineClass, served: Mapping[str, Served]) -> dict[str, WarmPool]:
        """Make one group and its pools."""
        templates = {template.name: template for template, _, _ in served.values()}
        shares = {
            template.name: (self._version(template), parts.pool_limits(bounds))
            for template, _, bounds in served.values()
        }
        breaker = self._breaker(line_class)
        bare_version = self._bare_version(line_class)
        core = PoolCore(shares, breaker, Random(), _lease_ids(), bare_version)  # noqa: S311 jitter, not a secret
        group = TrunkGroup(line_class, templates, core, self._dialer, self._slots, self._observer)
        pools = {key: self._pool(group, template, tenant) for key, (template, tenant, _) in served.items()}
        group.on_change = partial(self._look_again, group)
        self._groups[line_class] = group
        return pools

    def _breaker(self, line_class: LineClass) -> Breaker:
        """Return the breaker of a target and account; a target that has moved gets a new one."""
        names = (line_class.target, line_class.account)
        moved = all(each.url != line_class.url for each in self._groups if (each.target, each.account) == names)
        if moved or names not in self.breakers:
            self.breakers[names] = Breaker(BreakerOptions())
        return self.breakers[names]

    def _pool(self, group: TrunkGroup, template: Template, tenant: str) -> WarmPool:
        pool = WarmPool(template, group, self._observer, tenant)
        group.on_revoke.append(pool.revoked)
        return pool

    def _version(self, template: Template) -> str:
        """What a ready line must have been made with to be handed out as it is."""
        return f"{template.version}.{self._keys.get(template.line_class.account, 0)}"

    def _bare_version(self, line_class: LineClass) -> str:
        return f".{self._keys.get(line_class.account, 0)}"

    # Others' wishes.

    def give_back(self, account: str, lines: int) -> None:
        """Close warm lines whose places another gateway needs."""
        for group in self._everyone():
            if group.line_class.account == account and lines > 0:
                lines -= group.give_back(lines)

    def fence(self) -> None:
        """Close every line: others may have our places."""
        for group in self._everyone():
            group.perform(group.core.fence(group.now()))

    def stats(self) -> dict[str, PoolStats]:
        """Take a snapshot of every pool; those of one template are added up."""
        pools = [*self.pools.values(), *self._fresh.values(), *self.leaving()]
        found = [(pool.name, pool.stats()) for pool in pools]
        found += [(group.bare_name, group.stats(BARE)) for group in self._everyone() if group.core.has_bare]
        return {name: together([each for key, each in found if key == name]) for name, _ in found}

    def _everyone(self) -> list[TrunkGroup]:
        return [*self._groups.values(), *(each.group for each in self._leaving if each.is_whole)]

    def leaving(self) -> list[WarmPool]:
        """The pools that take nobody new and still have somebody."""
        serving = set(self.pools.values())
        return [pool for each in self._leaving for pool in each.pools if pool not in serving]

    def _look_again(self, changed: TrunkGroup) -> None:
        """Let the other groups of the same breaker look whether they may dial now."""
        mine = (changed.line_class.target, changed.line_class.account)
        for group in self._everyone():
            if group is not changed and (group.line_class.target, group.line_class.account) == mine:
                group.tick()


async def _has_line(pool: WarmPool) -> bool:
    """Return when a pool has a line, or wants none; False = it has not got one in time."""
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + READY_SECONDS
    while (stats := pool.stats()).floor and not stats.ready and not stats.leased:
        if loop.time() >= ends_at:
            return False
        await asyncio.sleep(LEAVING_SECONDS / 5)
    return True


def _lease_ids() -> Iterator[LeaseId]:
    while True:
        yield LeaseId(f"lease_{secrets.token_urlsafe(12)}")
