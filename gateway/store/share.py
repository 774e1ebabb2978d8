"""What a gateway may hold of an account without asking: arithmetic, so that all come to the same answer.

Those who hold more than an equal part keep it; the rest is divided evenly among the others, like
water that finds its level between stones. No clock, no store.
"""

from collections.abc import Sequence


def fair_level(cap: int, totals: Sequence[int]) -> int:
    """Return the highest level at which `max(total, level)`, added up over all gateways, is at most `cap`.

    0 when they hold more than `cap` already: then nobody may take anything.
    """
    left, gateways = cap, len(totals)
    for total in sorted(totals, reverse=True):
        if total <= left // gateways:
            break
        left -= total
        gateways -= 1
    return max(0, left // gateways) if gateways else 0


def allowed_total(cap: int, own: int, others: Sequence[int]) -> int:
    """Return how many places the gateway that holds `own` may have: never fewer than it holds."""
    return max(own, fair_level(cap, [own, *others]))
