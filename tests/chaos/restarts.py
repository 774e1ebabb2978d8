"""Gateways that are replaced by others: a roll-out under talking callers, and a build that is broken."""

import asyncio
import signal
from typing import Final

from tests.chaos.figures import Outcome, Size
from tests.chaos.gateways import BACK_SECONDS, gateways, talkers
from tests.chaos.validator import judge
from tests.support.fleet import Fleet, at_rest
from tests.support.stack import channel_to, pool
from tests.support.steering import Operator
from tests.support.versions import changed_tree, runs_from

DRAIN_SECONDS: Final = 30
WARM: Final = 16
# So that many sessions are not what is measured: each says a word every other second.
PAUSE_SECONDS: Final = 2.0
# A claim that has forgotten which controls the log has.
BROKEN_SECONDS: Final = 3.0
BROKEN: Final = (
    "gateway/runtime/assembly.py",
    "epoch, seq, cseq, samples = claim.epoch, claim.seq, claim.cseq, claim.retold.input_samples",
    "epoch, seq, cseq, samples = claim.epoch, claim.seq, 0, claim.retold.input_samples",
)


async def rolling_restart(size: Size) -> Outcome:
    """Stop one gateway after the other, as a roll-out does, and start it again; nobody is to notice.

    `max_gap_ms` is the longest that any caller's word took until it was heard of; it has to be seen beside the
    median of the same run, `usual_ms`.
    """
    callers = size.of(100, 12)
    limits = {"drain_seconds": DRAIN_SECONDS, "sessions_max": 200}
    floor = {"floor": WARM, "ceiling": 2 * callers + WARM, "dials_max": 16, "wait_max_ms": 10_000}
    pools = {"default": pool(**floor, demand={"enabled": False})}
    codes = list[int]()
    async with (
        gateways(3, limits=limits, pools=pools) as (running, address),
        talkers(address, callers, pause_seconds=PAUSE_SECONDS) as made,
    ):
        for each in running.addresses:
            codes.append(await _restarted(running, each))
        await asyncio.sleep(PAUSE_SECONDS)
    verdict = judge(each.history for each in made)
    took = sorted(seconds for each in made for seconds in each.history.heard_after)
    moved = sum(len(each.history.resumed) for each in made)
    figures = {
        "sessions": callers,
        "moved": moved,
        "failed_calls": verdict.failed_calls + sum(code != 0 for code in codes),
        "events_lost": verdict.lost,
        "words": len(took),
        "usual_ms": round(took[len(took) // 2] * 1000, 1),
        "max_gap_ms": round(took[-1] * 1000, 1),
    }
    return Outcome({"rolling_restart": figures}, len(codes), verdict)


async def _restarted(running: Fleet, address: str) -> int:
    """Stop one gateway and start it again; return its exit code when the new one has its lines."""
    running.gateways[address].send(signal.SIGTERM)
    code = await asyncio.to_thread(running.gateways[address].wait, DRAIN_SECONDS + BACK_SECONDS)
    began = running.restart(address)
    await asyncio.to_thread(began.says, '"serving"')
    channel = channel_to(address)
    try:
        await at_rest([Operator(channel)], 1)
    finally:
        await channel.close()
    return code


async def broken_build(size: Size) -> Outcome:
    """Let a build that forgets a rule go through kills: the validator must notice."""
    times = size.of(6, 2)
    with changed_tree(*BROKEN) as tree:
        async with (
            gateways(2, environments=[runs_from(tree)] * 2) as (running, address),
            talkers(address, 2, end_seconds=BROKEN_SECONDS) as made,
        ):
            for turn in range(times):
                owner = made[turn % 2].owner
                running.gateways[owner].send(signal.SIGKILL)
                await asyncio.to_thread(running.gateways[owner].wait)
                await asyncio.to_thread(running.restart(owner).says, '"serving"')
                await asyncio.sleep(1.0)
    verdict = judge(each.history for each in made)
    noticed = "; ".join(verdict.faults)[:200]
    return Outcome({"broken_build_caught": int(bool(noticed)), "broken_build": noticed}, times)
