"""One run as a picture: who came, what stood ready, and how long each caller waited."""

from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from tests.bench.pool_record import Record, Result, Shelves
from tests.bench.pool_world import Scenario

Numbers = NDArray[np.float64]

# 1200 by 700.
SIZE_INCHES: Final = (12.0, 7.0)
DOTS_PER_INCH: Final = 100
# As many columns as the picture can show; each shows the extremes of its time.
BINS: Final = 500
HOUR_SECONDS: Final = 3600.0
# From so long on, time is shown in the larger unit.
HOURS_FROM_SECONDS: Final = 7200.0
MINUTES_FROM_SECONDS: Final = 600.0
# Narrower spans have their name to the right.
SHORT_RATIO: Final = 0.08

READY, DIALLING, WAITING, FLOOR = "#1b7f5a", "#4063a8", "#b03a2e", "#222222"
RESULTS: Final = {
    Result.HIT: ("hit", "o", "#1b7f5a"),
    Result.WAITED: ("waited", "o", "#d98a1f"),
    Result.REFUSED: ("refused", "x", "#b03a2e"),
}


def plot(scenario: Scenario, record: Record, path: Path) -> None:
    """Draw a run into a file."""
    figure = Figure(figsize=SIZE_INCHES, layout="constrained")
    FigureCanvasAgg(figure)
    unit, name = _unit(scenario.seconds)
    arrivals, lines, waits = figure.subplots(3, 1, sharex=True, height_ratios=(1, 2.2, 1.6))
    edges = np.linspace(0.0, scenario.seconds, BINS + 1)
    _draw_arrivals(arrivals, scenario, record, unit)
    _draw_lines(lines, record, edges, unit)
    _draw_waits(waits, record, unit)
    for axes in (arrivals, lines, waits):
        _mark(axes, scenario, unit, labelled=axes is arrivals)
        axes.grid(axis="y", color="#e4e4e4", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(x=0)
    waits.set_xlabel(f"time ({name})")
    waits.set_xlim(0.0, scenario.seconds / unit)
    figure.suptitle(scenario.title, fontsize=13)
    figure.savefig(path, dpi=DOTS_PER_INCH)


def _unit(seconds: float) -> tuple[float, str]:
    if seconds >= HOURS_FROM_SECONDS:
        return HOUR_SECONDS, "h"
    return (60.0, "min") if seconds >= MINUTES_FROM_SECONDS else (1.0, "s")


def _draw_arrivals(axes: Axes, scenario: Scenario, record: Record, unit: float) -> None:
    # A rate over less than a second says nothing.
    bins = int(min(120.0, max(1.0, scenario.seconds)))
    counts, edges = np.histogram(record.asked_at, bins=bins, range=(0.0, scenario.seconds))
    width = scenario.seconds / bins
    axes.stairs(counts / width, edges / unit, fill=True, color="#8a8a8a")
    axes.set_ylabel(f"arrivals (1/s)\nper {width:,.3g} s")
    axes.set_ylim(0.0, float(counts.max()) / width * 1.08 or 1.0)
    axes.yaxis.set_major_locator(MaxNLocator(3))


def _draw_lines(axes: Axes, record: Record, edges: Numbers, unit: float) -> None:
    shelves, middles = record.shelves, (edges[:-1] + edges[1:]) / 2 / unit
    low, ready, high = _in_bins(shelves, shelves.ready, edges)
    dialling, waiting = _in_bins(shelves, shelves.dialling, edges)[1], _in_bins(shelves, shelves.waiting, edges)[2]
    axes.fill_between(middles, low, high, step="mid", color=READY, alpha=0.3, linewidth=0)
    axes.step(middles, ready, where="mid", color=READY, linewidth=1.4, label="ready (mean; band: all)")
    axes.step(middles, dialling, where="mid", color=DIALLING, linewidth=1.0, label="dialling (mean)")
    axes.step(middles, waiting, where="mid", color=WAITING, linewidth=1.0, label="callers waiting (highest)")
    at = np.array([each.at for each in record.samples]) / unit
    floors = [each.floor for each in record.samples]
    axes.step(at, floors, where="post", color=FLOOR, linewidth=0.8, alpha=0.8, label="floor")
    axes.set_ylabel("lines, callers")
    axes.set_ylim(bottom=0.0)
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.legend(loc="upper left", bbox_to_anchor=(0.0, 1.14), ncols=4, frameon=False, fontsize=9)


def _in_bins(shelves: Shelves, column: Any, edges: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    """Return the lowest value in each bin, the mean over time, and the highest; a value stands until the next."""
    at, values = np.array(shelves.at), np.array(column, dtype=np.float64)
    begins = np.maximum(np.searchsorted(at, edges, side="right") - 1, 0)
    inside = [values[first : last + 1] for first, last in pairwise(begins)]
    areas = np.concatenate([[0.0], np.cumsum(values[:-1] * np.diff(at))])
    upto = areas[begins] + values[begins] * (edges - at[begins])
    low, high = (np.array([extreme(each) for each in inside]) for extreme in (np.min, np.max))
    return low, np.diff(upto) / np.diff(edges), high


def _draw_waits(axes: Axes, record: Record, unit: float) -> None:
    for result, (name, marker, colour) in RESULTS.items():
        those = [each for each in record.answers if each.result is result]
        at = np.array([each.asked_at for each in those]) / unit
        waits = np.array([each.waited_seconds for each in those])
        axes.scatter(
            at,
            waits,
            s=14 if result is not Result.HIT else 8,
            marker=marker,
            color=colour,
            alpha=0.7,
            linewidths=1.0 if marker == "x" else 0.0,
            label=f"{name} ({len(those):,})",
            clip_on=False,
            zorder=3,
        )
    axes.set_ylabel("wait of each\ncaller (s)")
    longest = max((each.waited_seconds for each in record.answers), default=0.0)
    axes.set_ylim(0.0, max(1.0, longest * 1.08))
    axes.legend(loc="upper left", bbox_to_anchor=(0.0, 1.2), ncols=3, frameon=False, fontsize=9)


def _mark(axes: Axes, scenario: Scenario, unit: float, *, labelled: bool) -> None:
    """Shade the warm-up and the troubles; name them once."""
    spans = [(0.0, scenario.warm_up_seconds, "warm-up", "#777777")]
    spans += [
        (each.from_seconds, each.until_seconds, each.fault.name.lower().replace("_", " "), WAITING)
        for each in scenario.provider.troubles
    ]
    for begin, end, name, colour in spans:
        axes.axvspan(begin / unit, end / unit, color=colour, alpha=0.10 if end > begin else 0.9, linewidth=1)
        if labelled and (end or begin):
            # The name of a short one would hang over the axis.
            is_short = begin <= 0.0 and end < scenario.seconds * SHORT_RATIO
            axes.annotate(
                name,
                (begin if is_short else (begin + end) / 2 / unit, 1.02),
                xycoords=axes.get_xaxis_transform(),
                ha="left" if is_short else "center",
                fontsize=9,
                color=colour,
                annotation_clip=False,
            )
