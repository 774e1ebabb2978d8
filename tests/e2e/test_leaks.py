"""However sessions end, nothing of them is left: no task, no file, no lease, no memory."""

import asyncio
import random
import tempfile
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any, Final

import pytest
from trunkline.v1 import control_pb2 as control
from trunkline.v1 import session_pb2 as session

from gateway.store import record
from tests.support.processes import on_linux
from tests.support.residue import at_rest, nothing_is_held, resident_bytes
from tests.support.simulated import SimulatedProvider, simulated_provider
from tests.support.slots import figures
from tests.support.stack import Running, gateway_on, pool, stack
from tests.support.waiting import eventually

SESSIONS = 200
WARM = 2
# A floor that follows demand would be another one at each look.
STILL: Final[dict[str, Any]] = {"demand": {"enabled": False}}
# The heavy run: so many leases, looked at so often.
LEASES, LOOKS = 2000, 4
MEMORY_MAX_BYTES = 1 << 20


async def one(running: Running, rng: random.Random, tag: str = "") -> None:
    """Live one session; end it in one of the ways there are, at one of the moments there are."""
    caller = running.caller()
    running.callers.remove(caller)
    ending = rng.choice(["bye", "half-close", "now", "cancel", "cancel", "cancel"])
    moments = ("before opened", "opened", "answering", "answered")
    moment = rng.choice(moments) if ending == "cancel" else "answered"
    await caller.send(open=session.Open())
    if moment != "before opened":
        await caller.until("opened")
    if moment in ("answering", "answered"):
        await caller.say("Hello there", item_id=tag)
        await caller.answer_please(output_modality=control.OUTPUT_MODALITY_TEXT)
        await caller.until("response_created" if moment == "answering" else "response_done")
    match ending:
        case "bye":
            await caller.bye()
        case "half-close":
            await caller.half_close()
        case "now":
            await caller.bye(now=True)
        case "cancel":
            caller.cancel()
            return
    await caller.rest()


@on_linux
async def test_two_hundred_sessions_leave_nothing_behind() -> None:
    rng = random.Random(20261122)
    pools = {"default": pool(floor=WARM, ceiling=12, wait_max_ms=10_000, **STILL)}
    async with stack(pools=pools) as (running, sim):

        async def rested() -> tuple[Counter[str], Counter[str]]:
            found = await at_rest(running, WARM)
            await eventually(
                lambda: sum(each["state"] == "open" for each in sim.connections()) == WARM,
                "the provider has as many",
            )
            return found

        for _ in range(10):
            await one(running, rng)
        files, before = await rested()
        for _ in range(SESSIONS):
            await one(running, rng)
        files_after, after = await rested()
        assert after - before == Counter()
        assert files_after - files == Counter()
        nothing_is_held(running, WARM)


async def test_fifty_sessions_at_once_with_hang_ups_leave_no_lease() -> None:
    rng = random.Random(7)
    pools = {"default": pool(floor=WARM, ceiling=12, waiters_max=100, wait_max_ms=20_000, **STILL)}
    async with stack(pools=pools) as (running, _):
        await asyncio.gather(*(one(running, rng) for _ in range(50)))
        await at_rest(running, WARM)
        nothing_is_held(running, WARM)


def most_sessions_on_a_socket(provider: SimulatedProvider) -> int:
    """Of the sockets that the provider remembers, the last thousand."""
    return max(len(each["session_tags"]) for each in provider.observe()["connections"])


@on_linux
@pytest.mark.heavy
@pytest.mark.timeout(280)
async def test_two_thousand_leases_in_a_row_leave_sockets_tasks_leases_descriptors_and_memory_as_they_were(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The simulator is a process of its own, so this one's memory is the gateway's and the callers'.

    What counts is what Python holds (tracemalloc): it is exact. The resident size is printed too; the allocator
    and gRPC's core keep what they had once, so it tells less in so short a run. The sealer's cache of ciphers
    (4,096 sessions) is filled by design and not yet full here: it is made small.
    """
    monkeypatch.setattr(record, "CIPHERS_MAX", 64)
    rng = random.Random(20261123)
    pools = {"default": pool(floor=WARM, ceiling=12, wait_max_ms=10_000, **STILL)}
    with tempfile.TemporaryDirectory(prefix="tk", dir="/tmp") as folder, simulated_provider(Path(folder)) as provider:
        async with gateway_on(provider.url, pools=pools) as running:
            acquires = running.gateway.pools["default"].acquires
            for number in range(50):
                await one(running, rng, f"tag-warm-up-{number}")
            tracemalloc.start()
            try:
                files, before = await at_rest(running, WARM)
                traced, resident = [tracemalloc.get_traced_memory()[0]], [resident_bytes()]
                shared = 0
                for look in range(LOOKS):
                    number, until = 0, sum(acquires.values()) + LEASES // LOOKS
                    while sum(acquires.values()) < until:  # one that is cancelled early may not have asked at all
                        number += 1
                        await one(running, rng, f"tag-{look}-{number}")
                    files_after, after = await at_rest(running, WARM)
                    traced.append(tracemalloc.get_traced_memory()[0])
                    resident.append(resident_bytes())
                    shared = max(shared, await asyncio.to_thread(most_sessions_on_a_socket, provider))
            finally:
                tracemalloc.stop()
            seen = await asyncio.to_thread(provider.observe)
            nothing_is_held(running, WARM)
            figures(
                "leases in a row",
                n=LEASES,
                acquires=dict(acquires),
                traced_kib=[each >> 10 for each in traced],
                resident_kib=[each >> 10 for each in resident],
                sessions_on_a_socket_max=shared,
                sockets_open=seen["totals"]["open"],
                sockets_seen=seen["totals"]["accepted"],
                files=dict(files_after),
                tasks=after.total(),
            )
            assert after - before == Counter()
            assert files_after - files == Counter()
            assert traced[-1] <= traced[LOOKS // 2] + MEMORY_MAX_BYTES
            assert shared == 1
            assert seen["totals"]["open"] == WARM
