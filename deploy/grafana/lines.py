"""The rows about lines: whether objectives are met, the pools, the sessions."""
# ruff: noqa: INP001 - a part of a script, no package

from typing import Final

from deploy.grafana.parts import (
    GATEWAY,
    GOOD_ABOVE_95,
    GOOD_ABOVE_99,
    GOOD_AT_ZERO,
    JOB,
    PER_SECOND,
    POOL,
    POOL_OF_ALL,
    Figure,
    Graph,
    Row,
    Target,
    burn,
    part,
    quantiles,
    rate,
)

_HIT: Final = 'result="hit"'
_MAY_HIT: Final = 'result!="dialled"'
_IN_TIME: Final = 'le="1.5"'
_REFUSED: Final = 'result=~"timeout|shed"'
_STAYED: Final = 'result!="cancelled"'

OBJECTIVES: Final = Row(
    "Objectives",
    (
        Figure(
            "Warm hits",
            "Of the callers who may have a warm line, how many found one ready at once. The objective is 99 %.",
            "percentunit",
            Target(
                part("trunkline_acquires_total", "trunkline_acquires_total", _HIT, _MAY_HIT),
                "hits",
            ),
            GOOD_ABOVE_99,
            decimals=2,
        ),
        Figure(
            "Answers in time",
            "Of the answers with audio, how many began within 1.5 s. The objective is 95 %.",
            "percentunit",
            Target(
                part("trunkline_first_audio_seconds_bucket", "trunkline_first_audio_seconds_count", _IN_TIME, ""),
                "in time",
            ),
            GOOD_ABOVE_95,
            decimals=2,
        ),
        Figure(
            "Callers without a line",
            "Of the callers who did not hang up, how many waited in vain or were sent away. At most 0.1 % may.",
            "percentunit",
            Target(
                part("trunkline_acquires_total", "trunkline_acquires_total", _REFUSED, _STAYED),
                "without",
            ),
            GOOD_AT_ZERO,
            decimals=2,
        ),
        Figure(
            "Sessions",
            "Sessions that live now, in any state.",
            "short",
            Target(f"sum(trunkline_sessions{{{GATEWAY}}})", "sessions"),
            ((None, "text"),),
        ),
        Figure(
            "Gateways",
            "Gateways that answer Prometheus.",
            "short",
            Target(f"count(trunkline_store_degraded{{{GATEWAY}}})", "gateways"),
            ((None, "text"),),
        ),
        Figure(
            "Alerts",
            "Alerts of these rules that are firing.",
            "short",
            Target(f'count(ALERTS{{{JOB}, alertname=~"Trunkline.+", alertstate="firing"}}) or vector(0)', "firing"),
            ((None, "green"), (1, "red")),
        ),
        burn(
            "Warm hits: use of the budget",
            "pool:trunkline_acquires_missed:ratio_rate",
            0.01,
            "How much faster than allowed callers find no line ready.",
        ),
        burn(
            "First audio: use of the budget",
            "pool:trunkline_first_audio_late:ratio_rate",
            0.05,
            "How much faster than allowed answers begin late.",
        ),
        burn(
            "Callers without a line: use of the budget",
            "pool:trunkline_acquires_refused:ratio_rate",
            0.001,
            "How much faster than allowed callers get no line.",
        ),
    ),
)

POOLS: Final = Row(
    "Pool",
    (
        Graph(
            "Lines by state",
            "Lines to the Realtime API. Ready ones wait for callers, leased ones have one.",
            "short",
            (Target(f"sum by (state) (trunkline_connections{{{POOL}}})", "{{state}}"),),
            stacked=True,
        ),
        Graph(
            "Ready lines and the floor",
            "What stands ready, and what the pool wants to have ready. Ready far below the floor means slow dials.",
            "short",
            (
                Target(f'sum by (pool) (trunkline_connections{{{POOL}, state="ready"}})', "{{pool}} ready"),
                Target(f"sum by (pool) (trunkline_pool_floor{{{POOL}}})", "{{pool}} floor"),
            ),
        ),
        Graph(
            "Part of the ceiling in use",
            "Leased lines of those that a pool may have. Callers wait when it is full.",
            "percentunit",
            (Target(f"pool:trunkline_leased:ratio{{{POOL_OF_ALL}}}", "{{pool}}"),),
            max=1,
            limits=((0.9, "red"),),
        ),
        Graph(
            "Acquires by result",
            "Callers who asked for a line, and what they got: hit is what the pool is for. Sessions that need another "
            "line are not among them.",
            PER_SECOND,
            (Target(rate("trunkline_acquires_total", POOL, "result"), "{{result}}"),),
            stacked=True,
        ),
        Graph(
            "Callers waiting",
            "Callers who wait for a line now.",
            "short",
            (Target(f"sum by (pool) (trunkline_waiters{{{POOL}}})", "{{pool}}"),),
        ),
        Graph(
            "Oldest wait",
            "How long the first of them has waited. A caller hears silence meanwhile.",
            "s",
            (Target(f"max by (pool) (trunkline_oldest_wait_seconds{{{POOL}}})", "{{pool}}"),),
        ),
        Graph(
            "Age of lines at hand-out",
            "How long a line had stood ready when a caller got it, or a session that needed another. Near the maximum "
            "age, too many stand ready.",
            "s",
            quantiles("trunkline_entry_age_seconds", POOL),
        ),
        Graph(
            "Dials by result",
            "Lines that were opened, or why not.",
            PER_SECOND,
            (Target(rate("trunkline_dials_total", POOL, "result"), "{{result}}"),),
            stacked=True,
        ),
        Graph(
            "Lines closed by reason",
            "Lost = nobody here asked for it.",
            PER_SECOND,
            (Target(rate("trunkline_connections_closed_total", POOL, "reason"), "{{reason}}"),),
            stacked=True,
        ),
    ),
)

SESSIONS: Final = Row(
    "Sessions",
    (
        Graph(
            "Sessions by state",
            "Detached ones wait for their caller to come back, recovering ones for another line.",
            "short",
            (Target(f"sum by (state) (trunkline_sessions{{{GATEWAY}}})", "{{state}}"),),
            stacked=True,
        ),
        Graph(
            "Use of each gateway",
            "Leased lines of those that the gateway may have. The autoscaler goes by this.",
            "percentunit",
            (Target(f"trunkline:leased_ratio{{{GATEWAY}}}", "{{instance}}"),),
            max=1,
        ),
        Graph(
            "Time that a line is held",
            "From the grant of a line to its end. A session that moves or recovers holds several lines in turn.",
            "s",
            quantiles("trunkline_lease_held_seconds", POOL),
        ),
    ),
)
