"""The way to the primaries of a Cluster: each command goes where its key lives, and follows it when it moves.

Commands of one session share a key's hash tag, so they go to one node, in order. A node's trouble is its own: its
commands are refused, and the others are served.
"""

import asyncio
import math
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from typing import Any, Final

import structlog
from redis.crc import key_slot

from gateway.store.address import Place
from gateway.store.link import Command, LinkError, Refusal, Refused, Reply, ServerLink
from gateway.store.options import RedisOptions

# How often a command follows its key in one exchange, and the pause where a node asks for one.
ROUNDS_MAX: Final = 6
LATER_SECONDS: Final = 0.02
# Before a node that did not answer is tried again.
DEAD_SECONDS: Final = 1.0
_ELSEWHERE: Final = frozenset({Refusal.MOVED, Refusal.ASK, Refusal.LATER})
# Where the key stands in a command; a script's stands behind the number of its keys.
_KEY_AT: Final = {
    "EVALSHA": 3, "EVAL": 3, "SET": 1, "DEL": 1, "EXISTS": 1, "PEXPIRE": 1, "XRANGE": 1,
}  # fmt: skip
log = structlog.get_logger()


class Everywhere(list[Reply]):
    """The answers of all primaries to one command that has no key."""


class ClusterLink:
    """`Link` to all primaries."""

    def __init__(self, options: RedisOptions) -> None:
        """Find the nodes later, in `open`."""
        self._options = options
        self._links: dict[Place, ServerLink] = {}
        # (first slot, last slot, its primary)
        self._ranges: list[tuple[int, int, Place]] = []
        # Nodes that did not answer, and until when (loop time) they are left alone; +inf = one is being tried.
        self._dead: dict[Place, float] = {}
        # Those whose loss was told, until they answer.
        self._mourned: set[Place] = set()
        # One of the dead answers again: the map is to be looked at.
        self._revived = False
        self._revivals: dict[Place, asyncio.Task[None]] = {}
        # Nodes that take no writes now.
        self._ailing: set[Place] = set()
        # What was written to a node since the last WAIT that nobody can be asked about any more.
        self._unconfirmed = False

    async def open(self) -> None:
        """Find out who has which slots, and connect to them. Raises `LinkError`."""
        await self.close()
        why = "no node is named"
        for place in self._options.address.places:
            try:
                await self._know(place)
            except LinkError as error:
                why = str(error)
                await self.close()
                continue
            return
        raise LinkError(f"no node of the Cluster serves: {why}")

    async def exchange(self, commands: Sequence[Command], ends_at: float) -> list[Reply]:
        """Send each command to its node; return the answers in order. Raises `LinkError` when no node answers.

        A command without a key goes to every primary: `WAIT` answers the least, others `Everywhere`.
        """
        await self._look_for_the_dead()
        replies: list[Reply] = [None] * len(commands)
        todo = list(range(len(commands)))
        for _ in range(ROUNDS_MAX):
            await self._round(commands, todo, replies, ends_at)
            todo = [at for at in todo if isinstance(replies[at], Refused) and replies[at].refusal in _ELSEWHERE]
            if not todo:
                break
            if any(replies[at].refusal is Refusal.MOVED for at in todo):
                await self._know_again()
            elif any(replies[at].refusal is Refusal.LATER for at in todo):
                await asyncio.sleep(LATER_SECONDS)
        for at in todo:  # a slot that is on its way for long: its own sessions try again, and nobody else's
            replies[at] = replace(replies[at], refusal=Refusal.COMMAND)
        return replies

    @property
    def is_ailing(self) -> bool:
        """Whether some sessions cannot be stored."""
        return bool(self._dead or self._ailing)

    async def close(self) -> None:
        """Drop every connection."""
        for revival in list(self._revivals.values()):
            revival.cancel()
        self._revivals.clear()
        links, self._links, self._ranges = self._links, {}, []
        self._dead.clear()
        self._ailing.clear()
        self._unconfirmed = False
        for link in links.values():
            await link.close()

    # Where.

    async def _know(self, asked: Place) -> None:
        """Ask one node who has which slots, and connect to those that are new. Raises `LinkError`."""
        link = await self._linked(asked)
        ends_at = self._now() + self._options.deadline_seconds
        (answer,) = await link.exchange([("CLUSTER", "SLOTS")], ends_at)
        if isinstance(answer, Refused) or not answer:
            raise LinkError(answer.text if isinstance(answer, Refused) else "the Cluster has no slots")
        # A node may not know its own name: then it is where it was asked.
        self._ranges = [
            (first, last, ((node[0] or b"").decode() or asked[0], node[1])) for first, last, node, *_ in answer
        ]
        primaries = {place for _, _, place in self._ranges}
        for place in self._links.keys() - primaries:
            await self._drop(place)
        self._forget(primaries)
        for place in primaries - self._dead.keys():
            try:
                await self._linked(place)
            except LinkError as error:
                await self._bury(place, error)
        if not self._links:
            raise LinkError("no primary of the Cluster can be reached")

    def _forget(self, primaries: set[Place]) -> None:
        """Mind no more what nodes do that have no slots."""
        for place in self._revivals.keys() - primaries:
            self._revivals.pop(place).cancel()
        self._dead = {place: until for place, until in self._dead.items() if place in primaries}
        self._ailing &= primaries
        self._mourned &= primaries

    async def _know_again(self) -> None:
        """Ask the nodes in turn; raises `LinkError` when none tells."""
        for place in list(self._links):
            try:
                await self._know(place)
            except LinkError as error:
                await self._bury(place, error)
                continue
            return
        raise LinkError("no primary of the Cluster answers")

    async def _look_for_the_dead(self) -> None:
        """Try again, beside what goes on, those that were left alone for long enough; others may have their slots."""
        now = self._now()
        due = [place for place, until in self._dead.items() if until <= now]
        for place in due:
            self._dead[place] = math.inf
            self._revivals[place] = asyncio.create_task(self._revive(place), name="cluster node")
        if (due or self._revived) and self._links:
            self._revived = False
            await self._know_again()

    async def _revive(self, place: Place) -> None:
        """Find out whether a node answers again; whether it is a primary still, the others tell."""
        link = ServerLink(self._options, place)
        try:
            await link.open()
            # A frozen server's kernel takes connections, too.
            await link.exchange([("PING",)], self._now() + self._options.deadline_seconds)
        except LinkError:
            self._dead[place] = self._now() + DEAD_SECONDS
        else:
            self._dead.pop(place, None)
            self._revived = True
        finally:
            self._revivals.pop(place, None)
            await link.close()

    async def _linked(self, place: Place) -> ServerLink:
        if place not in self._links:
            link = ServerLink(self._options, place)
            await link.open()
            self._links[place] = link
        return self._links[place]

    async def _drop(self, place: Place) -> None:
        link = self._links.pop(place, None)
        if link is not None:
            self._unconfirmed = True
            await link.close()

    async def _bury(self, place: Place, error: Exception) -> None:
        if place not in self._mourned:
            self._mourned.add(place)
            log.warning("cluster_node_lost", address=f"{place[0]}:{place[1]}", error=str(error) or "no answer in time")
        await self._drop(place)
        self._dead[place] = self._now() + DEAD_SECONDS

    def _home(self, command: Command) -> Place | None:
        """Return the node of a command's key; None = it has no key. Raises `LinkError` for a slot that nobody has."""
        at = _KEY_AT.get(str(command[0]))
        if at is None:
            return None
        slot = key_slot(str(command[at]).encode())
        for first, last, place in self._ranges:
            if first <= slot <= last:
                return place
        raise LinkError("the Cluster does not serve every slot")

    # A round.

    async def _round(self, commands: Sequence[Command], todo: list[int], replies: list[Reply], ends_at: float) -> None:
        """Send what is to be sent, node by node and all nodes at once."""
        batches: dict[Place, list[tuple[int, bool]]] = {}
        for at in todo:
            before, home = replies[at], self._home(commands[at])
            asks = isinstance(before, Refused) and before.refusal is Refusal.ASK
            places = [before.place] if asks else list(self._links) if home is None else [home]
            for place in places:
                batches.setdefault(place, []).append((at, asks))
        works = [self._sent(place, commands, batch, ends_at) for place, batch in batches.items()]
        found: dict[int, Everywhere] = {}
        for answers in await _all_done(works):
            for at, reply in answers:
                found.setdefault(at, Everywhere()).append(reply)
        if not self._links:
            raise LinkError("no primary of the Cluster answers")
        for at, each in found.items():
            replies[at] = each[0] if self._home(commands[at]) is not None else self._together(commands[at], each)

    async def _sent(
        self, place: Place, commands: Sequence[Command], batch: list[tuple[int, bool]], ends_at: float
    ) -> list[tuple[int, Reply]]:
        """Send one node its commands; a key that is just moving is announced to its new node."""
        sent: list[Command] = []
        for at, asks in batch:
            sent += [("ASKING",), commands[at]] if asks else [commands[at]]
        refused = Refused(Refusal.COMMAND, f"{place[0]}:{place[1]} did not answer")
        if place in self._dead or self._now() >= ends_at:  # who was not asked in time is not to blame
            return [(at, refused) for at, _ in batch]
        try:
            async with asyncio.timeout_at(ends_at):
                replies = iter(await (await self._linked(place)).exchange(sent, ends_at))
        except (LinkError, TimeoutError) as error:
            await self._bury(place, error)
            return [(at, refused) for at, _ in batch]
        answers: list[tuple[int, Reply]] = []
        for at, asks in batch:
            if asks:
                next(replies)
            answers.append((at, self._seen_from(place, next(replies))))
        return answers

    def _seen_from(self, place: Place, reply: Reply) -> Reply:
        """Say what one node's refusal means to the whole: its trouble is its own, unless all have some."""
        if not isinstance(reply, Refused):
            self._ailing.discard(place)
            self._mourned.discard(place)
            return reply
        if reply.refusal is Refusal.UNUSABLE and reply.is_local:
            if place not in self._ailing:
                log.warning("cluster_node_refuses", address=f"{place[0]}:{place[1]}", error=reply.text)
            self._ailing.add(place)
            return reply if self._ailing >= self._links.keys() else replace(reply, refusal=Refusal.COMMAND)
        if reply.place is not None and not reply.place[0]:  # it does not say where: on its own host
            return replace(reply, place=(place[0], reply.place[1]))
        return reply

    def _together(self, command: Command, replies: Everywhere) -> Reply:
        """Make one answer of all nodes'."""
        refused = next((reply for reply in replies if isinstance(reply, Refused)), None)
        if refused is not None:
            return refused
        if command[0] != "WAIT":
            return replies
        unconfirmed, self._unconfirmed = self._unconfirmed, False
        return 0 if unconfirmed else min(replies)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


async def _all_done(works: Sequence[Coroutine[Any, Any, list[tuple[int, Reply]]]]) -> list[list[tuple[int, Reply]]]:
    """Return what all came to, once all have ended; raise the first failure."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.wait(tasks)
    finally:
        for task in tasks:
            task.cancel()
    return [task.result() for task in tasks]
