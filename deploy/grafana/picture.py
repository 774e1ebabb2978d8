"""The dashboard as one picture, without Grafana: every panel, drawn from what a Prometheus has.

python deploy/grafana/picture.py PROMETHEUS_URL picture.png --since UNIX_TIME --until UNIX_TIME
"""
# ruff: noqa: INP001 - a script, no package

import argparse
import json
import math
import re
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

DASHBOARD: Final = Path(__file__).parents[1] / "helm/trunkline/files/dashboard.json"
_SECONDS: Final = 30.0
_POINTS: Final = 240
_INTERVAL_SECONDS: Final = 15
_COLUMNS: Final = 24
_SCALE: Final = 0.75  # inches for one unit of Grafana's grid
_LEGENDS: Final = 12
# How much flatter than Grafana's it is: as a whole it shall fit a page.
_FLATTER: Final = 2.0
_HEADROOM: Final = 1.05
# Bold ones first.
_COLORS: Final = [f"C{number}" for number in range(10)]


class PictureError(Exception):
    """Nothing can be drawn; the sentence says why."""


@dataclass(frozen=True)
class Span:
    """What is asked: a Prometheus, and a time of its clock."""

    url: str
    since: float
    until: float

    def ask(self, expr: str) -> list[dict[str, Any]]:
        """Return the series of an expression, with Grafana's variables filled in."""
        text = expr.replace("$__rate_interval", f"{_INTERVAL_SECONDS}s")
        text = text.replace("$__range", f"{math.ceil(self.until - self.since)}s")
        asked = {
            "query": re.sub(r"\$\w+", ".*", text),
            "start": self.since,
            "end": self.until,
            "step": max(1, (self.until - self.since) / _POINTS),
        }
        address = f"{self.url}/api/v1/query_range?{urllib.parse.urlencode(asked)}"
        try:
            with urllib.request.urlopen(address, timeout=_SECONDS) as answer:  # noqa: S310 - the user names it
                found: list[dict[str, Any]] = json.loads(answer.read())["data"]["result"]
        except urllib.error.HTTPError as error:
            message = f"{self.url} refuses {expr}: {error.read().decode(errors='replace')[:500]}"
            raise PictureError(message) from None
        except (OSError, ValueError, KeyError) as error:
            message = f"{self.url} does not answer as a Prometheus: {error}"
            raise PictureError(message) from None
        return found


# Units, as Grafana writes them.


def _short(value: float) -> str:
    for limit, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g} {letter}"
    return f"{value:.3g}"


def _seconds(value: float) -> str:
    if value == 0:
        return "0"
    for limit, factor, unit in ((1e-3, 1e6, "µs"), (1, 1e3, "ms")):
        if abs(value) < limit:
            return f"{value * factor:.3g} {unit}"
    for limit, unit in ((86_400, "d"), (3_600, "h")):
        if abs(value) >= limit:
            return f"{value / limit:.3g} {unit}"
    return f"{value:.3g} s"


_UNITS: Final[dict[str, Callable[[float], str]]] = {
    "s": _seconds,
    "percentunit": lambda value: f"{value * 100:.4g} %",
    "cps": lambda value: f"{_short(value)} /s",
    "currencyUSD": lambda value: f"${value:.3g}",
}


def _in(unit: str) -> Callable[[float], str]:
    return _UNITS.get(unit, _short)


# Panels.


def _name(legend: str, metric: dict[str, str]) -> str:
    return re.sub(r"{{\s*(\w+)\s*}}", lambda found: metric.get(found[1], ""), legend)


def _points(span: Span, series: dict[str, Any]) -> tuple[list[float], list[float]]:
    pairs = [(float(at) - span.since, float(value)) for at, value in series["values"]]
    return [at for at, _ in pairs], [value for _, value in pairs]


def _stack(axes: Axes, drawn: Sequence[tuple[str, list[float], list[float]]]) -> None:
    times = sorted({at for _, ats, _ in drawn for at in ats})
    rows = []
    for _, ats, values in drawn:
        known = {at: value for at, value in zip(ats, values, strict=True) if math.isfinite(value)}
        rows.append([known.get(at, 0.0) for at in times])
    axes.stackplot(times, rows, labels=[name for name, _, _ in drawn], colors=_COLORS, alpha=0.75, linewidth=0)


def _draw_graph(axes: Axes, panel: dict[str, Any], span: Span) -> None:
    custom, unit = panel["fieldConfig"]["defaults"].get("custom", {}), panel["fieldConfig"]["defaults"]["unit"]
    drawn = [
        (_name(target["legendFormat"], series["metric"]), *_points(span, series))
        for target in panel["targets"]
        for series in span.ask(target["expr"])
    ]
    if custom.get("stacking", {}).get("mode") == "normal" and drawn:
        _stack(axes, drawn)
    else:
        for number, (name, ats, values) in enumerate(drawn):
            axes.plot(ats, values, label=name, linewidth=1.2, color=_COLORS[number % len(_COLORS)])
    top = panel["fieldConfig"]["defaults"].get("max")
    axes.set_ylim(bottom=0, top=max(axes.dataLim.y1, 1e-6) * _HEADROOM if top is None else top * _HEADROOM)
    for step in panel["fieldConfig"]["defaults"].get("thresholds", {}).get("steps", []):
        # One that is far away would press what is drawn against the floor.
        is_near = step["value"] is not None and step["value"] < axes.get_ylim()[1]
        if custom.get("thresholdsStyle", {}).get("mode") == "dashed" and is_near:
            axes.axhline(step["value"], color=step["color"], linestyle="--", linewidth=0.8)
    axes.set_xlim(0, span.until - span.since)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _in(unit)(value)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} s"))
    axes.tick_params(labelsize=7)
    axes.grid(visible=True, alpha=0.25)
    if not drawn:
        axes.text(0.5, 0.5, "no data", transform=axes.transAxes, ha="center", color="red")
        return
    names = axes.get_legend_handles_labels()
    axes.legend(
        names[0][:_LEGENDS],
        names[1][:_LEGENDS],
        fontsize=6,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.1),
        ncols=min(3, len(drawn)),
        frameon=False,
    )


def _draw_figure(axes: Axes, panel: dict[str, Any], span: Span) -> None:
    unit = panel["fieldConfig"]["defaults"]["unit"]
    found = span.ask(panel["targets"][0]["expr"])
    value = float(found[0]["values"][-1][1]) if found else math.nan
    color = "black"
    for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]:
        if (step["value"] is None or value >= step["value"]) and step["color"] != "text":
            color = step["color"]
    axes.axis("off")
    axes.text(0.5, 0.35, _in(unit)(value), ha="center", va="center", fontsize=20, color=color)


def _panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text("utf-8"))["panels"]
    return found


def draw(url: str, target: Path, since: float, until: float) -> None:
    """Draw every panel at its place, of the time from `since` to `until`."""
    span, panels = Span(url.rstrip("/"), since, until), _panels()
    height = max(each["gridPos"]["y"] + each["gridPos"]["h"] for each in panels)
    figure = plt.figure(figsize=(_COLUMNS * _SCALE, height * _SCALE / _FLATTER), dpi=110)
    for panel in panels:
        place = panel["gridPos"]
        left, top = place["x"] / _COLUMNS, 1 - place["y"] / height
        wide, high = place["w"] / _COLUMNS, place["h"] / height
        if panel["type"] == "row":
            figure.text(left + 0.005, top - high * 0.8, panel["title"], fontsize=13, weight="bold")
            continue
        is_graph = panel["type"] == "timeseries"
        below = 0.36 if is_graph else 0.05
        axes = figure.add_axes((left + 0.035, top - high * (1 - below), wide - 0.05, high * (0.86 - below)))
        axes.set_title(panel["title"], fontsize=9)
        (_draw_graph if is_graph else _draw_figure)(axes, panel, span)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target)
    plt.close(figure)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Draw the dashboard from a Prometheus.")
    parser.add_argument("url", help="where Prometheus is")
    parser.add_argument("picture", type=Path, help="the PNG to write")
    parser.add_argument("--since", type=float, required=True, help="unix time in seconds")
    parser.add_argument("--until", type=float, required=True, help="unix time in seconds")
    chosen = parser.parse_args()
    if chosen.since >= chosen.until:
        parser.error("--since must be before --until")
    try:
        draw(chosen.url, chosen.picture, chosen.since, chosen.until)
    except PictureError as error:
        sys.exit(str(error))
