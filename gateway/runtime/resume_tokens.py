"""The tokens by which a caller finds its session again: sealed, bound to the caller, and of short life."""

import time
from typing import Final

import msgspec

from gateway.core.principal import Principal
from gateway.runtime.ports import TokenSealer

PURPOSE: Final = "resume"
# The same answer to whatever opens nothing.
NO_SESSION: Final = "the token does not open a session, or not any more"
# From its issue. A caller gets another one long before: see `ResumeOptions`.
LIFE_SECONDS: Final = 210


class ResumeToken(msgspec.Struct, frozen=True, array_like=True):
    """Which session, whose, and since when. `number` counts the tokens of one owner."""

    session_id: str
    tenant: str
    caller: str
    # Whose pool has its lines.
    template: str
    epoch: int
    number: int
    issued_at_unix_ms: int

    def is_of(self, principal: Principal) -> bool:
        """Whether it was given to this caller."""
        return (self.tenant, self.caller) == (principal.tenant, principal.caller)

    def is_alive(self, now_unix_ms: int) -> bool:
        """Whether it still opens a session at a gateway that does not have it. By the wall clock: gateways share it."""
        return abs(now_unix_ms - self.issued_at_unix_ms) <= LIFE_SECONDS * 1000


class ResumeTokens:
    """Makes and reads them."""

    def __init__(self, sealer: TokenSealer) -> None:
        """Seal with `sealer`."""
        self._sealer = sealer

    def issue(self, session_id: str, principal: Principal, template: str, epoch: int, number: int) -> str:
        """Return a token that lives from now on."""
        issued_at = time.time_ns() // 1_000_000
        token = ResumeToken(session_id, principal.tenant, principal.caller, template, epoch, number, issued_at)
        return self._sealer.seal(PURPOSE, msgspec.msgpack.encode(token))

    def read(self, text: str) -> ResumeToken | None:
        """Return what a token says; None = none of ours."""
        content = self._sealer.open(PURPOSE, text)
        if content is None:
            return None
        try:
            return msgspec.msgpack.decode(content, type=ResumeToken)
        except msgspec.DecodeError:
            return None
