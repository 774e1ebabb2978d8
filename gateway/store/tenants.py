"""How many lines each tenant has, told from gateway to gateway through Redis."""

import asyncio
import secrets
from collections import Counter
from collections.abc import Mapping
from typing import Final

import msgspec

from gateway.core.errors import Reason, StoreError
from gateway.store.keys import tenants_key
from gateway.store.scripts import TENANTS
from gateway.store.writer import GroupWriter, Job

DEADLINE_SECONDS: Final = 0.3
# A gateway that is not heard of for so long is gone; its tenants' lines with it.
LIFE_MS: Final = 10_000
CALL_BYTES: Final = 256
TENANT_BYTES: Final = 64
_decoder: Final = msgspec.msgpack.Decoder(dict[str, int])


class RedisTenants:
    """`TenantBook`, over the store's connection."""

    def __init__(self, writer: GroupWriter) -> None:
        """Speak as a gateway of a name that no other has."""
        self._writer = writer
        self._gateway_id = secrets.token_hex(8)

    async def exchange(self, account: str, own: Mapping[str, int]) -> Mapping[str, int]:
        """Tell what this gateway's tenants have; return what they have elsewhere. Raises `StoreError`."""
        text = msgspec.msgpack.encode(dict(own)) if own else b""
        rest = (1, tenants_key(account), self._gateway_id, text, LIFE_MS)
        job = Job(
            name="tenants",
            command=("EVALSHA", TENANTS.sha, *rest),
            in_full=("EVAL", TENANTS.text, *rest),
            size_bytes=CALL_BYTES + TENANT_BYTES * len(own),
        )
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                reply = (await self._writer.submit(job)).reply
        except TimeoutError:
            text_of = f"no answer about tenants within {DEADLINE_SECONDS} s"
            raise StoreError(Reason.STORE_UNAVAILABLE, text_of) from None
        others: Counter[str] = Counter()
        for said in reply:
            others.update(_read(bytes(said)))
        return others


def _read(said: bytes) -> dict[str, int]:
    try:
        return _decoder.decode(said)
    except msgspec.DecodeError:  # a later gateway's word: it is not counted
        return {}
