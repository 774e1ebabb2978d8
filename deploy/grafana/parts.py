"""What a panel is, and the forms that its expressions have.

A name that is recorded by the rules is used where the rules need it anyway; all else is asked of the gateways' own.
"""
# ruff: noqa: INP001 - a part of a script, no package

from dataclasses import dataclass
from typing import Final

JOB: Final = 'namespace=~"$namespace", job=~"$job"'
GATEWAY: Final = f'{JOB}, instance=~"$instance"'
POOL: Final = f'{GATEWAY}, pool=~"$pool"'
# Recorded for all gateways together.
POOL_OF_ALL: Final = f'{JOB}, pool=~"$pool"'
EVERY: Final = "$__rate_interval"
PER_SECOND: Final = "cps"
Steps = tuple[tuple[float | None, str], ...]


@dataclass(frozen=True)
class Target:
    """One expression, and what its series are called."""

    expr: str
    legend: str


@dataclass(frozen=True)
class Graph:
    """Series over time."""

    title: str
    description: str
    unit: str
    targets: tuple[Target, ...]
    span: int = 8
    height: int = 8
    stacked: bool = False
    max: float | None = None
    limits: Steps = ()


@dataclass(frozen=True)
class Figure:
    """One number of the range that is looked at."""

    title: str
    description: str
    unit: str
    target: Target
    limits: Steps
    span: int = 4
    decimals: int = 0


@dataclass(frozen=True)
class Row:
    """Panels under one title."""

    title: str
    panels: tuple[Graph | Figure, ...]


def rate(metric: str, labels: str, by: str, where: str = "") -> str:
    """Return how often a second something happens."""
    return f"sum by ({by}) (rate({metric}{{{_and(labels, where)}}}[{EVERY}]))"


def _and(labels: str, where: str) -> str:
    return f"{labels}, {where}" if where else labels


def part(some: str, everything: str, which: str, of_which: str) -> str:
    """Return what part of all happened, in the range that is looked at; nothing where nothing happened."""
    return f"{_total(some, which)} / ({_total(everything, of_which)} > 0)"


def _total(metric: str, where: str) -> str:
    return f"sum(increase({metric}{{{_and(POOL, where)}}}[$__range]))"


def quantiles(metric: str, labels: str, by: str = "", parts: tuple[float, ...] = (0.5, 0.95)) -> tuple[Target, ...]:
    """Return percentiles of a histogram, for each value of the label `by` where one is given."""
    name = f"{{{{{by}}}}} " if by else ""
    return tuple(
        Target(
            f"histogram_quantile({part}, {rate(f'{metric}_bucket', labels, f'le, {by}' if by else 'le')})",
            f"{name}p{part * 100:g}",
        )
        for part in parts
    )


def burn(title: str, record: str, budget: float, what: str) -> Graph:
    """Return how fast the budget of an objective is used up."""
    return Graph(
        title,
        f"{what} At 1 the budget of a month lasts a month. Somebody is woken at 14.4 (1 h) and at 6 (6 h).",
        "none",
        tuple(
            Target(f"{record}{window}{{{POOL_OF_ALL}}} / {budget:g}", f"{{{{pool}}}} {window}")
            for window in ("5m", "1h", "6h")
        ),
        limits=((6, "orange"), (14.4, "red")),
    )


GOOD_ABOVE_99: Final[Steps] = ((None, "red"), (0.97, "orange"), (0.99, "green"))
GOOD_ABOVE_95: Final[Steps] = ((None, "red"), (0.9, "orange"), (0.95, "green"))
GOOD_AT_ZERO: Final[Steps] = ((None, "green"), (0.001, "orange"), (0.01, "red"))
