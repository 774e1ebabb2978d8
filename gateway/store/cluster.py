"""The way to the primaries of a Cluster: each command goes where its key lives, and follows it when it moves.

Commands of one session share a key's hash tag, so they go to one node, in order.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar

import structlog
from redis.crc import key_slot

from gateway.store.address import Place
from gateway.store.link import Command, LinkError, Refusal, Refused, Reply, ServerLink
from gateway.store.options import RedisOptions

# How often a command follows its key before it is given up, and the pause where a node asks for one.
ROUNDS_MAX: Final = 6
LATER_SECONDS: Final = 0.02
_ELSEWHERE: Final = frozenset({Refusal.MOVED, Refusal.ASK, Refusal.LATER})
# Where the key stands in a command; a script's stands behind the number of its keys.
_KEY_AT: Final = {
    "EVALSHA": 3, "EVAL": 3, "SET": 1, "DEL": 1, "EXISTS": 1, "PEXPIRE": 1, "XRANGE": 1,
}  # fmt: skip


T = TypeVar("T")
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

    async def open(self) -> None:
        """Find out who has which slots, and connect to them. Raises `LinkError`."""
        await self.close()
        why = "no node is named"
        for place in self._options.address.places:
            try:
                await self._know(await self._linked(place), place)
            except LinkError as error:
                why = str(error)
                await self.close()
                continue
            return
        raise LinkError(f"no node of the Cluster serves: {why}")

    async def exchange(self, commands: Sequence[Command], ends_at: float) -> list[Reply]:
        """Send each command to its node; return the answers in order. Raises `LinkError`: see `Link`.

        A command without a key goes to every primary: `WAIT` answers the least, others `Everywhere`.
        """
        replies: list[Reply] = [None] * len(commands)
        todo = list(range(len(commands)))
        for _ in range(ROUNDS_MAX):
            await self._round(commands, todo, replies, ends_at)
            todo = [at for at in todo if isinstance(replies[at], Refused) and replies[at].refusal in _ELSEWHERE]
            if not todo:
                return replies
            if any(replies[at].refusal is Refusal.MOVED for at in todo):
                place, link = next(iter(self._links.items()))
                await self._know(link, place)
            elif any(replies[at].refusal is Refusal.LATER for at in todo):
                await asyncio.sleep(LATER_SECONDS)
        raise LinkError("keys of the Cluster move faster than they can be followed")

    async def close(self) -> None:
        """Drop every connection."""
        links, self._links, self._ranges = self._links, {}, []
        for link in links.values():
            await link.close()

    # Where.

    async def _know(self, link: ServerLink, asked: Place) -> None:
        """Ask one node who has which slots, and connect to those that are new."""
        ends_at = asyncio.get_running_loop().time() + self._options.deadline_seconds
        (answer,) = await link.exchange([("CLUSTER", "SLOTS")], ends_at)
        if isinstance(answer, Refused) or not answer:
            raise LinkError(answer.text if isinstance(answer, Refused) else "the Cluster has no slots")
        # A node may not know its own name: then it is where it was asked.
        self._ranges = [
            (first, last, ((node[0] or b"").decode() or asked[0], node[1])) for first, last, node, *_ in answer
        ]
        primaries = {place for _, _, place in self._ranges}
        for place in self._links.keys() - primaries:
            await self._links.pop(place).close()
        for place in primaries:
            await self._linked(place)

    async def _linked(self, place: Place) -> ServerLink:
        if place not in self._links:
            link = ServerLink(self._options, place)
            await link.open()
            self._links[place] = link
        return self._links[place]

    def _home(self, command: Command) -> Place | None:
        """Return the node of a command's key; None = it has no key."""
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
        for at, each in found.items():
            replies[at] = each[0] if self._home(commands[at]) is not None else _together(commands[at], each)

    async def _sent(
        self, place: Place, commands: Sequence[Command], batch: list[tuple[int, bool]], ends_at: float
    ) -> list[tuple[int, Reply]]:
        """Send one node its commands; a key that is just moving is announced to its new node."""
        link = await self._linked(place)
        sent: list[Command] = []
        for at, asks in batch:
            sent += [("ASKING",), commands[at]] if asks else [commands[at]]
        replies = iter(await link.exchange(sent, ends_at))
        answers: list[tuple[int, Reply]] = []
        for at, asks in batch:
            if asks:
                next(replies)
            answers.append((at, _seen_from(place, next(replies))))
        return answers


def _seen_from(place: Place, reply: Reply) -> Reply:
    """Say what one node's refusal means to the whole: its trouble is its own, and so is an address without a host."""
    if not isinstance(reply, Refused):
        return reply
    if reply.refusal is Refusal.UNUSABLE and reply.is_local:
        log.warning("cluster_node_refuses", address=f"{place[0]}:{place[1]}", error=reply.text)
        return replace(reply, refusal=Refusal.COMMAND)
    if reply.place is not None and not reply.place[0]:
        return replace(reply, place=(place[0], reply.place[1]))
    return reply


async def _all_done(works: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Return what all came to, once all have ended; raise the first failure."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.wait(tasks)
    finally:
        for task in tasks:
            task.cancel()
    return [task.result() for task in tasks]


def _together(command: Command, replies: Everywhere) -> Reply:
    """Make one answer of all nodes'."""
    refused = next((reply for reply in replies if isinstance(reply, Refused)), None)
    if refused is not None:
        return refused
    return min(replies) if command[0] == "WAIT" else replies
