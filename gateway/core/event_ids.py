"""Names of client events: which are the gateway's own, and which control of the caller one stands for."""

import re
from typing import Final

# Ids that begin so are the gateway's own.
OURS: Final = "tl-"
# The provider allows so long ones.
LENGTH_MAX: Final = 512
CONFIG: Final = "tl-config"
GUARD: Final = "tl-guard"
PROBE: Final = "tl-probe"
ASIDE: Final = "tl-aside"
# A refusal of these is nothing to a caller, who has not asked for them.
UNSEEN: Final = frozenset({GUARD, PROBE, ASIDE})
_CONTROL: Final = "tl-control-"
_AHEAD: Final = "tl-ahead-"
_OF_CONTROL: Final = re.compile(rf"{_CONTROL}([0-9]{{1,20}})-[0-9]+")


def of_control(cseq: int, number: int) -> str:
    """Return a name for the caller's control `cseq`; 0 = it has no number, or the event is the gateway's."""
    return f"{_CONTROL}{cseq}-{number}"


def ahead(number: int) -> str:
    """Return a name for an item that a line is told in advance."""
    return f"{_AHEAD}{number}"


def cseq_of(event_id: str) -> int:
    """Return which control an event stands for; 0 = none."""
    found = _OF_CONTROL.fullmatch(event_id)
    return int(found[1]) if found else 0


def may_be_a_callers(event_id: str) -> bool:
    """Whether a caller may name an event so."""
    return 0 < len(event_id) <= LENGTH_MAX and not event_id.startswith(OURS)
