"""docs/reference/metrics.md, made from `gateway/telemetry/families.py`."""

from typing import Final

from gateway.telemetry import families
from gateway.telemetry.families import Family
from tests.support.reference_markdown import code, codes, page, table

NAME: Final = "metrics.md"
# What stands beside the contract's names, with its labels: ARCHITECTURE, 47.
BEYOND: Final[dict[str, set[str]]] = {
    "trunkline_degraded": {"component"},
    "trunkline_certificate_not_before_timestamp_seconds": set(),
    "trunkline_certificate_not_after_timestamp_seconds": set(),
}
_USE: Final = """\
With this page you can look up every metric of `/metrics` on the ops address: its type, its labels and what it counts.
[Watching a gateway](../operations/watching.md) says which ones to begin with.

Times are seconds and sizes are bytes. `pool` is the name of a template; lines that have no configuration yet stand
under `bare:<target>/<model>`. No label names a caller, a tenant or a session. A series is missing until it is first
counted, but for what is watched for and rare, such as `trunkline_acquires_total`: those begin at 0."""
_BUCKETS: Final = "A histogram `x` has the series `x_bucket`, `x_sum` and `x_count`. Its buckets end at, in seconds:"


def render() -> str:
    """Return the page."""
    head, found = ("Metric", "Type", "Labels", "Meaning"), every()
    rows = [(code(each.name), kind(each), codes(each.labels), each.help) for each in found]
    buckets = [(code(each.name), ", ".join(_plain(step) for step in each.buckets)) for each in found if each.buckets]
    parts = (table(head, rows), "## Buckets", _BUCKETS, table(("Histogram", "Buckets"), buckets))
    return page("Metrics", _USE, "`gateway/telemetry/families.py`", *parts)


def every() -> list[Family]:
    """Return every metric, in the order of the file."""
    return [each for each in vars(families).values() if isinstance(each, Family)]


def kind(family: Family) -> str:
    """Return Prometheus' word for it."""
    if family.buckets:
        return "histogram"
    return "counter" if family.name.endswith("_total") else "gauge"


def _plain(step: float) -> str:
    return f"{step:.6f}".rstrip("0").rstrip(".")
