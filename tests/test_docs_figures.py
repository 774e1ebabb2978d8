"""The figures that the pages give are those of the code."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from gateway.app import exchange, reload
from gateway.app.descriptors import OWN
from gateway.cli import watching
from gateway.core import backoff, breaker, demand, pace, policy, reservation, share
from gateway.rpc.requests import CORRELATION_MAX, HISTORY_MAX, METADATA_MAX
from gateway.rpc.server import ServerOptions
from gateway.runtime.greeting import GUARD_MS
from gateway.runtime.lane_parts import LaneOptions
from gateway.runtime.pulse import PulseOptions
from gateway.runtime.session import EXPEL_SECONDS
from gateway.runtime.session_options import SessionOptions
from gateway.runtime.trunk_group import PROOF_SECONDS
from gateway.settings import Settings
from gateway.store.keys import RECORD_LIFE_SECONDS
from gateway.store.options import SPARE_FROM_CONNECTIONS, SPARE_MIN, SPARE_RATIO, AccountSlots, SlotsOptions
from gateway.telemetry.health import BEAT_MAX_SECONDS, STARTING_MAX_SECONDS

ROOT: Final = Path(__file__).parents[1]


def sentences() -> Mapping[str, Iterable[str]]:
    """Return what each page must say."""
    limits, pulse, server, slots = SessionOptions(), PulseOptions(), ServerOptions("", 1), SlotsOptions()
    delays, stop, settings = backoff.BackoffOptions(), breaker.BreakerOptions(), Settings.model_construct()
    pings = (server.keepalive_ms + server.keepalive_timeout_ms) // 1000
    proof: Any = settings.pools["default"].proof_max_seconds
    idle, busy = (quiet + pulse.answer_seconds for quiet in (pulse.idle_seconds, pulse.busy_seconds))
    memories = (demand.RUSH_SECONDS, demand.FAST_SECONDS, demand.SLOW_SECONDS)
    stuck = limits.outbox.audio_max_bytes >> 20
    kept = LaneOptions().backlog_max_bytes >> 20
    at_once = pace.MESSAGES_BURST_SECONDS * pace.MESSAGES_PER_SECOND
    return {
        "guarantee": (
            f"noticed by pings within {pings} s",
            f"finished for at most {limits.finish_max_seconds:.0f} s",
            f"for up to {limits.delivery_max_seconds:.0f} s",
            f"within {idle:.0f} s, and within {busy:.0f} s while an answer is due",
            f"Up to {kept} MiB per session",
            f"when {stuck} MiB wait for it",
            f"under way for {limits.send_max_seconds:.0f} s",
        ),
        "callers/opening": (
            f"up to {HISTORY_MAX:,} items",
            f"before {GUARD_MS / 1000} s of it were heard",
            f"up to {METADATA_MAX} marks",
            f"up to {CORRELATION_MAX} characters",
            f"(1 to {reservation.TTL_MAX_SECONDS}; 0 means {reservation.TTL_SECONDS})",
            f"within {limits.first_message_seconds:.0f} s after the call began",
            f"every {server.keepalive_ms // 1000} s and gives up after {server.keepalive_timeout_ms // 1000} s",
        ),
        "callers/talking": (
            f"{pace.SPEECH_BURST_SECONDS * pace.SPEECH_TIMES_MAX:.0f} s of it at once",
            f"{pace.MESSAGES_PER_SECOND:.0f} a second, and {at_once:.0f} at once",
            f"Who lets {stuck} MiB wait",
        ),
        "operations/configuring": (
            f"every {reload.POLL_SECONDS:.0f} s, and at once on SIGHUP",
            f"within {EXPEL_SECONDS:.0f} s with `UNAUTHENTICATED`",
            f"or after {exchange.READY_SECONDS:.0f} s; the old lines finish",
        ),
        "operations/secrets": (
            f"within {reload.POLL_SECONDS:.0f} s, also when it is swapped",
            f"end within {EXPEL_SECONDS:.0f} s",
        ),
        "operations/deploying": (
            f"and {OWN} more",
            f"has not run for {BEAT_MAX_SECONDS:.0f} s",
            f"{STARTING_MAX_SECONDS:.0f} s at most",
            f"`limits.drain_seconds` ({settings.limits.drain_seconds:.0f})",
            f"idle limit ({settings.limits.session_idle_max_seconds} s)",
            f"pings, every {server.keepalive_ms // 1000} s",
        ),
        "operations/steering": (f"within the last {watching.RECENT_SECONDS:.0f} s",),
        "operations/redis": (
            f"`store.durable_hold_ms` ({settings.store.durable_hold_ms})",
            f"up to {kept} MiB a session",
        ),
        "operations/lines": (
            "about {:.0f}, {:.0f} and {:.0f} s".format(*memories),
            f"every {proof / 2:.0f} s (half of `proof_max_seconds`)",
            f"none within {PROOF_SECONDS:.0f} s",
            f"From {SPARE_FROM_CONNECTIONS} `connections_max` on, {SPARE_RATIO:.0%} of them".replace("%", " %"),
            f"({SPARE_MIN} at least)",
            f"of 100, {100 - AccountSlots(100, 5, 10).spare_kept} are there",
            f"for {slots.rejoin_seconds} s, until all were heard",
            f"free {slots.ttl_seconds:.0f} s after its last word",
            f"for over {slots.frozen_seconds} s",
            f"up to {delays.first_seconds} s, then up to twice as long, at most {delays.max_seconds:.0f} s",
            f"lines die within {policy.STANDING_SECONDS:.0f} s, three times",
            f"for {delays.stubborn_seconds:.0f} s only callers",
            f"{stop.failures} dials in {stop.window_seconds:.0f} s fail",
            f"for {stop.open_seconds:.0f} s, then {2 * stop.open_seconds:.0f} s, up to {stop.open_max_seconds:.0f} s",
            f"one probe goes out every {stop.key_probe_seconds:.0f} s",
        ),
        "troubleshooting": (
            f"more than {pace.MESSAGES_PER_SECOND:.0f} messages a second",
            f"more than {server.metadata_max_bytes >> 10} KiB of metadata",
            f"for {STARTING_MAX_SECONDS:.0f} s at most after the start",
            f"no line after {exchange.READY_SECONDS:.0f} s",
        ),
        "security": (f"{RECORD_LIFE_SECONDS} s after its last write",),
    }


@pytest.mark.parametrize("page", sentences())
def test_figures_are_those_of_the_code(page: str) -> None:
    text = " ".join((ROOT / "docs" / f"{page}.md").read_text("utf-8").split())
    assert [each for each in sentences()[page] if each not in text] == []


def test_words_for_numbers_still_fit() -> None:
    """They stand as words on the pages."""
    patience: float = share.PATIENCE_LEADS
    assert (backoff.STUBBORN_AFTER, patience, pace.SPEECH_TIMES_MAX, breaker.BreakerOptions().failures_per_success) == (
        3, 3, 2, 2,
    )  # fmt: skip
