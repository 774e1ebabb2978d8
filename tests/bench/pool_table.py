"""The figures as one table of plain text, and what its columns mean."""

from collections.abc import Sequence
from typing import Final

from tests.bench.pool_figures import Callers, Figures

COLUMNS: Final = (
    "scenario",
    "n",
    "hits %",
    "waits %",
    "refused %",
    "n waited",
    "p50 ms",
    "p99 ms",
    "max ms",
    "dials",
    "failed",
    "given up",
    "wasted",
    "waste %",
    "waste/h",
    "dials/s max (limit)",
    "at once (limit)",
    "floor min/mean/max",
)
NOTES: Final = (
    "Counted after the warm-up. Waits: of those who waited and were served; p99 from n = 100 on.",
    "wasted: lines that were ready and ended without a call, of all dials; given up: hanging dials that were ended.",
    "dials/s: dials that began in the busiest second; limit: the account's burst and rate. at once: of one template.",
)


def table(rows: Sequence[Figures]) -> str:
    """Lay the figures out, numbers to the right."""
    lines = [list(COLUMNS)]
    for each in rows:
        lines.append([each.scenario, *_callers(each.callers), *_lines(each)])
        lines += [[f"  {kind}", *_callers(callers)] for kind, callers in each.kinds.items()]
    blank = [""] * len(COLUMNS)
    full = [(line + blank)[: len(COLUMNS)] for line in lines]
    widths = [max(len(line[column]) for line in full) for column in range(len(COLUMNS))]
    text = [_row(line, widths) for line in full]
    return "\n".join([text[0], "-" * len(text[0]), *text[1:], "", *NOTES])


def trouble_lines(rows: Sequence[Figures]) -> str:
    """Say in one line each how the pool came through troubles."""
    return "\n".join(
        f"{row.scenario}: {each.fault} for {each.until_seconds - each.from_seconds:g} s, {each.dials} dials meanwhile, "
        f"{each.dials_busiest_minute} in the busiest minute; then "
        f"floor full {_seconds(each.floor_after_seconds)}, as demand calls for {_seconds(each.demand_after_seconds)}"
        for row in rows
        for each in row.troubles
    )


def _row(line: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(line, widths, strict=True)
    return "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]).rstrip()


def _callers(each: Callers) -> list[str]:
    parts = [_percent(count, each.n) for count in (each.hits, each.waits, each.refused)]
    waits = [_number(value) for value in (each.wait_p50_ms, each.wait_p99_ms, each.wait_max_ms)]
    return [f"{each.n:,}", *parts, f"{each.waits:,}", *waits]


def _lines(each: Figures) -> list[str]:
    return [
        f"{each.dials:,}",
        f"{each.failed:,}",
        f"{each.given_up:,}",
        f"{each.wasted:,}",
        f"{100 * each.waste_ratio:.1f}",
        f"{each.waste_per_hour:.1f}",
        f"{each.dials_busiest_second:,} ({each.dials_busiest_second_max:,})",
        f"{each.dials_at_once:,} ({each.dials_max:,})",
        f"{each.floor_min:,}/{each.floor_mean:,.1f}/{each.floor_max:,}",
    ]


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2f}" if whole else "-"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"after {value:.1f} s"
