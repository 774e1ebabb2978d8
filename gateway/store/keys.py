"""The only place that builds keys, and that says how long they live.

Every key of a session carries one hash tag, so a cluster keeps them on one node and one script may
touch them all. The tenant is part of the tag: no two tenants ever share a key. So it is with an
account and with a reservation: a colon stands in their tags, where a session's have a slash.
"""

from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from gateway.runtime.ports import SessionKey

# The longest silence of a live session (300) + the life of the last token it was given (210) + 60,
# so that a record outlives every token that names it, however quiet the call was.
RECORD_LIFE_SECONDS: Final = 570
PROBE_LIFE_SECONDS: Final = 5

# What a probe writes to learn whether writes are taken.
PROBE_KEY: Final = "trunkline:probe"


@dataclass(frozen=True, slots=True)
class SessionKeys:
    """The keys of one session; append.lua says what lies in them."""

    meta: str
    log: str


@dataclass(frozen=True, slots=True)
class AccountKeys:
    """The keys of one account's places, in the order in which slots.lua takes them."""

    counts: str
    expiries: str
    tat: str
    wants: str
    recalls: str
    seen: str
    rejoin: str


def session_keys(key: SessionKey) -> SessionKeys:
    """Return the keys of `key`; two different sessions never share one."""
    tag = f"trunkline:{{{_plain(key.tenant)}/{_plain(key.session_id)}}}"
    return SessionKeys(meta=f"{tag}:m", log=f"{tag}:x")


def account_keys(account: str) -> AccountKeys:
    """Return the keys of `account`; two different accounts never share one."""
    tag = f"trunkline:{{account:{_plain(account)}}}"
    return AccountKeys(
        counts=f"{tag}:counts",
        expiries=f"{tag}:expiries",
        tat=f"{tag}:tat",
        wants=f"{tag}:wants",
        recalls=f"{tag}:recalls",
        seen=f"{tag}:seen",
        rejoin=f"{tag}:rejoin",
    )


def tenants_key(account: str) -> str:
    """Return the key of what each gateway's tenants have at `account`."""
    return f"trunkline:{{account:{_plain(account)}}}:tenants"


def lease_key(lease_id: str) -> str:
    """Return the key of one reservation."""
    return f"trunkline:{{lease:{_plain(lease_id)}}}"


def entry_id(seq: int, epoch: int) -> str:
    """Return the stream id of one entry."""
    return f"{seq}-{epoch}"


def parse_entry_id(raw: bytes) -> tuple[int, int]:
    """Return `(seq, epoch)` of a stream id."""
    seq, _, epoch = raw.partition(b"-")
    return int(seq), int(epoch)


def _plain(name: str) -> str:
    # Leaves letters, digits and `-._~`: no brace, colon or slash can move a boundary.
    return quote(name, safe="")
