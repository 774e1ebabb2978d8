"""What the lanes of all sessions share: the store, the stored form, the bounds."""

import asyncio
from dataclasses import dataclass, field
from typing import Final

from gateway.runtime.ports import RecordForm, SessionStore

# Sessions that store again at once: a server loses the records of all, and the loop is for the audio.
TURNS: Final = 2


@dataclass(frozen=True, slots=True)
class LaneOptions:
    """How long an event may be held for its store, and how much may wait to be stored after all."""

    hold_ms: int = 250
    backlog_max_bytes: int = 1 << 20
    backlog_max_entries: int = 1024
    # One append: small enough not to hold up other sessions'.
    append_max_bytes: int = 1 << 18
    # What is stored is kept in memory up to here, for a server that loses it.
    kept_max_bytes: int = 1 << 18
    # One append of what was lost: all sessions have some then, and none may hold the loop up.
    again_max_bytes: int = 1 << 15
    # How long such an append may wait for its turn.
    turn_max_seconds: float = 60.0
    # Before what could not be stored is tried again, if no event comes sooner.
    retry_seconds: float = 1.0


@dataclass(frozen=True, slots=True)
class LaneParts:
    """What the lanes of all sessions share."""

    store: SessionStore
    form: RecordForm
    options: LaneOptions = field(default_factory=LaneOptions)
    # So many sessions at once store again what a server has lost.
    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(TURNS))
