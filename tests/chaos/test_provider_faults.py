"""The provider fails in the ways that providers fail: dials stay bounded, warm lines serve on, the floor comes back.

Each run has a calm first part, which is what it is compared with.
"""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.dials import Dials, watched
from tests.support.load import Load, load, median_ms, outcomes
from tests.support.processes import on_linux
from tests.support.simulated import SimulatedProvider, simulated_provider
from tests.support.slots import figures
from tests.support.stack import Running, gateway_on, pool
from tests.support.waiting import eventually

pytestmark = [on_linux, pytest.mark.heavy, pytest.mark.timeout(150)]

FLOOR, DIALS_MAX, RATE, BURST = 12, 4, 20, 10
CALLS_PER_SECOND, CALM_SECONDS = 3.0, 5.0
ACCOUNTS: Final = {"main": {"connections_max": 200, "dials_per_second": RATE, "dials_burst": BURST}}
POOLS: Final = {
    "default": pool(floor=FLOOR, ceiling=40, dials_max=DIALS_MAX, waiters_max=50, demand={"enabled": False})
}


@dataclass
class Run:
    """What one test has."""

    running: Running
    provider: SimulatedProvider
    dials: Dials
    load: Load
    began: float

    @property
    def now(self) -> float:
        return asyncio.get_running_loop().time()

    async def strike(self, *faults: dict[str, Any]) -> float:
        """Set the provider's faults for new sockets; return when, at the earliest."""
        struck_at = self.now
        await asyncio.to_thread(self.provider.strike, faults)
        return struck_at

    async def refilled(self, seconds: float) -> None:
        """Wait until the floor is there, with nobody doing anything for it."""
        await eventually(lambda: self.running.pool().ready >= FLOOR, "the floor is refilled", seconds)

    def judged(self, what: str, struck_at: float, healed_at: float, **more: object) -> None:
        """Print and check what holds for every fault."""
        refilled_at = self.now
        calm, struck = self.load.between(self.began, struck_at), self.load.between(struck_at, healed_at)
        after = self.load.between(healed_at, refilled_at)
        warm = [each for each in [*struck, *after] if each.outcome == "WARM"]
        figures(
            what,
            calls=len(self.load.came),
            calm=outcomes(calm),
            struck=outcomes(struck),
            after=outcomes(after),
            hit_ms_calm=median_ms([each for each in calm if each.outcome == "WARM"]),
            hit_ms_struck=median_ms(warm),
            dials_each_second=self.dials.in_each_second(struck_at),
            dials_at_once=self.dials.highest,
            dials_in_a_second_max=self.dials.most_in_a_second(self.began),
            failed=dict(self.dials.failed),
            fault_s=round(healed_at - struck_at, 1),
            refilled_after_s=round(refilled_at - healed_at, 1),
            **more,
        )
        assert outcomes(calm) == {"WARM": len(calm)}
        # Who finds a warm line does not notice.
        assert all(each.waited_ms == 0 for each in [*calm, *warm])
        assert median_ms(warm) <= median_ms(calm) + 20
        assert self.dials.highest <= DIALS_MAX
        assert self.dials.most_in_a_second(self.began) <= RATE + BURST
        assert self.dials.beyond <= 0


@contextlib.asynccontextmanager
async def calm_run() -> AsyncIterator[Run]:
    """Bring everything up, and let callers come for a while."""
    with (
        tempfile.TemporaryDirectory(prefix="tk", dir="/tmp") as folder,
        simulated_provider(Path(folder), created_delay_ms=50) as provider,
    ):
        async with gateway_on(provider.url, pools=POOLS, accounts=ACCOUNTS) as running:
            await running.until_warm(FLOOR)
            dials = watched(running)
            async with load([running.channel], CALLS_PER_SECOND) as callers:
                run = Run(running, provider, dials, callers, asyncio.get_running_loop().time())
                await asyncio.sleep(CALM_SECONDS)
                yield run
            await running.until_free()


async def test_a_provider_that_is_killed_and_comes_back_is_found_again_without_a_restart() -> None:
    async with calm_run() as run:
        talking = run.running.caller()
        await talking.open()
        struck_at = run.now
        await asyncio.to_thread(run.provider.kill)
        told = [await talking.until("state_changed")]
        await asyncio.to_thread(run.provider.start)
        healed_at = run.now
        told.append(await talking.until("state_changed"))
        assert [each.cause for each in told] == ["line_lost", "line_replaced"]
        await talking.bye()
        await run.refilled(60)
        run.judged("provider killed", struck_at, healed_at)
        after = run.load.between(healed_at + 5, run.now)
        assert all(each.outcome in {"WARM", "WAITED"} for each in after)


async def test_a_key_that_is_refused_for_a_while_is_not_hammered_and_then_works_again() -> None:
    async with calm_run() as run:
        struck_at = await run.strike({"kind": "handshake", "status": 401})
        await asyncio.sleep(20)
        healed_at = await run.strike()
        dialled = [each for each in run.dials.begun if struck_at <= each < healed_at]
        refused = [each for each in run.load.between(struck_at + 8, healed_at) if each.outcome != "WARM"]
        await run.refilled(60)
        run.judged("key refused", struck_at, healed_at, dials_while_refused=len(dialled))
        assert run.dials.failed["UPSTREAM_REFUSED_KEY"] >= 3
        assert len(dialled) <= 5
        # Told at once and not after the wait.
        assert {each.outcome for each in refused} == {"UPSTREAM_REFUSED_KEY"}
        assert max(each.seconds for each in refused) < 1.0


async def test_a_provider_that_accepts_and_hangs_up_is_not_dialled_at_dial_speed() -> None:
    async with calm_run() as run:
        struck_at = await run.strike({"kind": "accept-then-close", "seconds": 0.2, "code": 1011})
        await asyncio.sleep(20)
        healed_at = await run.strike()
        dialled = [each for each in run.dials.begun if struck_at <= each < healed_at]
        await run.refilled(90)
        run.judged("accepts and hangs up", struck_at, healed_at, dials_while_failing=len(dialled))
        # Callers come three times a second, and each may cause one.
        assert len(dialled) <= 20 * CALLS_PER_SECOND


async def test_handshakes_that_hang_half_of_the_time_are_given_up_and_the_floor_holds() -> None:
    async with calm_run() as run:
        struck_at = await run.strike({"kind": "handshake-hang", "probability": 0.5})
        await asyncio.sleep(20)
        healed_at = await run.strike()
        await run.refilled(60)
        run.judged("half of the handshakes hang", struck_at, healed_at)
        served = [each for each in run.load.between(struck_at, healed_at) if each.outcome in {"WARM", "WAITED"}]
        assert len(served) >= len(run.load.between(struck_at, healed_at)) / 2
