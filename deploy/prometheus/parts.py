"""The forms that rules have: what is recorded, what wakes somebody, and how often callers were told something."""
# ruff: noqa: INP001 - a part of a script, no package

from typing import Any, Final

RUNBOOK: Final = "docs/operations/alerts.md"

# Levels of aggregation: the first word of a recorded name. One installation is one job of a namespace.
JOB: Final = "namespace, job"
INSTANCE: Final = "namespace, job, pod, instance"
POOL: Final = "namespace, job, pool"

AT: Final = "{{ $labels.job }}{{ with $labels.namespace }} in {{ . }}{{ end }}"
ON: Final = "{{ with $labels.pod }}{{ . }}{{ else }}{{ $labels.instance }}{{ end }}"
COUNT: Final = '{{ $value | printf "%.0f" }}'
SHARE: Final = "{{ $value | humanizePercentage }}"

# Four are chance, whatever part of all they are: nobody is woken for the one caller of a night who had to wait. An
# increase reaches a little beyond the first and the last sample, so that four may read 4.2.
FEW: Final = 4.5
# Every gateway has one series of it, always: it stands for the gateway.
PRESENCE: Final = "trunkline_store_degraded"


def recorded(record: str, expr: str) -> dict[str, Any]:
    """Return a rule that records."""
    return {"record": record, "expr": expr}


def alert(
    name: str, expr: str, severity: str, wait: str, *, summary: str, description: str, **labels: str
) -> dict[str, Any]:
    """Return a rule that wakes (`page`), or is looked at in working hours (`ticket`)."""
    rule: dict[str, Any] = {"alert": name, "expr": expr}
    if wait:
        rule["for"] = wait
    rule["labels"] = {"severity": severity, **labels}
    rule["annotations"] = {
        "summary": f"{summary}.",
        "description": description,
        "runbook": f"{RUNBOOK}#{name.lower()}",
    }
    return rule


def total(level: str, metric: str) -> str:
    """Return the sum of a metric at a level."""
    return f"sum by ({level}) ({metric})"


def told(reason: str, window: str) -> str:
    """Return how often callers were told a reason: one of those that the gateway begins to count at 0."""
    return total(JOB, f'increase(trunkline_errors_total{{reason="{reason}"}}[{window}])')
