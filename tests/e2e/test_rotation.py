"""A conversation outlives its lines: each is left before the provider's time for it is up, and nobody hears it."""

import asyncio
from itertools import pairwise
from typing import Final

import grpc
import pytest
from trunkline.v1 import control_pb2 as control

from tests.support.calls import Caller
from tests.support.slots import figures
from tests.support.stack import pool, stack

TEXT: Final = control.SessionOverrides(output_modality=control.OUTPUT_MODALITY_TEXT)
LIFE_SECONDS: Final = 6.0
LASTS_SECONDS: Final = 20.0


async def talked(caller: Caller, gaps: list[float]) -> None:
    """Ask again and again; note how long each answer took."""
    loop = asyncio.get_running_loop()
    await caller.open(overrides=TEXT)
    ends_at = loop.time() + LASTS_SECONDS
    await caller.say("My name is Marcelo.")
    while loop.time() < ends_at:
        began = loop.time()
        await caller.say("What is my name?")
        await caller.answer_please()
        await caller.until("response_done")
        gaps.append(loop.time() - began)
        assert "Marcelo" in [each.text for each in caller.all("item_done") if each.role == "assistant"][-1]
        await asyncio.sleep(0.2)
    await caller.bye()
    await caller.rest()


@pytest.mark.heavy
async def test_sessions_outlive_three_lines_each_and_lose_no_event() -> None:
    count = 5
    pools = {"default": pool(floor=3, ceiling=32, dials_max=8, demand={"enabled": False})}
    async with stack({"expire_after_seconds": LIFE_SECONDS}, pools=pools) as (running, provider):
        await running.until_warm(3)
        callers, gaps = [running.caller() for _ in range(count)], list[float]()
        await asyncio.gather(*(talked(caller, gaps) for caller in callers))
        totals = provider.observe()["totals"]
    causes = [[each.cause for each in caller.all("state_changed")] for caller in callers]
    gaps.sort()
    figures(
        "rotation",
        n=sum(map(len, causes)),
        answers=len(gaps),
        answer_p50_ms=round(gaps[len(gaps) // 2] * 1000, 1),
        answer_p99_ms=round(gaps[len(gaps) * 99 // 100] * 1000, 1),
        answer_max_ms=round(gaps[-1] * 1000, 1),
        totals=totals,
    )
    for caller, told in zip(callers, causes, strict=True):
        assert set(told) == {"rotation"}
        assert len(told) >= 3
        numbers = [each.seq for each in caller.seen if each.seq]
        assert numbers == list(range(1, len(numbers) + 1))
        names = [each.item_id for each in caller.all("item_done")]
        assert len(set(names)) == len(names)
        positions = [each.seq for each in caller.seen if each.WhichOneof("message") == "item_done"]
        assert all(before < after for before, after in pairwise(positions))
        assert (await caller.status()).code is grpc.StatusCode.OK
    # Of some hundred: the longest may be the collector's, which sweeps all that the tests of this process have left.
    assert gaps[len(gaps) * 99 // 100] <= gaps[len(gaps) // 2] + 0.3
