"""The rows about calls: how soon they are answered, what goes wrong, what they outlive, what they cost."""
# ruff: noqa: INP001 - a part of a script, no package

from typing import Final

from deploy.grafana.parts import (
    GATEWAY,
    PER_SECOND,
    POOL,
    Graph,
    Row,
    Target,
    quantiles,
    rate,
)

_OPENED: Final = 'result="ok"'
_LEFT: Final = 'result=~"timeout|shed|cancelled"'

LATENCY: Final = Row(
    "Latency",
    (
        Graph(
            "First audio",
            "From the end of the caller's speech, or the request for an answer, to the answer's first audio.",
            "s",
            quantiles("trunkline_first_audio_seconds", POOL, parts=(0.5, 0.95, 0.99)),
            limits=((1.5, "red"),),
        ),
        Graph(
            "First audio by what it follows",
            "After speech the provider's turn detection is part of it.",
            "s",
            quantiles("trunkline_first_audio_seconds", POOL, "from", (0.95,)),
        ),
        Graph(
            "First audible audio",
            "As above, to the first sample that is no silence, as it is played.",
            "s",
            quantiles("trunkline_first_audible_seconds", POOL),
        ),
        Graph(
            "Wait for a line",
            "What a caller waited, from asking the pool to its answer, by result, 95th percentile.",
            "s",
            quantiles("trunkline_acquire_wait_seconds", POOL, "result", (0.95,)),
            span=6,
        ),
        Graph(
            "Stages of a dial",
            "What each stage took by itself, 95th percentile. All but updated depend on the network and the provider.",
            "s",
            quantiles("trunkline_dial_seconds", POOL, "stage", (0.95,)),
            stacked=True,
            span=6,
        ),
        Graph(
            "Frames in the gateway",
            "What the gateway adds to a frame, 99th percentile of a sample. Up = towards the model.",
            "s",
            quantiles("trunkline_relay_seconds", GATEWAY, "direction", (0.99,)),
            span=6,
        ),
        Graph(
            "Lag of the event loop",
            "How late the loop is, 99th percentile over five minutes. Above 50 ms the process has too much to do.",
            "s",
            (Target(f"instance:trunkline_loop_lag_seconds:p99_rate5m{{{GATEWAY}}}", "{{instance}}"),),
            limits=((0.05, "red"),),
            span=6,
        ),
    ),
)

ERRORS: Final = Row(
    "Errors",
    (
        Graph(
            "Errors that callers were told",
            "By reason. Many reasons are the caller's own mistakes: look them up under errors in the documentation.",
            PER_SECOND,
            (Target(rate("trunkline_errors_total", GATEWAY, "reason"), "{{reason}}"),),
            stacked=True,
        ),
        Graph(
            "Callers who got no line",
            "Timeout = waited in vain, shed = sent away at once, cancelled = hung up meanwhile.",
            PER_SECOND,
            (
                Target(
                    rate("trunkline_acquires_total", POOL, "pool, result", _LEFT),
                    "{{pool}} {{result}}",
                ),
            ),
            stacked=True,
        ),
        Graph(
            "Dials held back",
            "1 while the breaker of a target and account is open, or the account's key is refused.",
            "short",
            (
                Target(f"max by (target, account) (trunkline_breaker_open{{{GATEWAY}}})", "{{target}} {{account}}"),
                Target(f"max by (account) (trunkline_key_refused{{{GATEWAY}}})", "key of {{account}}"),
            ),
            max=1,
        ),
    ),
)

SURVIVAL: Final = Row(
    "Survival",
    (
        Graph(
            "Lines for running sessions",
            "Line_lost = nobody here ended the line, claimed = the session came from another gateway, "
            "resumed = it had rested. Failed = it ended, for no other line was to be had.",
            PER_SECOND,
            (Target(rate("trunkline_recoveries_total", GATEWAY, "cause, result"), "{{cause}} {{result}}"),),
            stacked=True,
        ),
        Graph(
            "Time to recover",
            "From the moment without a line to one that was told everything.",
            "s",
            quantiles("trunkline_recover_seconds", GATEWAY, "cause"),
        ),
        Graph(
            "Rotations",
            "Lines that sessions left before their end. A failed one becomes a lost line.",
            PER_SECOND,
            (Target(rate("trunkline_rotations_total", GATEWAY, "trigger, result"), "{{trigger}} {{result}}"),),
            stacked=True,
        ),
        Graph(
            "Resumes",
            "Callers that came back: to their own line, or to a session that was built again.",
            PER_SECOND,
            (Target(rate("trunkline_resume_seconds_count", GATEWAY, "outcome"), "{{outcome}}"),),
            stacked=True,
        ),
        Graph(
            "Time to resume",
            "From the caller's request to our answer.",
            "s",
            quantiles("trunkline_resume_seconds", GATEWAY, "outcome"),
        ),
        Graph(
            "Gateways without their store",
            "1 while a gateway's sessions go on without Redis.",
            "short",
            (Target(f"max by (instance) (trunkline_store_degraded{{{GATEWAY}}})", "{{instance}}"),),
            max=1,
        ),
        Graph(
            "Parts that are not well",
            "1 while /readyz shows a part as degraded, with the reason. A configuration that is refused is one.",
            "short",
            (Target(f"max by (component) (trunkline_degraded{{{GATEWAY}}})", "{{component}}"),),
            max=1,
        ),
        Graph(
            "Redis commands",
            "From a command to its answer, 95th percentile.",
            "s",
            quantiles("trunkline_store_command_seconds", GATEWAY, "command", (0.95,)),
        ),
        Graph(
            "Time left of the certificate",
            "Until nobody can connect any more. Empty where callers come without TLS.",
            "s",
            (
                Target(
                    f"min by (instance) (trunkline_certificate_not_after_timestamp_seconds{{{GATEWAY}}}) - time()",
                    "{{instance}}",
                ),
            ),
        ),
    ),
)

COST: Final = Row(
    "Cost",
    (
        Graph(
            "Cost of an hour",
            "What the tokens of sessions cost that ended, at the prices that this version knows. Check the bill.",
            "currencyUSD",
            (Target(f"{rate('trunkline_cost_dollars_total', POOL, 'pool')} * 3600", "{{pool}}"),),
            stacked=True,
            span=6,
        ),
        Graph(
            "Tokens by kind",
            "Of ended sessions. Input and output are totals that contain the other kinds.",
            PER_SECOND,
            (Target(rate("trunkline_tokens_total", POOL, "kind"), "{{kind}}"),),
            span=6,
        ),
        Graph(
            "Lines in use and in reserve",
            "Average number of lines, counted when a line is handed out or ends: so long calls show at their end.",
            "short",
            (
                Target(rate("trunkline_lease_held_seconds_sum", POOL, "pool"), "{{pool}} in use"),
                Target(rate("trunkline_idle_line_seconds_total", POOL, "pool"), "{{pool}} in reserve"),
            ),
            span=6,
        ),
        Graph(
            "Dials for each line used",
            "1 = every line that was opened was used. More = lines grew too old, or were lost, before anybody came.",
            "short",
            (
                Target(
                    f"{rate('trunkline_dials_total', POOL, 'pool', _OPENED)} "
                    f"/ ({rate('trunkline_lease_held_seconds_count', POOL, 'pool')} > 0)",
                    "{{pool}}",
                ),
            ),
            span=6,
        ),
    ),
)
