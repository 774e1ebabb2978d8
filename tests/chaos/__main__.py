"""Break everything under talking callers, and say what they noticed.

    python -m tests.chaos [--quick] [SCENARIO…]

Prints a line for each figure and writes all of them to output/chaos.json; exits with 1 where one is
out of its bounds. `--quick` does little of everything and leaves times of few values unjudged.
"""

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

from tests.chaos.audio import audio
from tests.chaos.figures import BOUNDS, Outcome, Size
from tests.chaos.gateways import freezes, kills, long_kills
from tests.chaos.links import link_drops
from tests.chaos.places import places
from tests.chaos.redis_faults import flushed, redis_failover
from tests.chaos.restarts import broken_build, rolling_restart
from tests.chaos.rotations import rotations
from tests.chaos.slow_kills import slow_kills
from tests.chaos.unrestored import unrestored
from tests.chaos.upstreams import mass_disconnect, upstream_drops
from tests.chaos.validator import Verdict

OUTPUT: Final = Path("output/chaos.json")
Scenario = Callable[[Size], Awaitable[Outcome]]
SCENARIOS: Final[Mapping[str, Scenario]] = {
    "kills": kills,
    "long_kills": long_kills,
    "freezes": freezes,
    "link_drops": link_drops,
    "audio": audio,
    "upstream_drops": upstream_drops,
    "rotations": rotations,
    "mass_disconnect": mass_disconnect,
    "slow_kills": slow_kills,
    "unrestored": unrestored,
    "redis_failover": redis_failover,
    "flushed": flushed,
    "places": places,
    "rolling_restart": rolling_restart,
    "broken_build": broken_build,
}


def _busy() -> tuple[float, float]:
    """Return the seconds that all processors have worked, and those that they have existed, since the start."""
    clock = Path("/proc/stat").read_text("ascii").split("\n", 1)[0].split()[1:]
    ticks = [int(each) for each in clock[:8]]
    idle = ticks[3] + ticks[4]
    return float(sum(ticks) - idle), float(sum(ticks))


async def perform(names: list[str], size: Size) -> dict[str, Any]:
    """Run them one after the other; return all figures."""
    figures: dict[str, Any] = {"quick": size.quick, "processors": os.cpu_count()}
    events = {"total": 0, "lost": 0, "duplicated": 0}
    faults, failed, trouble, load = 0, 0, list[str](), dict[str, float]()
    for name in names:
        began, (worked, existed) = time.monotonic(), _busy()
        try:
            outcome = await SCENARIOS[name](size)
        except Exception as error:  # noqa: BLE001 the others are to be seen as well
            outcome = Outcome({}, verdict=Verdict(faults=[f"{type(error).__name__}: {error}"]))
        (worked_by_now, exists) = _busy()
        load[name] = round((worked_by_now - worked) / max(1.0, exists - existed), 2)
        figures |= outcome.figures
        verdict = outcome.verdict
        for key, count in (("total", verdict.total), ("lost", verdict.lost), ("duplicated", verdict.duplicated)):
            events[key] += count
        faults += outcome.faults
        failed += verdict.failed_calls
        trouble += [f"{name}: {each}" for each in verdict.faults]
        took = time.monotonic() - began
        sys.stdout.write(f"{name}: {took:.0f} s, {load[name]:.0%} of the machine, {json.dumps(outcome.figures)}\n")
        sys.stdout.flush()
    return figures | {
        "events": events,
        "faults": faults,
        "failed_calls": failed,
        "trouble": trouble,
        "busy_ratio": load,
    }


def judged(figures: Mapping[str, Any], *, quick: bool, whole: bool) -> tuple[list[str], bool]:
    """Return a line for each bound, and whether all hold that have to."""
    lines, well = [f"{'figure':38} {'is':>10} {'must be':>10}"], not figures["trouble"]
    for bound in BOUNDS:
        value = bound.told(figures)
        if value is None:
            well &= not whole
            if whole:
                lines.append(f"{bound.path:38} {'-':>10} {bound!s:>10}  missing")
            continue
        unjudged = quick and bound.full_only
        word = "" if bound.holds(value) else "  not judged" if unjudged else "  MISSED"
        well &= unjudged or bound.holds(value)
        lines.append(f"{bound.path:38} {value:>10g} {bound!s:>10}{word}")
    lines += [f"trouble: {each}" for each in figures["trouble"][:20]]
    return lines, well


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="little of everything, in a few minutes")
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"of {', '.join(SCENARIOS)}")
    asked = parser.parse_args()
    if unknown := set(asked.scenarios) - set(SCENARIOS):
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(SCENARIOS)}")
    names = asked.scenarios or list(SCENARIOS)
    figures = asyncio.run(perform(names, Size(quick=asked.quick)))
    lines, well = judged(figures, quick=asked.quick, whole=not asked.scenarios)
    OUTPUT.parent.mkdir(exist_ok=True)
    OUTPUT.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    sys.stdout.write("\n".join(lines) + f"\n{OUTPUT}: {'all bounds hold' if well else 'not all bounds hold'}\n")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
