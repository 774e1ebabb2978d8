"""Each attack against one gateway process, in windows between calm ones, and how other callers fare.

python -m tests.bench.floods [ROUNDS] [[elsewhere:]ATTACK[@CALLS_PER_SECOND]…]    on a quiet machine: 25 s a round

With fewer calls in a second, for which the windows are longer, what callers and provider do to each other on the same
processors is less of what is measured. With `elsewhere:` there is no calm: in its windows the same attack goes to a
second gateway on the same machine, and what is left of the ratio is what the attacked gateway does to its callers.
"""

import asyncio
import os
import sys
from collections.abc import Sequence
from typing import Final

from tests.support import attacks
from tests.support.siege import PER_SECOND, Fared, siege

ROUNDS: Final = 6
WINDOW_SECONDS: Final = 10.0
ATTACKS: Final = tuple(
    name for name, value in vars(attacks).items() if name.isupper() and isinstance(value, dict) and name[0] != "_"
)
HEAD: Final = (
    f"{'attack':24} {'n calm/attacked':>16} {'open p50':>13} {'open p99':>15} {'ratio':>6} {'least':>6} "
    f"{'turn p99':>15} {'ratio':>6} {'held s':>7} {'left':>5} {'MiB':>5} {'load':>5}"
)


async def besieged(name: str, rounds: int, window_seconds: float = WINDOW_SECONDS) -> Fared:
    """Run one attack by its name, and by how many calls there are in a second beside it."""
    where, _, wanted = name.rpartition(":")
    attack, _, rate = wanted.partition("@")
    per_second = float(rate or PER_SECOND)
    async with siege(
        tls=attack.startswith("TLS"), per_second=per_second, has_neighbour=where == "elsewhere"
    ) as running:
        return await running.run(window_seconds * PER_SECOND / per_second, rounds, getattr(attacks, attack))


def row(name: str, fared: Fared) -> str:
    """Return a line of the table; times are in ms, calm first."""
    told, last = fared.figures(), fared.attacks[-1]
    pairs = {
        key: f"{told[f'{key}_calm_ms']:.1f} {told[f'{key}_attacked_ms']:.1f}"
        for key in ("open_p50", "open_p99", "turn_p99")
    }
    return (
        f"{name:24} {'{} {}'.format(*told['n']):>16} {pairs['open_p50']:>13} {pairs['open_p99']:>15} "
        f"{told['open_ratio']:6.2f} {told['open_ratio_low']:6.2f} {pairs['turn_p99']:>15} {told['turn_ratio']:6.2f} "
        f"{last.held_max_s or 0.0:7.2f} {last.left:5} {fared.resident_growth_kib / 1024:5.1f} {os.getloadavg()[0]:5.1f}"
    )


def main(rounds: int = ROUNDS, names: Sequence[str] = ATTACKS) -> None:
    sys.stdout.write(f"{HEAD}\n")
    for name in names:
        fared = asyncio.run(besieged(name, rounds))
        sys.stdout.write(f"{row(name, fared)}\n")
        if any(told := fared.figures()["trouble"]):
            sys.stdout.write(f"    trouble: {told}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else ROUNDS, sys.argv[2:] or ATTACKS)
