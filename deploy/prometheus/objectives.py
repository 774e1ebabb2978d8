"""The three promises that are measured, and how fast their budgets may burn before somebody hears of it."""
# ruff: noqa: INP001 - a part of a script, no package

from dataclasses import dataclass
from typing import Any, Final

from deploy.prometheus.parts import AT, FEW, POOL, SHARE, alert, recorded


@dataclass(frozen=True)
class Burn:
    """So much faster than allowed, over a long and a short window: for how many wakes whom."""

    factor: float
    long: str
    short: str
    severity: str
    wait: str


# Google's SRE workbook, chapter 5: of a month's budget, 2 % are gone in 1 h, 5 % in 6 h, 10 % in 1 d, 10 % in 3 d.
BURNS: Final = (
    Burn(14.4, "1h", "5m", "page", "2m"),
    Burn(6, "6h", "30m", "page", "2m"),
    Burn(3, "1d", "2h", "ticket", "15m"),
    Burn(1, "3d", "6h", "ticket", "15m"),
)
WINDOWS: Final = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")


@dataclass(frozen=True)
class Objective:
    """What part of what may go wrong. `bad` and `all` count, with a function for FN and a window for W."""

    record: str
    alert: str
    budget: float
    bad: str
    all: str
    summary: str
    description: str
    # Where it holds.
    only: str = ""

    def ratio(self, window: str) -> str:
        """Return the part that went wrong; nothing where nothing was asked for."""
        return f"{_over(self.bad, 'rate', window)} / ({_over(self.all, 'rate', window)} > 0)"


def _over(counted: str, function: str, window: str) -> str:
    return counted.replace("FN", function).replace("W", window)


_FIRST_AUDIO: Final = (
    f"sum by ({POOL}) (FN(trunkline_first_audio_seconds_count[W])) - sum by ({POOL}) "
    f'(FN(trunkline_first_audio_seconds_bucket{{le="1.5"}}[W]))'
)
OBJECTIVES: Final = (
    Objective(
        record="pool:trunkline_acquires_missed:ratio_rate",
        alert="TrunklineTooFewWarmHits",
        budget=0.01,
        bad=f'sum by ({POOL}) (FN(trunkline_acquires_total{{result!~"hit|dialled"}}[W]))',
        all=f'sum by ({POOL}) (FN(trunkline_acquires_total{{result!="dialled"}}[W]))',
        summary="Too many callers of pool {{ $labels.pool }} find no line ready",
        description="callers did not find a line ready. Allowed is 1 %",
        # A pool without a floor promises nobody a warm line.
        only=f"max by ({POOL}) (trunkline_pool_floor) > 0",
    ),
    Objective(
        record="pool:trunkline_first_audio_late:ratio_rate",
        alert="TrunklineAnswersTooLate",
        budget=0.05,
        bad=f"({_FIRST_AUDIO})",
        all=f"sum by ({POOL}) (FN(trunkline_first_audio_seconds_count[W]))",
        summary="Too many answers of pool {{ $labels.pool }} begin late",
        description="answers began later than 1.5 s after they were due. Allowed are 5 %",
    ),
    Objective(
        record="pool:trunkline_acquires_refused:ratio_rate",
        alert="TrunklineCallersGetNoLine",
        budget=0.001,
        # Who hung up while it waited says nothing about us: it counts as no warm hit, and neither here nor there.
        bad=f'sum by ({POOL}) (FN(trunkline_acquires_total{{result=~"timeout|shed"}}[W]))',
        all=f'sum by ({POOL}) (FN(trunkline_acquires_total{{result!="cancelled"}}[W]))',
        summary="Too many callers of pool {{ $labels.pool }} get no line",
        description="callers waited in vain or were sent away. Allowed is 0.1 %",
    ),
)


def _burns(objective: Objective, burn: Burn) -> dict[str, Any]:
    limit = f"{burn.factor:g} * {objective.budget:g}"
    parts = [
        f"{objective.record}{burn.long} > {limit}",
        f"{objective.record}{burn.short} > {limit}",
        f"{_over(objective.bad, 'increase', burn.long)} > {FEW}",
    ]
    return alert(
        objective.alert,
        " and ".join([*parts, *([objective.only] if objective.only else [])]),
        burn.severity,
        burn.wait,
        summary=f"{objective.summary} ({AT})",
        description=f"Over the last {burn.long}, {SHARE} of the {objective.description}, "
        f"and it goes on: the same holds for the last {burn.short}.",
        window=burn.long,
    )


def ratios() -> list[dict[str, Any]]:
    """Return what is recorded: of each objective, what part went wrong, over each window."""
    return [recorded(f"{each.record}{window}", each.ratio(window)) for each in OBJECTIVES for window in WINDOWS]


def burns() -> list[dict[str, Any]]:
    """Return what wakes somebody."""
    return [_burns(objective, burn) for objective in OBJECTIVES for burn in BURNS]
