"""The way to the primary that Sentinels name. Asked anew at each connect, so that a fail-over is followed."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from gateway.store.address import Place
from gateway.store.link import Command, LinkError, Refused, Reply, ServerLink
from gateway.store.options import RedisOptions

PRIMARY: Final = b"master"


class SentinelLink:
    """`Link` to the primary of the moment."""

    def __init__(self, options: RedisOptions) -> None:
        """Ask later, in `open`."""
        self._options = options
        # The one that answered last is asked first.
        self._sentinels = list(options.address.places)
        self._primary: ServerLink | None = None

    async def open(self) -> None:
        """Ask for the primary and connect to it. Raises `LinkError`."""
        await self.close()
        link = ServerLink(self._options, await self._named(), database=self._options.address.database)
        await link.open()
        self._primary = link
        ends_at = asyncio.get_running_loop().time() + self._options.deadline_seconds
        (role,) = await self.exchange([("ROLE",)], ends_at)
        # A Sentinel may not have heard yet that it was demoted.
        if isinstance(role, Refused) or role[0] != PRIMARY:
            await self.close()
            raise LinkError(role.text if isinstance(role, Refused) else "what the Sentinels name is no primary")

    async def exchange(self, commands: Sequence[Command], ends_at: float) -> list[Reply]:
        """Send `commands` to the primary; see `Link`."""
        if self._primary is None:
            raise LinkError("not connected")
        return await self._primary.exchange(commands, ends_at)

    async def close(self) -> None:
        """Drop the connection."""
        primary, self._primary = self._primary, None
        if primary is not None:
            await primary.close()

    async def _named(self) -> Place:
        why = "no Sentinel is named"
        for place in list(self._sentinels):
            try:
                found = await self._asked(place)
            except LinkError as error:
                why = str(error)
                continue
            self._sentinels.remove(place)
            self._sentinels.insert(0, place)
            return found
        raise LinkError(f"no Sentinel tells where the primary is: {why}")

    async def _asked(self, place: Place) -> Place:
        options, address = self._options, self._options.address
        # Each has its part of the time that a connect may take; their users are not the servers'.
        seconds = options.connect_seconds / len(self._sentinels)
        mine = replace(
            options,
            url=f"{'rediss' if address.tls else 'redis'}://{place[0]}",
            username=None,
            password=None,
            password_file=options.sentinel_password_file,
            connect_seconds=seconds,
        )
        link = ServerLink(mine, place)
        try:
            await link.open()
            ends_at = asyncio.get_running_loop().time() + seconds
            (answer,) = await link.exchange([("SENTINEL", "GET-MASTER-ADDR-BY-NAME", address.name)], ends_at)
        finally:
            await link.close()
        if isinstance(answer, Refused) or not answer:
            raise LinkError(answer.text if isinstance(answer, Refused) else f"no primary is called {address.name}")
        host, port = answer
        return host.decode(), int(port)
