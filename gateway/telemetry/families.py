"""Every metric: name, help, labels and buckets stand here and nowhere else.

Labels name a template, a state or a reason, never a caller, tenant or session.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Family:
    """What a metric is called, what it means and in which steps it is measured."""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


# Pools. `pool` is the template's name.
ACQUIRE_WAIT: Final = Family(
    "trunkline_acquire_wait_seconds",
    "Seconds from asking a pool for a line to the answer, by result.",
    ("pool", "result"),
    (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.01, 0.05, 0.25, 0.5, 1, 2, 5),
)
ACQUIRES: Final = Family(
    "trunkline_acquires_total",
    "Acquires of callers ended, by result: hit, wait, dialled, timeout, shed or cancelled.",
    ("pool", "result"),
)
DIAL: Final = Family(
    "trunkline_dial_seconds",
    "Seconds that a stage of a dial took by itself: tcp, tls, upgrade, created, updated.",
    ("pool", "stage"),
    (0.005, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2, 5),
)
DIALS: Final = Family(
    "trunkline_dials_total",
    "Dials ended, by result: ok, or the reason of the failure in lower case.",
    ("pool", "result"),
)
ENTRY_AGE: Final = Family(
    "trunkline_entry_age_seconds",
    "Seconds that a line had stood ready when it was handed out.",
    ("pool",),
    (0.1, 1, 5, 15, 30, 60, 120, 180, 240, 300, 600),
)
LEASE_HELD: Final = Family(
    "trunkline_lease_held_seconds",
    "Seconds from the grant of a lease to its end.",
    ("pool",),
    (1, 5, 15, 30, 60, 180, 300, 600, 1200, 1800, 3600, 7200),
)
CONNECTIONS: Final = Family(
    "trunkline_connections",
    "Lines to the Realtime API now, by state: dialling, ready, leased or draining.",
    ("pool", "state"),
)
CONNECTIONS_CLOSED: Final = Family(
    "trunkline_connections_closed_total",
    "Lines closed, by reason; lost = nobody here asked for it.",
    ("pool", "reason"),
)
WAITERS: Final = Family("trunkline_waiters", "Callers waiting for a line now.", ("pool",))
OLDEST_WAIT: Final = Family(
    "trunkline_oldest_wait_seconds",
    "Seconds that the first waiter waits; 0 = none.",
    ("pool",),
)
POOL_FLOOR: Final = Family("trunkline_pool_floor", "Ready lines that the pool tries to keep now.", ("pool",))
POOL_CEILING: Final = Family("trunkline_pool_ceiling", "Lines that the pool may have in any state.", ("pool",))

IDLE_LINE: Final = Family(
    "trunkline_idle_line_seconds_total",
    "Seconds that lines have stood ready, counted when they are handed out or closed.",
    ("pool",),
)

BREAKER_OPEN: Final = Family(
    "trunkline_breaker_open",
    "1 while dials to a target on an account are held back because they keep failing, else 0.",
    ("target", "account"),
)
KEY_REFUSED: Final = Family(
    "trunkline_key_refused", "1 while an account's key is taken for bad and only probed, else 0.", ("account",)
)

# Sessions.
FIRST_AUDIO: Final = Family(
    "trunkline_first_audio_seconds",
    "Seconds from speech_stopped or response_created to the answer's first audio.",
    ("pool", "from"),
    (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1, 1.5, 2, 3, 5),
)
FIRST_AUDIBLE: Final = Family(
    "trunkline_first_audible_seconds",
    "Seconds from speech_stopped, or else response_created, to the first audible sample as it is played.",
    ("pool",),
    (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1, 1.5, 2, 3, 5),
)
RELAY: Final = Family(
    "trunkline_relay_seconds",
    "Seconds that a frame spent in the gateway, sampled; direction up = towards the model.",
    ("direction",),
    (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.25),
)
RECOVER: Final = Family(
    "trunkline_recover_seconds",
    "Seconds from the loss of a session's line to a fresh one that was told everything, by cause.",
    ("cause",),
    (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 20),
)
RECOVERIES: Final = Family(
    "trunkline_recoveries_total", "Lost lines of sessions, by cause and result: ok or failed.", ("cause", "result")
)
RESUME: Final = Family(
    "trunkline_resume_seconds",
    "Seconds from a caller's `resume` to our answer: reattached to its line, or rebuilt on another.",
    ("outcome",),
    (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
ROTATIONS: Final = Family(
    "trunkline_rotations_total",
    "Lines that sessions left before their end, by trigger (expiry, slow) and result: ok or failed.",
    ("trigger", "result"),
)
SESSIONS: Final = Family("trunkline_sessions", "Sessions that live here now, by state.", ("state",))
TOKENS: Final = Family(
    "trunkline_tokens_total",
    "Tokens of ended sessions, by kind; input and output are totals that contain the other kinds.",
    ("pool", "kind"),
)
COST: Final = Family(
    "trunkline_cost_dollars_total",
    "US dollars that the tokens of ended sessions cost by the provider's published prices; unknown models cost 0.",
    ("pool",),
)
ERRORS: Final = Family("trunkline_errors_total", "Errors that callers were told, by reason in lower case.", ("reason",))

# The process.
STORE_COMMAND: Final = Family(
    "trunkline_store_command_seconds",
    "Seconds from sending a command to Redis to its answer.",
    ("command",),
    (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1, 2),
)
STORE_DEGRADED: Final = Family("trunkline_store_degraded", "1 while sessions go on without their store, else 0.")
DEGRADED: Final = Family(
    "trunkline_degraded",
    "1 while a part of the gateway is not well, else 0; `/readyz` says why.",
    ("component",),
)
CERTIFICATE_NOT_BEFORE: Final = Family(
    "trunkline_certificate_not_before_timestamp_seconds",
    "Seconds since 1970 at which the listener's certificate became valid; absent without TLS.",
)
CERTIFICATE_NOT_AFTER: Final = Family(
    "trunkline_certificate_not_after_timestamp_seconds",
    "Seconds since 1970 until which the listener's certificate is valid; absent without TLS.",
)
LOOP_LAG: Final = Family(
    "trunkline_loop_lag_seconds",
    "Seconds by which the event loop was late, measured ten times a second.",
    (),
    (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5),
)
