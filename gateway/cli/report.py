"""How figures are shown: one table, one plot."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from rich.table import Table

from gateway.cli.call import SPEECH, TEXT
from gateway.cli.figures import Call, percentile

# What the product is held to, in milliseconds.
TARGETS: Final = {"open_ms": 1000, "first_audio_ms": 1000, "response_ms": 5000}
TITLES: Final = {
    "open_ms": "connection",
    "first_audio_ms": "first audio",
    "response_ms": "complete response",
}
_MARKERS: Final = {TEXT: "o", SPEECH: "^"}
_COLOURS: Final = {"warm": "#1b7f5a", "cold": "#4063a8"}


def table(groups: Mapping[str, Mapping[str, Any]]) -> Table:
    """Show the figures of each group beside the targets."""
    made = Table(title="Milliseconds, as the caller sees them", title_justify="left")
    for column in ("", "lines", "n", "p50", "p90", "p99", "max", "target"):
        made.add_column(column, justify="left" if column in ("", "lines") else "right")
    for key, title in TITLES.items():
        for name, figures in groups.items():
            each = figures[key]
            numbers = [_number(each[part]) for part in ("p50", "p90", "p99", "max")]
            made.add_row(title, name, str(each["n"]), *numbers, f"≤ {TARGETS[key]:,}")
            title = ""  # noqa: PLW2901 once per block
        made.add_section()
    return made


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f}"


def plot(groups: Mapping[str, Sequence[Call]], path: Path) -> None:
    """Draw every call as a dot, the median as a line, and the target; logarithmic milliseconds."""
    # Imported here: the other verbs need no plotting library, and it takes a second to load.
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter  # noqa: PLC0415

    figure = Figure(figsize=(10, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(TITLES))
    for axis, (key, title) in zip(axes, TITLES.items(), strict=True):
        for place, (name, calls) in enumerate(groups.items()):
            _dots(axis, place, calls, key, _COLOURS.get(name, "#555555"))
        axis.axhline(TARGETS[key], color="#b03a2e", linestyle="--", linewidth=1)
        axis.annotate(
            f"target {TARGETS[key]:,} ms",
            (0.02, TARGETS[key]),
            xycoords=("axes fraction", "data"),
            xytext=(0, 3),
            textcoords="offset points",
            fontsize=8,
            color="#b03a2e",
        )
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
        axis.yaxis.set_minor_formatter(NullFormatter())
        axis.yaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
        axis.set_xlim(-0.6, len(groups) - 0.4)
        axis.set_xticks(range(len(groups)), [f"{n}\n(n = {len(c)})" for n, c in groups.items()])
        axis.set_title(title)
        axis.grid(axis="y", color="#dddddd", linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("milliseconds (log)")
    figure.suptitle("Calls over warm lines and over cold ones: ● by text, ▲ by speech, the bar the median")
    figure.savefig(path, dpi=130)


def _dots(axis: Any, place: int, calls: Sequence[Call], key: str, colour: str) -> None:
    known = [(call.kind, getattr(call, key)) for call in calls if getattr(call, key) is not None]
    if not known:
        return
    for kind, marker in _MARKERS.items():
        values = [value for each, value in known if each == kind]
        spread = [place + ((index % 7) - 3) * 0.05 for index in range(len(values))]
        axis.scatter(spread, values, s=20, marker=marker, color=colour, alpha=0.65, linewidths=0)
    middle = percentile(sorted(value for _, value in known), 0.5)
    axis.plot([place - 0.28, place + 0.28], [middle, middle], color=colour, linewidth=2.5)
    axis.annotate(f"{middle:,.1f}", (place + 0.3, middle), fontsize=9, color=colour, va="center", clip_on=False)
