"""Gateways as real processes that are killed and frozen: the cap holds, and what they held comes back."""

import asyncio
import sys
from pathlib import Path

import pytest

from tests.support.slots_scene import scene, show

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="freezes processes")


async def test_the_cap_holds_over_a_killed_and_a_frozen_process(tmp_path: Path) -> None:
    async with scene(tmp_path, 1.2, 0.4) as made:
        kills = [await made.kill()]
        made.start()
        async with made.frozen():
            await asyncio.sleep(made.ttl_seconds * 1.5)
        await made.busy()
        show(made, kills)
        assert made.overshoot() == 0
        assert max(kills) <= made.ttl_seconds + 1


@pytest.mark.heavy
@pytest.mark.timeout(240)
async def test_the_cap_holds_over_many_kills_and_freezes(tmp_path: Path) -> None:
    async with scene(tmp_path, 3.0, 1.0) as made:
        kills = list[float]()
        for round_number in range(6):
            kills.append(await made.kill())
            made.start()
            if round_number % 2:
                async with made.frozen():
                    await asyncio.sleep(4.5)
            await made.busy()
        show(made, kills)
        assert made.overshoot() == 0
        assert max(kills) <= made.ttl_seconds + 1


async def test_the_cap_holds_over_a_process_that_is_frozen_while_it_asks(tmp_path: Path) -> None:
    async with scene(tmp_path, 1.2, 0.4) as made:
        for _ in range(3):
            async with made.frozen(asking=True):
                await asyncio.sleep(made.ttl_seconds * 1.5)
            await made.busy()
        show(made, [])
        assert made.overshoot() == 0
