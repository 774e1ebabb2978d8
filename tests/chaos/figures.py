"""What a scenario gives and what is asked of it: the figures of `output/chaos.json` and their bounds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tests.chaos.validator import Verdict


@dataclass(frozen=True, slots=True)
class Size:
    """How much is done: everything, or what fits into a few minutes."""

    quick: bool

    def of(self, full: int, quick: int) -> int:
        return quick if self.quick else full


@dataclass
class Outcome:
    """What one scenario found, by the names of `output/chaos.json`."""

    figures: dict[str, Any]
    # How often something was struck.
    faults: int = 0
    verdict: Verdict = field(default_factory=Verdict)


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """Return n and, in ms, the nearest-rank percentiles of durations in seconds."""
    ranked = sorted(seconds)

    def at(share: float) -> float:
        return round(ranked[max(0, math.ceil(share * len(ranked)) - 1)] * 1000, 1) if ranked else math.nan

    return {"n": len(ranked), "p50": at(0.5), "p99": at(0.99), "max": at(1.0)}


@dataclass(frozen=True, slots=True)
class Bound:
    """What a figure has to be; `path` leads to it through the groups of figures."""

    path: str
    at_most: float = math.inf
    at_least: float = -math.inf
    # Of the full run only: few values on a machine that does other things say nothing of a percentile.
    full_only: bool = False

    def told(self, figures: Mapping[str, Any]) -> float | None:
        """Return the figure; None = the run has none."""
        found: Any = figures
        for name in self.path.split("."):
            if not isinstance(found, Mapping) or name not in found:
                return None
            found = found[name]
        return float(found)

    def holds(self, value: float) -> bool:
        return self.at_least <= value <= self.at_most

    def __str__(self) -> str:
        return f">= {self.at_least:g}" if math.isinf(self.at_most) else f"<= {self.at_most:g}"


def _timed(path: str, at_most: float) -> Bound:
    return Bound(path, at_most=at_most, full_only=True)


def _counted(path: str, at_least: float) -> Bound:
    return Bound(path, at_least=at_least, full_only=True)


BOUNDS: Final = (
    _counted("kill_resume_ms.n", 200),
    _timed("kill_resume_ms.p50", 60),
    _timed("kill_resume_ms.p99", 500),
    _counted("kill_resume_rtt100_ms.n", 60),
    _timed("kill_resume_rtt100_ms.p99", 1500),
    _timed("freeze_resume_ms.p99", 4000),
    Bound("reattach_ratio", at_least=0.99),
    _counted("reattach_ms.n", 200),
    _counted("upstream_drop_ms.n", 200),
    _timed("upstream_drop_ms.p50", 40),
    _timed("upstream_drop_ms.p99", 250),
    _counted("rotation_gap_ms.n", 200),
    _timed("rotation_gap_ms.p99", 300),
    Bound("rotation_overlap_ratio", at_least=1),
    _counted("events.total", 50_000),
    Bound("events.lost", at_most=0),
    Bound("events.duplicated", at_most=0),
    Bound("failed_calls", at_most=0),
    _counted("input_samples.outages", 40),
    Bound("input_samples.lost", at_most=0),
    Bound("input_samples.refused", at_most=0),
    Bound("input_samples.doubled", at_most=0),
    Bound("rolling_restart.failed_calls", at_most=0),
    Bound("rolling_restart.events_lost", at_most=0),
    _timed("rolling_restart.max_gap_ms", 500),
    Bound("mass_disconnect.above_rate", at_most=0),
    _timed("mass_disconnect.late_seconds", 0),
    Bound("redis_failover.lost", at_most=0),
    Bound("redis_failover.refused_opens", at_most=0),
    _counted("redis_failover.appends_per_s", 1000),
    _timed("redis_failover.tool_delay_p99_ms", 300),
    Bound("flushall.unnamed", at_most=0),
    _timed("slot_reclaim_late_s", 1),
    Bound("cap_overshoot", at_most=0),
    _counted("unrestored.turns", 30),
    Bound("unrestored_named_ratio", at_least=1),
    Bound("broken_build_caught", at_least=1),
)
