"""The dashboard of an installation, by code: `python deploy/grafana/dashboard.py --write` writes the one copy.

What its rows show is in lines.py and calls.py; here is how Grafana is told.
"""
# ruff: noqa: INP001 - a script, no package

import json
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Final

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common, dashboard

sys.path.insert(0, str(Path(__file__).parents[2]))  # to run it as a script

from deploy.grafana import calls, lines
from deploy.grafana.parts import Figure, Graph, Row, Target

ROOT: Final = Path(__file__).parents[2]
DASHBOARD: Final = ROOT / "deploy/helm/trunkline/files/dashboard.json"
ROWS: Final = (
    lines.OBJECTIVES,
    lines.POOLS,
    lines.SESSIONS,
    calls.LATENCY,
    calls.ERRORS,
    calls.SURVIVAL,
    calls.COST,
)
UID: Final = "trunkline"
_WIDTH: Final = 24
_SOURCE: Final = dashboard.DataSourceRef(type_val="prometheus", uid="${datasource}")
_ANY: Final = "trunkline_store_degraded"
_VARIABLES: Final = {
    "namespace": f"label_values({_ANY}, namespace)",
    "job": f'label_values({_ANY}{{namespace=~"$namespace"}}, job)',
    "instance": f'label_values({_ANY}{{namespace=~"$namespace", job=~"$job"}}, instance)',
    "pool": 'label_values(trunkline_pool_ceiling{namespace=~"$namespace", job=~"$job"}, pool)',
}
_LABELS: Final = {"namespace": "Namespace", "job": "Job", "instance": "Gateway", "pool": "Pool"}


def _query(number: int, target: Target, *, instant: bool) -> prometheus.Dataquery:
    query = prometheus.Dataquery().expr(target.expr).legend_format(target.legend).ref_id(chr(ord("A") + number))
    return query.instant() if instant else query.range()


def _limits(steps: tuple[tuple[float | None, str], ...]) -> builders.ThresholdsConfig:
    made = [dashboard.Threshold(value=value, color=color) for value, color in steps]
    return builders.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(made)


def _graph(graph: Graph) -> timeseries.Panel:
    panel = (
        timeseries.Panel()
        .title(graph.title)
        .description(graph.description)
        .datasource(_SOURCE)
        .unit(graph.unit)
        .min(0)
        .span(graph.span)
        .height(graph.height)
        .line_width(1)
        .fill_opacity(60 if graph.stacked else 5)
        .show_points(common.VisibilityMode.NEVER)
        .span_nulls(False)
        .legend(
            common_builders.VizLegendOptions()
            .display_mode(common.LegendDisplayMode.TABLE)
            .placement(common.LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs(["lastNotNull", "max"])
        )
        .tooltip(
            common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING)
        )
    )
    for number, target in enumerate(graph.targets):
        panel = panel.with_target(_query(number, target, instant=False))
    if graph.max is not None:
        panel = panel.max(graph.max)
    if graph.stacked:
        panel = panel.stacking(common_builders.StackingConfig().mode(common.StackingMode.NORMAL))
    if graph.limits:
        style = common_builders.GraphThresholdsStyleConfig().mode(common.GraphTresholdsStyleMode.DASHED)
        panel = panel.thresholds(_limits(((None, "transparent"), *graph.limits))).thresholds_style(style)
    return panel


def _figure(figure: Figure) -> stat.Panel:
    return (
        stat.Panel()
        .title(figure.title)
        .description(figure.description)
        .datasource(_SOURCE)
        .unit(figure.unit)
        .decimals(figure.decimals)
        .no_value("no traffic")
        .span(figure.span)
        .height(4)
        .thresholds(_limits(figure.limits))
        .color_mode(common.BigValueColorMode.VALUE)
        .graph_mode(common.BigValueGraphMode.NONE)
        .reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]))
        .with_target(_query(0, figure.target, instant=True))
    )


def _variables() -> list[builders.DatasourceVariable | builders.QueryVariable]:
    source = builders.DatasourceVariable("datasource").label("Data source").type("prometheus")
    queries = [
        builders.QueryVariable(name)
        .label(_LABELS[name])
        .query(query)
        .datasource(_SOURCE)
        .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(dashboard.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        # Also where there is no such label, as without Kubernetes.
        .all_value(".*")
        .current(dashboard.VariableOption(selected=True, text="All", value="$__all"))
        for name, query in _VARIABLES.items()
    ]
    return [source, *queries]


def _add(made: builders.Dashboard, row: Row, numbers: Iterator[int]) -> builders.Dashboard:
    made = made.with_row(builders.Row(row.title).id(next(numbers)))
    for panel in row.panels:
        shown = _figure(panel) if isinstance(panel, Figure) else _graph(panel)
        made = made.with_panel(shown.id(next(numbers)))
    return made


def text() -> str:
    """Return the file."""
    made = (
        builders.Dashboard("Trunkline")
        .uid(UID)
        .description("Warm lines to the Realtime API: who gets one, how soon they are answered, what breaks, the cost.")
        .tags(["trunkline"])
        .readonly()
        .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
        .time("now-3h", "now")
        .refresh("30s")
        .timezone("browser")
    )
    for variable in _variables():
        made = made.with_variable(variable)
    numbers = count(1)
    for row in ROWS:
        made = _add(made, row, numbers)
    return json.dumps(made.build(), cls=JSONEncoder, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        DASHBOARD.write_text(text(), "utf-8")
    elif sys.argv[1:]:
        sys.exit(f"{Path(__file__).name} knows --write, and nothing else")
    elif not DASHBOARD.exists() or DASHBOARD.read_text("utf-8") != text():
        sys.exit(f"{DASHBOARD.relative_to(ROOT)} is not what {Path(__file__).name} makes; run it with --write")
