"""The rules that operators are woken by, and the series that they, the dashboard and the autoscaler read.

`python deploy/prometheus/rules.py --write` writes the one copy, which the chart and a Prometheus of one's own load.
Each alert has its entry in docs/operations/alerts.md.
"""
# ruff: noqa: INP001 - a script, no package

import sys
from pathlib import Path
from typing import Any, Final

import yaml

sys.path.insert(0, str(Path(__file__).parents[2]))  # to run it as a script

from deploy.prometheus import objectives
from deploy.prometheus.parts import (
    AT,
    COUNT,
    FEW,
    INSTANCE,
    JOB,
    ON,
    POOL,
    PRESENCE,
    SHARE,
    alert,
    recorded,
    told,
    total,
)

ROOT: Final = Path(__file__).parents[2]
RULES: Final = ROOT / "deploy/helm/trunkline/files/rules.yaml"
_HEAD: Final = "# Written by `python deploy/prometheus/rules.py --write`. Change that, not this file.\n"

_TAKEN_OVER: Final = "job:trunkline_errors_superseded:increase15m"
_CERTIFICATE_BEGAN: Final = "trunkline_certificate_not_before_timestamp_seconds"
_CERTIFICATE_ENDS: Final = "trunkline_certificate_not_after_timestamp_seconds"
_CERTIFICATE_LEFT: Final = "job:trunkline_certificate_left:ratio"
_LEASED: Final = 'trunkline_connections{state="leased"}'
# What the autoscaler, the dashboard and several alerts read.
SHARED: Final = [
    recorded("trunkline:leased_ratio", f"{total(INSTANCE, _LEASED)} / {total(INSTANCE, 'trunkline_pool_ceiling')}"),
    recorded("pool:trunkline_leased:ratio", f"{total(POOL, _LEASED)} / {total(POOL, 'trunkline_pool_ceiling')}"),
    recorded(
        "instance:trunkline_loop_lag_seconds:p99_rate5m",
        f"histogram_quantile(0.99, sum by ({INSTANCE}, le) (rate(trunkline_loop_lag_seconds_bucket[5m])))",
    ),
    recorded(_TAKEN_OVER, told("superseded", "15m")),
    recorded(
        _CERTIFICATE_LEFT,
        f"min by ({JOB}) (({_CERTIFICATE_ENDS} - time()) / ({_CERTIFICATE_ENDS} - {_CERTIFICATE_BEGAN}))",
    ),
]

LINES: Final = [
    alert(
        "TrunklinePoolEmpty",
        f"max by ({INSTANCE}, pool) (trunkline_pool_floor) > 0 "
        f'and max by ({INSTANCE}, pool) (trunkline_connections{{state="ready"}}) == 0',
        "page",
        "1m",
        summary=f"Pool {{{{ $labels.pool }}}} on {ON} has no line ready ({AT})",
        description=f"For a minute, none of the {COUNT} lines that pool {{{{ $labels.pool }}}} wants ready on {ON} "
        "has been there. New callers wait, or are refused.",
    ),
    alert(
        "TrunklinePoolNearCeiling",
        "pool:trunkline_leased:ratio > 0.9",
        "ticket",
        "10m",
        summary=f"Pool {{{{ $labels.pool }}}} is nearly full ({AT})",
        description=f"For ten minutes, {SHARE} of the lines that are allowed to pool "
        "{{ $labels.pool }} have been in use.",
    ),
    alert(
        "TrunklineKeyRefused",
        f"sum by ({JOB}, account) (trunkline_key_refused) > 0",
        "page",
        "30s",
        summary=f"The provider refuses the key of account {{{{ $labels.account }}}} ({AT})",
        description=f"Gateways that open no lines on account {{{{ $labels.account }}}}: {COUNT}. Its key was refused "
        "three times in a row. Each of them tries it again every 30 s.",
    ),
    alert(
        "TrunklineBreakerOpen",
        f"sum by ({JOB}, target, account) (trunkline_breaker_open) > 0 "
        f"unless on ({JOB}, account) sum by ({JOB}, account) (trunkline_key_refused) > 0",
        "page",
        "2m",
        summary=f"No lines can be opened to {{{{ $labels.target }}}} on account {{{{ $labels.account }}}} ({AT})",
        description=f"Gateways that hold their dials to {{{{ $labels.target }}}} back: {COUNT}. "
        "Their dials keep failing.",
    ),
]

SESSIONS: Final = [
    alert(
        "TrunklineRecoveriesFail",
        # Three: two may read a little more, as of FEW.
        f'sum by ({JOB}) (increase(trunkline_recoveries_total{{result="failed"}}[10m])) > 2.5',
        "page",
        "",
        summary=f"Conversations end because they get no other line ({AT})",
        description=f"In ten minutes, {COUNT} sessions without a line got no other one, and ended.",
    ),
    alert(
        "TrunklineOverloaded",
        f"{told('overloaded', '5m')} > {FEW}",
        "page",
        "",
        summary=f"Gateways have no room for more sessions ({AT})",
        description=f"In five minutes, {COUNT} callers were told OVERLOADED: the gateway that they reached has all "
        "the sessions that it may have.",
    ),
    alert(
        "TrunklineTakeOvers",
        f"{_TAKEN_OVER} > 20 and {_TAKEN_OVER} > 2 * sum by ({JOB}) (trunkline_sessions)",
        "ticket",
        "15m",
        summary=f"Sessions are taken over again and again ({AT})",
        description=f"In fifteen minutes, {COUNT} streams were told SUPERSEDED: more than twice as many as there are "
        "sessions. A planned move takes each over once.",
    ),
    alert(
        "TrunklineInternalErrors",
        f"{told('internal', '15m')} > 0",
        "ticket",
        "",
        summary=f"A fault of the gateway ended something ({AT})",
        description=f"Errors of the reason INTERNAL that callers were told in fifteen minutes: {COUNT}.",
    ),
]

PROCESSES: Final = [
    alert(
        "TrunklineRedisDegraded",
        f"sum by ({JOB}) (trunkline_store_degraded) > 0",
        "page",
        "2m",
        summary=f"Sessions go on without Redis ({AT})",
        description=f"Gateways that cannot store their sessions: {COUNT}. If one of them is lost now, so are its "
        "conversations.",
    ),
    alert(
        "TrunklineConfigurationRefused",
        f'sum by ({JOB}) (trunkline_degraded{{component="configuration"}}) > 0',
        "ticket",
        "5m",
        summary=f"A change of the configuration is not followed ({AT})",
        description=f"Gateways that refuse what their files say now, and go on with what they had: {COUNT}.",
    ),
    alert(
        "TrunklineCertificateEnds",
        # Whoever renews certificates does so long before that, whether they are good for a day or a year.
        f"{_CERTIFICATE_LEFT} < 0.1",
        "ticket",
        "5m",
        summary=f"The listener's certificate ends soon ({AT})",
        description=f"Of the time that the certificate is valid, {SHARE} is left. After that nobody can connect.",
    ),
    alert(
        "TrunklineCertificateEnds",
        f"{_CERTIFICATE_LEFT} < 0.02",
        "page",
        "5m",
        summary=f"The listener's certificate is about to end, or has ended ({AT})",
        description=f"Of the time that the certificate is valid, {SHARE} is left. From zero on nobody can connect.",
    ),
    alert(
        "TrunklineLoopLate",
        "instance:trunkline_loop_lag_seconds:p99_rate5m > 0.05",
        "ticket",
        "5m",
        summary=f"Gateway {ON} has more to do than one CPU can ({AT})",
        description=f"One in a hundred turns of the event loop of {ON} is {{{{ $value | humanizeDuration }}}} late. "
        "Audio is late by the same.",
    ),
    alert(
        "TrunklineGatewayDown",
        f"up == 0 and on ({JOB}) group by ({JOB}) (last_over_time({PRESENCE}[1h]))",
        "ticket",
        "2m",
        summary=f"Gateway {ON} does not answer Prometheus ({AT})",
        description=f"Prometheus knows {ON}, and has not been able to read its metrics for two minutes.",
    ),
    alert(
        "TrunklineGone",
        f"(group by ({JOB}) (last_over_time({PRESENCE}[1d])) unless on ({JOB}) group by ({JOB}) ({PRESENCE})) "
        f"or absent_over_time({PRESENCE}[1d])",
        "page",
        "2m",
        summary="Prometheus sees no gateway{{ with $labels.job }} of {{ . }}{{ end }}"
        "{{ with $labels.namespace }} in {{ . }}{{ end }}",
        description="No gateway{{ with $labels.job }} of {{ . }}{{ end }} has given its metrics for two minutes. "
        "No other alert can fire until one does.",
    ),
]


def groups() -> dict[str, Any]:
    """Return the file's content."""
    made = {
        "trunkline-shared": SHARED,
        "trunkline-objectives": objectives.ratios(),
        "trunkline-budgets": objectives.burns(),
        "trunkline-lines": LINES,
        "trunkline-sessions": SESSIONS,
        "trunkline-processes": PROCESSES,
    }
    return {"groups": [{"name": name, "rules": rules} for name, rules in made.items()]}


def text() -> str:
    """Return the file."""
    return _HEAD + yaml.safe_dump(groups(), sort_keys=False, width=10_000, allow_unicode=True)


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        RULES.write_text(text(), "utf-8")
    elif sys.argv[1:]:
        sys.exit(f"{Path(__file__).name} knows --write, and nothing else")
    elif not RULES.exists() or RULES.read_text("utf-8") != text():
        sys.exit(f"{RULES.relative_to(ROOT)} is not what {Path(__file__).name} makes; run it with --write")
