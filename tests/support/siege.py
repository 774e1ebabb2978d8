"""Callers who talk and an attacker, at one gateway process: how the callers fare in calm and under attack."""

import asyncio
import os
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import grpc
import trustme

from tests.support.flood import Attacker, Outcome, attacker
from tests.support.ports import free_port
from tests.support.rig import Rig, precedence, rig
from tests.support.simulated import simulated_provider
from tests.support.stack import caller_settings, channel_to, pool
from tests.support.steering import Operator
from tests.support.tails import Ratio, ratio
from tests.support.talkers import Talk, Talks, percentile, talking, troubles

PER_SECOND: Final = 40.0
WARM: Final = 64
FRIEND, FOE = "friend-token", "foe-token"
# The attacker's sessions have lines to a provider of their own: the callers' provider is not under attack.
FOES_TEMPLATE: Final = "foes"
LOOK_SECONDS: Final = 0.05
BETWEEN_SECONDS: Final = 1.5
WARM_SECONDS: Final = 30.0


class _Window(NamedTuple):
    began: float
    ended: float


@dataclass
class Fared:
    """How the callers fared, and what the attacker and the gateway had to do."""

    calm: list[Talk] = field(default_factory=list)
    attacked: list[Talk] = field(default_factory=list)
    attacks: list[Outcome] = field(default_factory=list)
    resident_growth_kib: int = 0
    processor_seconds: float = 0.0

    @property
    def open_ratio(self) -> Ratio:
        return ratio(self.calm, self.attacked, lambda talk: talk.open_ms)

    @property
    def turn_ratio(self) -> Ratio:
        return ratio(self.calm, self.attacked, lambda talk: talk.turn_ms)

    def figures(self) -> dict[str, Any]:
        """Return what is to be printed."""
        sides = {name: talks for name, talks in (("calm", self.calm), ("attacked", self.attacked)) if talks}
        opens = {name: [each.open_ms for each in talks] for name, talks in sides.items()}
        turns = {name: [each.turn_ms for each in talks] for name, talks in sides.items()}
        return {
            "n": tuple(len(values) for values in opens.values()),
            **{f"open_p50_{name}_ms": round(percentile(each, 0.5), 2) for name, each in opens.items()},
            **{f"open_p99_{name}_ms": round(percentile(each, 0.99), 2) for name, each in opens.items()},
            **{f"turn_p99_{name}_ms": round(percentile(each, 0.99), 2) for name, each in turns.items()},
            **(self._ratios() if self.calm else {}),
            "trouble": (troubles(self.calm), troubles(self.attacked)),
            "attack": self.attacks[-1].figures(),
            "resident_growth_kib": self.resident_growth_kib,
            "processor_s": round(self.processor_seconds, 2),
            "load": round(os.getloadavg()[0], 2),
        }

    def _ratios(self) -> dict[str, float]:
        return {
            "open_ratio": round(self.open_ratio.measured, 2),
            "open_ratio_low": round(self.open_ratio.low, 2),
            "turn_ratio": round(self.turn_ratio.measured, 2),
        }


@dataclass
class Siege:
    """All of it at work."""

    gateway: Rig
    attacker: Attacker
    talks: Talks
    # Who attacks another gateway on this machine: what that does to our callers is the machine's part.
    elsewhere: Attacker | None = None

    async def run(self, window_seconds: float, rounds: int, attack: dict[str, Any]) -> Fared:
        """Let half a window of calm, a window of attack and half a window of calm follow each other.

        An attack that has a time of its own makes its window longer. With another gateway, that one is attacked
        in the calm windows: there are two then for two of attacks, in the order of calm, attack, attack, calm.
        """
        fared, calm, attacked = Fared(), list[_Window](), list[_Window]()
        for number in range(rounds if self.elsewhere is not None else 0):
            for is_ours in (False, True) if number % 2 == 0 else (True, False):
                if is_ours:
                    attacked.append(await self._attack(window_seconds, attack, fared))
                else:
                    calm.append(await self._attack_elsewhere(window_seconds, attack))
                await asyncio.sleep(BETWEEN_SECONDS)
        for _ in range(rounds if self.elsewhere is None else 0):
            calm.append(await _calm(window_seconds / 2))
            attacked.append(await self._attack(window_seconds, attack, fared))
            await asyncio.sleep(BETWEEN_SECONDS)
            calm.append(await _calm(window_seconds / 2))
        await asyncio.sleep(BETWEEN_SECONDS)  # so that the last of them come to their ends
        fared.calm = [talk for window in calm for talk in self.talks.between(*window)]
        fared.attacked = [talk for window in attacked for talk in self.talks.between(*window)]
        return fared

    async def endure(self, window_seconds: float, attack: dict[str, Any]) -> tuple[Fared, tuple[float, float]]:
        """Let one window of attack come, with no calm to compare it with; return when that was, too.

        Who came in it is known when all have ended, which is when the siege has.
        """
        fared = Fared()
        return fared, await self._attack(window_seconds, attack, fared)

    async def _attack_elsewhere(self, seconds: float, attack: dict[str, Any]) -> _Window:
        assert self.elsewhere is not None
        began = time.monotonic()
        await self.elsewhere.carry_out(**{"seconds": seconds, **attack})
        await asyncio.sleep(began + seconds - time.monotonic())
        return _Window(began, time.monotonic())

    async def _attack(self, seconds: float, attack: dict[str, Any], fared: Fared) -> _Window:
        began, resident = time.monotonic(), self.gateway.resident_kib()
        worked, highest = self.gateway.processor_seconds(), resident
        attacking = asyncio.create_task(self.attacker.carry_out(**{"seconds": seconds, **attack}))
        while not attacking.done() or time.monotonic() < began + seconds:
            highest = max(highest, self.gateway.resident_kib())
            await asyncio.sleep(LOOK_SECONDS)
        fared.attacks.append(await attacking)
        fared.resident_growth_kib = max(fared.resident_growth_kib, highest - resident)
        fared.processor_seconds += self.gateway.processor_seconds() - worked
        return _Window(began, time.monotonic())


async def _calm(seconds: float) -> _Window:
    began = time.monotonic()
    await asyncio.sleep(seconds)
    return _Window(began, time.monotonic())


@asynccontextmanager
async def siege(
    *, tls: bool = False, per_second: float = PER_SECOND, has_neighbour: bool = False
) -> AsyncIterator[Siege]:
    """Run everything, and let so many callers a second talk; `tls` = they speak to an encrypted listener.

    With a neighbour, a second gateway stands beside the first and is attacked where there would be calm.
    """
    async with AsyncExitStack() as stack:
        stack.enter_context(precedence())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tk", dir="/tmp")))
        foes = stack.enter_context(simulated_provider(folder))
        if hasattr(os, "SCHED_IDLE"):
            os.sched_setscheduler(foes.process.pid, os.SCHED_IDLE, os.sched_param(0))
        changes, credentials = _settings(folder, foes.url), None
        if tls:
            changes["grpc"], credentials = _listener(folder)
        measured = stack.enter_context(rig(**changes))
        channel = await stack.enter_async_context(channel_to(measured.address, credentials))
        await _until_warm(Operator(channel, FRIEND))
        enemy = await stack.enter_async_context(attacker(measured.address))
        elsewhere = None
        if has_neighbour:
            beside = stack.enter_context(rig(**_idle(changes)))
            elsewhere = await stack.enter_async_context(attacker(beside.address))
        talks = await stack.enter_async_context(talking(measured.address, per_second, FRIEND, credentials))
        await asyncio.sleep(BETWEEN_SECONDS)  # the first callers find everything cold
        yield Siege(measured, enemy, talks, elsewhere)


def _settings(folder: Path, foes_url: str) -> dict[str, Any]:
    return {
        "callers": [
            caller_settings(folder, FRIEND, "converse", "read", name="friend", tenant="friends"),
            caller_settings(folder, FOE, "converse", name="foe", tenant="foes"),
        ],
        "targets": {FOES_TEMPLATE: {"url": foes_url}},
        "templates": {"default": {}, FOES_TEMPLATE: {"target": FOES_TEMPLATE}},
        "pools": {"default": pool(floor=WARM, ceiling=160, dials_max=16), FOES_TEMPLATE: pool(floor=16, ceiling=64)},
    }


def _idle(changes: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a gateway that nobody calls."""
    return {**changes, "pools": dict.fromkeys(changes["pools"], pool(floor=0))}


def _listener(folder: Path) -> tuple[dict[str, Any], grpc.ChannelCredentials]:
    authority, address = trustme.CA(), f"127.0.0.1:{free_port()}"
    issued = authority.issue_cert("127.0.0.1")
    cert, key = folder / "listener.pem", folder / "listener.key"
    cert.write_bytes(b"".join(each.bytes() for each in issued.cert_chain_pems))
    key.write_bytes(issued.private_key_pem.bytes())
    settings = {"address": address, "tls": {"cert_file": str(cert), "key_file": str(key)}}
    return settings, grpc.ssl_channel_credentials(authority.cert_pem.bytes())


async def _until_warm(operator: Operator) -> None:
    async with asyncio.timeout(WARM_SECONDS):
        while any(shown.warm < shown.floor for shown in await operator.pools()):  # noqa: ASYNC110
            await asyncio.sleep(LOOK_SECONDS)
