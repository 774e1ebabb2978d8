"""The figures of a run, as values, and their table. Judges nothing: the tests do."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from gateway.cli.figures import percentile
from tests.bench.pool_record import Answer, Record, Result
from tests.bench.pool_world import Scenario, Trouble

# A p99 of fewer is a maximum under another name.
P99_FROM: Final = 100
HOUR_SECONDS: Final = 3600.0
SECOND: Final = 1.0
MINUTE: Final = 60.0


@dataclass(frozen=True, slots=True)
class Callers:
    """What callers got. Waits are those of the callers who waited and were served, in milliseconds."""

    n: int
    hits: int
    waits: int
    refused: int
    wait_p50_ms: float | None
    wait_p99_ms: float | None
    wait_max_ms: float | None

    @property
    def hit_ratio(self) -> float | None:
        """Of all callers, those who got a line at once."""
        return self.hits / self.n if self.n else None


@dataclass(frozen=True, slots=True)
class TroubleFigures:
    """How the pool came through one trouble. Seconds count from its end."""

    fault: str
    from_seconds: float
    until_seconds: float
    dials: int
    dials_busiest_minute: int
    # Until the template's own floor stood ready; until the floor that demand calls for did. None = never.
    floor_after_seconds: float | None
    demand_after_seconds: float | None


@dataclass(frozen=True, slots=True)
class Figures:
    """One row. Counts are of the time after the warm-up."""

    scenario: str
    title: str
    seed: int
    seconds: float
    warm_up_seconds: float
    callers: Callers
    # By the templates' kind, where there are several.
    kinds: dict[str, Callers]
    dials: int
    failed: int
    given_up: int
    wasted: int
    wasted_by: dict[str, int]
    waste_ratio: float
    waste_per_hour: float
    dials_busiest_second: int
    dials_busiest_second_max: int
    dials_at_once: int
    dials_max: int
    floor_min: int
    floor_mean: float
    floor_max: int
    lines_at_end: int
    troubles: list[TroubleFigures]
    trace: str


def figures(scenario: Scenario, record: Record, seed: int) -> Figures:
    """Work them out."""
    since = scenario.warm_up_seconds
    answers = [each for each in record.answers if each.asked_at >= since]
    dials, wasted = _count(record.decided_at, since), _count(record.wasted_at, since)
    floors = [each.floor for each in record.samples if each.at >= since]
    account = scenario.account
    at_once = max((count for pool, count in record.dials_at_once_max.items() if pool), default=0)
    return Figures(
        scenario.name,
        scenario.title,
        seed,
        scenario.seconds,
        since,
        callers(answers),
        _by_kind(answers),
        dials=dials,
        failed=_count(record.failed_at, since),
        given_up=_count(record.given_up_at, since),
        wasted=wasted,
        wasted_by=dict(record.wasted_by),
        waste_ratio=wasted / dials if dials else 0.0,
        waste_per_hour=wasted / (scenario.seconds - since) * HOUR_SECONDS,
        dials_busiest_second=busiest(record.dialled_at, SECOND),
        dials_busiest_second_max=int(account.dials_burst + account.dials_per_second),
        dials_at_once=at_once,
        dials_max=max(each.dials_max for each in scenario.pools.values()),
        floor_min=min(floors),
        floor_mean=sum(floors) / len(floors),
        floor_max=max(floors),
        lines_at_end=record.samples[-1].lines,
        troubles=[trouble_figures(scenario, record, each) for each in scenario.provider.troubles if each.seconds],
        trace=record.trace,
    )


def callers(answers: Sequence[Answer]) -> Callers:
    """Count what callers got."""
    by_result = {result: [each for each in answers if each.result is result] for result in Result}
    waits = sorted(each.waited_seconds * 1000 for each in by_result[Result.WAITED])
    return Callers(
        len(answers),
        len(by_result[Result.HIT]),
        len(waits),
        len(by_result[Result.REFUSED]),
        percentile(waits, 0.5) if waits else None,
        percentile(waits, 0.99) if len(waits) >= P99_FROM else None,
        waits[-1] if waits else None,
    )


def trouble_figures(scenario: Scenario, record: Record, trouble: Trouble) -> TroubleFigures:
    """Work out what a trouble did."""
    end = trouble.until_seconds
    during = [each for each in record.dialled_at if trouble.covers(each)]
    floor = sum(each.floor for each in scenario.pools.values())
    ready_at = record.shelves.first_with_ready(floor, end)
    demand = next((each.at for each in record.samples if each.at >= end and each.ready >= each.floor), None)
    return TroubleFigures(
        trouble.fault.name,
        trouble.from_seconds,
        end,
        len(during),
        busiest(during, MINUTE),
        None if ready_at is None else ready_at - end,
        None if demand is None else demand - end,
    )


def busiest(moments: Sequence[float], window_seconds: float) -> int:
    """Count the most that fall into any window of this length."""
    most = first = 0
    for last, moment in enumerate(moments):
        while moments[first] <= moment - window_seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


def _count(moments: Iterable[float], since: float) -> int:
    return sum(moment >= since for moment in moments)


def _by_kind(answers: Sequence[Answer]) -> dict[str, Callers]:
    kinds = sorted({_kind(each.pool) for each in answers})
    if len(kinds) <= 1:
        return {}
    return {kind: callers([each for each in answers if _kind(each.pool) == kind]) for kind in kinds}


def _kind(pool: str) -> str:
    return pool.partition("-")[0]
