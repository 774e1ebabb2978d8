"""Readiness follows its table; the loop's beat is measured."""

import asyncio
import time
from itertools import product

import pytest

from gateway.telemetry.health import Health, LoopLag, Status
from gateway.telemetry.metrics import Metrics


@pytest.mark.parametrize(("starting", "draining", "overloaded"), list(product((False, True), repeat=3)))
def test_ready_means_neither_starting_nor_draining_nor_overloaded(
    *, starting: bool, draining: bool, overloaded: bool
) -> None:
    health = Health(now=100.0)
    health.starting, health.draining, health.overloaded = starting, draining, overloaded
    assert health.ready(101.0) is not (starting or draining or overloaded)
    # Starting ends by itself; the others do not.
    assert health.ready(110.0) is not (draining or overloaded)


@pytest.mark.parametrize("status", list(Status))
@pytest.mark.parametrize("component", ["store", "upstream", "pool:default"])
def test_no_component_ever_clears_readiness(component: str, status: Status) -> None:
    health = Health(now=0.0)
    health.starting = False
    health.set(component, status, "gone")
    assert health.ready(1.0)


def test_the_report_lists_every_component_with_its_reason() -> None:
    health = Health(now=0.0)
    health.set("store", Status.FAILING, "no answer for 3 s")
    health.set("loop", Status.OK)
    assert health.report(1.0) == {
        "ready": False,
        "obstacles": ["starting"],
        "components": {
            "loop": {"status": "ok", "reason": ""},
            "store": {"status": "failing", "reason": "no answer for 3 s"},
        },
    }


def test_a_reason_shows_no_secret_and_no_end() -> None:
    health = Health(now=0.0)
    health.set("upstream", Status.FAILING, "401 for sk-proj-canarycanary1 " + "x y " * 500)
    shown = str(health.report(0.0))
    assert "canary" not in shown
    assert len(shown) < 400


def test_subscribers_hear_the_state_at_once_and_each_change_once() -> None:
    health, heard = Health(now=0.0), list[bool]()
    end = health.subscribe(heard.append)
    health.starting = False
    health.starting = False
    health.draining = True
    health.overloaded = True
    health.draining = False
    health.overloaded = False
    assert heard == [False, True, False, True]
    end()
    health.draining = True
    assert heard == [False, True, False, True]


def test_subscribers_hear_that_starting_ended_by_itself() -> None:
    health, heard = Health(now=0.0), list[bool]()
    health.subscribe(heard.append)
    health.beat(9.9)
    assert heard == [False]
    health.beat(10.0)
    assert heard == [False, True]


def test_alive_needs_a_beat_in_the_last_five_seconds() -> None:
    health = Health(now=0.0)
    health.beat(7.0)
    assert health.alive(12.0)
    assert not health.alive(12.1)


async def test_a_blocked_loop_is_seen() -> None:
    metrics, health = Metrics(), Health(now=time.monotonic())
    async with LoopLag(metrics, health, period_seconds=0.02) as lag, asyncio.timeout(5):
        time.sleep(0.15)  # noqa: ASYNC251 - the very thing to be seen
        while lag.worst_seconds < 0.1:  # noqa: ASYNC110 - the beat, not an event, is awaited
            await asyncio.sleep(0)
    seen = metrics.registry.get_sample_value("trunkline_loop_lag_seconds_sum")
    assert seen is not None
    assert seen > 0.1


async def test_the_worst_lag_is_forgotten_after_a_second() -> None:
    now = 0.0
    lag = LoopLag(Metrics(), Health(now=0.0), period_seconds=0.1, clock=lambda: now)
    async with lag:
        for late in (0.5, *[0.0] * 9):
            now += 0.1 + late
            lag._measure(now - late)
        assert lag.worst_seconds == pytest.approx(0.5)
        now += 0.1
        lag._measure(now)
        assert lag.worst_seconds == 0


async def test_a_beat_comes_each_period_and_stops_with_its_scope() -> None:
    beats: asyncio.Queue[float] = asyncio.Queue()

    class Listening(Health):
        def beat(self, now: float) -> None:
            beats.put_nowait(now)

    async with asyncio.timeout(5):
        async with LoopLag(Metrics(), Listening(now=0.0), period_seconds=0.005) as lag:
            first, second = await beats.get(), await beats.get()
        assert second > first
    assert lag._timer is not None
    assert lag._timer.cancelled()
