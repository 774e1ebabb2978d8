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

    is_ailing = False

    def __init__(self, options: RedisOptions) -> None:
        """Ask later, in `open`."""
        self._options = options
        # The one that led to a primary last is asked first.
        self._sentinels = list(options.address.places)
        self._primary: ServerLink | None = None

    async def open(self) -> None:
        """Ask for the primary and connect to it. Raises `LinkError`."""
        await self.close()
        why = "no Sentinel is named"
        # One may be cut off and name a primary of old: what it names must prove to be one.
        for place in list(self._sentinels):
            try:
                self._primary = await self._primary_by(place)
            except LinkError as error:
                why = str(error)
                continue
            self._sentinels.remove(place)
            self._sentinels.insert(0, place)
            return
        raise LinkError(f"no Sentinel leads to a primary: {why}")

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

    async def _primary_by(self, sentinel: Place) -> ServerLink:
        """Return a connection to what one Sentinel names, once it says that it is a primary."""
        options = self._options
        link = ServerLink(options, await self._asked(sentinel), database=options.address.database)
        is_primary = False
        try:
            await link.open()
            ends_at = asyncio.get_running_loop().time() + options.deadline_seconds
            (role,) = await link.exchange([("ROLE",)], ends_at)
            if isinstance(role, Refused):
                raise LinkError(role.text)
            if role[0] != PRIMARY:
                raise LinkError("what a Sentinel names is no primary")
            is_primary = True
        finally:
            if not is_primary:
                await link.close()
        return link

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
