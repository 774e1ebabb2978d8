"""Two slow ends of two distributions compared, and how sure that is."""

import math
import random
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from tests.support.talkers import Talk, percentile

PART: Final = 0.99
# What happens in one second is not independent: a second is drawn as a whole.
BLOCK_SECONDS: Final = 1.0
DRAWS: Final = 1000
# So often would the true ratio be below `low` by chance.
DOUBT: Final = 0.05
_SEED: Final = 7


class Ratio(NamedTuple):
    """p99 over p99, and the least that it may be in truth."""

    measured: float
    low: float


def ratio(calm: Sequence[Talk], attacked: Sequence[Talk], of: Callable[[Talk], float]) -> Ratio:
    """Compare by a bootstrap over seconds."""
    rng, ours, theirs = random.Random(_SEED), _blocks(calm, of), _blocks(attacked, of)
    drawn = sorted(_over(_draw(rng, theirs), _draw(rng, ours)) for _ in range(DRAWS))
    measured = _over([of(each) for each in attacked], [of(each) for each in calm])
    return Ratio(measured, drawn[int(DRAWS * DOUBT)])


def _over(above: Sequence[float], below: Sequence[float]) -> float:
    top, bottom = percentile(above, PART), percentile(below, PART)
    return 1.0 if math.isinf(bottom) else top / bottom


def _blocks(talks: Sequence[Talk], of: Callable[[Talk], float]) -> list[list[float]]:
    blocks: dict[int, list[float]] = {}
    for each in talks:
        blocks.setdefault(int(each.came_at / BLOCK_SECONDS), []).append(of(each))
    return list(blocks.values())


def _draw(rng: random.Random, blocks: Sequence[list[float]]) -> list[float]:
    return [value for block in rng.choices(blocks, k=len(blocks)) for value in block]
