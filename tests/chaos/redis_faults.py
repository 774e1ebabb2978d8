"""Redis is lost under talking callers: its primary, and all that it knew."""

import asyncio
import json
import signal
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Final

import grpc
from trunkline.v1 import types_pb2 as types

from tests.chaos.figures import Outcome, Size, spread
from tests.chaos.gateways import BACK_SECONDS, gateways, talkers
from tests.chaos.talker import History, Talker
from tests.chaos.validator import judge
from tests.support.fleet import Fleet
from tests.support.load import Load, load
from tests.support.redis_appends import appends
from tests.support.redis_process import RedisProcess
from tests.support.redis_sentinel import SentinelRedis, sentinel_redis
from tests.support.redis_topologies import options_for
from tests.support.stack import channel_to
from tests.support.store_calls import ToolCall, held, missing
from tests.support.waiting import eventually

GATEWAYS: Final = 2
# As many confirm as there are: whoever is promoted has it.
REPLICAS: Final = 1
TALKERS: Final = 4
TOOL_CALLERS: Final = 6
OPENS_PER_SECOND: Final = 4.0
# In each of the sessions of another process, which makes up what the calls do not append.
APPEND_EVERY_SECONDS: Final = 0.022
CALM_SECONDS: Final = 5.0
AFTER_SECONDS: Final = 3.0
STORED_SECONDS: Final = 10.0
LOOK_SECONDS: Final = 0.2
SERVED: Final = frozenset(name.removeprefix("LINE_SOURCE_") for name in types.LineSource.DESCRIPTOR.values_by_name)


# The primary.


@dataclass
class Failovers:
    """What was found in all of them."""

    # Entries that the primary took in a second, before it was struck.
    rates: list[float] = field(default_factory=list)
    # Of each tool call, in seconds, from the question to the caller.
    delays: list[float] = field(default_factory=list)
    # Events that callers were told are stored; of these, that are not; and that were told before, and are not later.
    acknowledged: int = 0
    lost: int = 0
    unstored: int = 0


async def redis_failover(size: Size) -> Outcome:
    """Lose the primary with what no replica has, by SIGKILL or SIGSTOP; Sentinels promote a replica.

    A tool call's delay is told from the caller's question on: what the provider needs is in it. Most appends are
    those of a process that has nothing but the store's writer, which puts nothing back that a server has lost.
    """
    found, frozen = Failovers(), [False, True, True][: size.of(3, 1)]
    with tempfile.TemporaryDirectory(prefix="tk", dir="/tmp") as folder, sentinel_redis(replicas=REPLICAS) as watched:
        store = {**watched.settings["store"], "replicas_wait": REPLICAS}
        async with (
            gateways(GATEWAYS, redis={**watched.settings, "store": store}) as (_, address),
            appends(watched.settings, Path(folder), replicas=REPLICAS, every_seconds=APPEND_EVERY_SECONDS) as written,
            channels(address, GATEWAYS * 2) as several,
            talkers(address, TALKERS) as made,
            load(several, OPENS_PER_SECOND) as callers,
        ):
            for each in frozen:
                await _failover(watched, address, found, frozen=each)
        found.lost += await written.lost(watched.settings)
    figures = {
        "appends": written.total + found.acknowledged,
        "appends_of_the_writer": written.total,
        "appends_per_s": round(min(found.rates)),
        "lost": found.lost,
        "unstored": found.unstored,
        "refused_opens": len(_refused(callers)),
        "opens": len(callers.came),
        "tool_delay_p99_ms": spread(found.delays)["p99"],
        "n": len(found.delays),
        "failovers": len(frozen),
    }
    outcome = Outcome({"redis_failover": figures}, len(frozen), judge(each.history for each in made))
    outcome.verdict.faults += sorted({f"an open was refused: {reason}" for reason in _refused(callers)})
    return outcome


def _refused(callers: Load) -> list[str]:
    return [each.outcome for each in callers.came if each.outcome not in SERVED]


async def _failover(watched: SentinelRedis, address: str, found: Failovers, *, frozen: bool) -> None:
    """Talk, lose the primary, talk on; then look for everything in the new one's log."""
    async with channels(address, TOOL_CALLERS) as several:
        calls = [ToolCall(each) for each in several]
        async with held(calls) as enough:
            found.rates.append(await _rate(watched.primary))
            old = await asyncio.to_thread(watched.lose_primary, frozen=frozen)
            # It comes back as a primary that does not know that it is none any more.
            await asyncio.to_thread(watched.servers[old].thaw if frozen else watched.servers[old].start)
            await asyncio.to_thread(watched.until_replicated)
            await asyncio.sleep(AFTER_SECONDS)
            enough.set()
            away = await _not_there(watched.settings, calls)
        for call, numbers in zip(calls, away, strict=True):
            found.delays += [seconds for _, seconds in call.delays]
            found.acknowledged += sum(call.numbers.values())
            found.lost += sum(call.numbers[number] for number in numbers)
            found.unstored += sum(not call.numbers[number] for number in numbers)


async def _rate(primary: RedisProcess) -> float:
    """Return how many entries a server takes in a second."""
    now = asyncio.get_running_loop().time
    before, since = await asyncio.to_thread(_taken, primary), now()
    await asyncio.sleep(CALM_SECONDS)
    return (await asyncio.to_thread(_taken, primary) - before) / (now() - since)


def _taken(primary: RedisProcess) -> int:
    return int(primary.info("commandstats").get("cmdstat_xadd", {}).get("calls", 0))


async def _not_there(settings: Mapping[str, Any], calls: Sequence[ToolCall]) -> list[set[int]]:
    """Return the numbers that are not in the log and not named as lost; what comes late is waited for."""
    now = asyncio.get_running_loop().time
    ends_at = now() + STORED_SECONDS
    while any(away := await missing(options_for(settings), calls)) and now() < ends_at:  # noqa: ASYNC110 it is another process
        await asyncio.sleep(LOOK_SECONDS)
    return away


@asynccontextmanager
async def channels(address: str, count: int) -> AsyncIterator[list[grpc.aio.Channel]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(channel_to(address)) for _ in range(count)]


# All that it knew.

TALK_SECONDS: Final = 2.0
# From the FLUSHALL until a gateway is killed. When that is soon, who has not appended since has lost its record.
KILLS_AFTER: Final = (1.0, 0.0, 0.1, 0.3)
FLUSHED_CALLERS: Final = 8
# The reasons of an end that say that the session cannot be had any more.
NAMES: Final = ("RESUME_REFUSED",)
STORED_AGAIN: Final = "record_stored_again"


async def flushed(size: Size) -> Outcome:
    """FLUSHALL in flight, and SIGKILL to a gateway 1 s after it or sooner: no session loses anything in silence."""
    times, histories = size.of(12, 2), list[History]()
    async with gateways(GATEWAYS) as (running, address):
        for seconds in islice(cycle(KILLS_AFTER), times):
            for each in running.gateways.values():
                await asyncio.to_thread(each.says, '"serving"')
            async with talkers(address, FLUSHED_CALLERS) as made:
                await asyncio.sleep(TALK_SECONDS)
                await asyncio.to_thread(running.redis.ask, "FLUSHALL")
                await asyncio.sleep(seconds)
                await _killed(running, made)
                await asyncio.sleep(TALK_SECONDS)
            histories += [each.history for each in made]
        reseeded = _stored_again(running)
    figures = {**flush_figures(histories), "reseeded": len(reseeded)}
    return Outcome({"flushall": figures}, 2 * times, judge(each for each in histories if not is_named(each)))


def flush_figures(histories: Sequence[History]) -> dict[str, int]:
    """Sort sessions: nothing is missing, or what is missing was named, or it was not."""
    verdicts = [judge([each]) for each in histories]
    whole = sum(not each.faults for each in verdicts)
    pairs = zip(histories, verdicts, strict=True)
    named = sum(bool(verdict.faults) and not verdict.duplicated and is_named(each) for each, verdict in pairs)
    return {"sessions": len(histories), "whole": whole, "named": named, "unnamed": len(histories) - whole - named}


def is_named(history: History) -> bool:
    """Tell whether its caller was told that something is missing."""
    gaps = any(resumed.HasField("gap") or resumed.unrestored_items for _, resumed in history.resumed)
    return gaps or bool(history.store_gaps or history.unrestored or history.failure.startswith(NAMES))


async def _killed(running: Fleet, made: Sequence[Talker]) -> None:
    """Kill the gateway of the first, and start it again; return when each that talked to it went on, or ended."""
    owner = made[0].owner
    there = [(each, len(each.history.resumed)) for each in made if each.owner == owner]
    running.gateways[owner].send(signal.SIGKILL)

    def settled() -> bool:
        return all(len(each.history.resumed) > before or each.history.failure for each, before in there)

    await eventually(settled, "all have gone on or ended", BACK_SECONDS)
    await asyncio.to_thread(running.gateways[owner].wait)
    running.restart(owner)


def _stored_again(running: Fleet) -> set[str]:
    """Return the sessions whose gateway put into Redis again what that had lost."""
    logs = [
        path.read_text("utf-8", errors="replace")
        for folder in running.folders.values()
        for path in folder.glob("*.log")
    ]
    lines = (json.loads(line) for words in logs for line in words.splitlines() if STORED_AGAIN in line)
    return {line["session_id"] for line in lines}
