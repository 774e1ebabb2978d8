"""Two gateways with callers of every kind, and everything happens to them that a metric counts."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import grpc
import trustme
import yaml
from trunkline.v1 import control_pb2 as control
from trunkline.v1 import session_pb2 as session
from trunkline.v1 import types_pb2 as types

from gateway.simulator import speech
from tests.support.calls import Caller
from tests.support.fleet import Fleet, fleet
from tests.support.simulated import SimulatedProvider, simulated_provider
from tests.support.stack import UNLIMITED, channel_to, pool
from tests.support.talkers import talking

TEXT: Final = control.SessionOverrides(output_modality=control.OUTPUT_MODALITY_TEXT)
SPOKEN: Final = speech.questions()[0]
# A little like the provider, as it is seen from a gateway.
SIMULATED: Final = {"speed": 5.0, "created_delay_ms": 60, "first_audio_ms": 250, "expire_after_seconds": 24}
POOLS: Final = {
    "default": pool(floor=4, ceiling=32, dials_max=8),
    # So few lines that callers wait in vain.
    "narrow": pool(floor=1, ceiling=2, wait_max_ms=400),
    # The provider refuses its account's key.
    "refused": pool(floor=1, ceiling=4, wait_max_ms=500),
}
TEMPLATES: Final = {"default": {}, "narrow": {}, "refused": {"target": "strict"}}
# 20 ms, as a telephone sends them.
_FRAME_BYTES: Final = 960
_CUT: Final = 1006
# With this code the provider says that the gateway broke the protocol.
_BROKEN: Final = 1007


@dataclass
class Scene:
    """What runs, and how often something was seen to go wrong that nobody has ordered."""

    fleet: Fleet
    provider: SimulatedProvider
    credentials: grpc.ChannelCredentials
    channels: list[grpc.aio.Channel]
    troubles: list[str] = field(default_factory=list)

    @property
    def targets(self) -> dict[str, dict[str, str]]:
        """Ops address → the labels that Kubernetes would give it."""
        found = [
            yaml.safe_load((folder / "trunkline.yaml").read_text("utf-8")) for folder in self.fleet.folders.values()
        ]
        return {
            each["ops"]["address"]: {"namespace": "voice", "pod": f"trunkline-{number}"}
            for number, each in enumerate(found)
        }


# Callers.


async def _spoken(scene: Scene, number: int) -> None:
    """Ask something aloud, at the pace of speech, and hear the answer."""
    caller = Caller(scene.channels[number % 2])
    await caller.open()
    pcm, loop = SPOKEN.pcm + bytes(48_000), asyncio.get_running_loop()
    began = loop.time()
    for at in range(0, len(pcm), _FRAME_BYTES):
        await caller.send(audio=pcm[at : at + _FRAME_BYTES])
        await asyncio.sleep(began + at / 48_000 - loop.time())
    await caller.until("response_done")
    await caller.bye(now=True)
    await caller.rest()


async def _long(scene: Scene, number: int) -> None:
    """Ask again and again, for longer than a line lives."""
    caller = Caller(scene.channels[number % 2], deadline_seconds=300)
    await caller.open(overrides=TEXT if number % 3 else None)
    while True:
        await caller.say("Tell me about the history of the telephone.")
        await caller.answer_please()
        await caller.until("response_done")
        await asyncio.sleep(0.5)


async def _comes_back(scene: Scene, number: int) -> None:
    """Lose the stream, and go on: at the same gateway, or in every second case at the other one."""
    first = Caller(scene.channels[0])
    opened = await first.open(features=[types.FEATURE_RESUMABLE], overrides=TEXT)
    await first.ask(cseq=1, text=control.TextInput(text="My name is Marcelo."))
    await first.until("item_done")
    first.cancel()
    token = ([each.resume_token for each in first.all("token")] or [opened.resume_token])[-1]
    last_seq = max(each.seq for each in first.seen)
    second = Caller(scene.channels[number % 2])
    mode = session.RESUME_MODE_CLAIM
    await second.send(resume=session.Resume(token=token, last_seq=last_seq, last_cseq=1, mode=mode))
    await second.until("resumed")
    await second.send(bye=session.Bye(now=True), cseq=2)
    await second.rest()


async def _in_vain(scene: Scene, number: int) -> None:
    """Come together where there is room for two."""
    callers = [Caller(scene.channels[number % 2]) for _ in range(4)]
    for caller in callers:
        await caller.send(open=session.Open(template="narrow", overrides=TEXT))
    await asyncio.sleep(0.8)
    for caller in callers:
        await caller.bye(now=True)
        await caller.rest()


async def _refused(scene: Scene, number: int) -> None:
    """Ask for a line on the account whose key is refused."""
    caller = Caller(scene.channels[number % 2])
    await caller.send(open=session.Open(template="refused"))
    await caller.rest()


async def _mistaken(scene: Scene, number: int) -> None:
    """Send what is no event."""
    caller = Caller(scene.channels[number % 2])
    await caller.open(overrides=TEXT)
    await caller.ask(raw=control.RawEvent(json="{"))
    await caller.until("error")
    await caller.bye(now=True)
    await caller.rest()


async def _broken(scene: Scene, number: int) -> None:
    """Have the provider say that the gateway broke the protocol: an error INTERNAL, as a fault of ours would be."""
    caller = Caller(scene.channels[number % 2])
    opened = await caller.open(overrides=TEXT)
    await asyncio.to_thread(scene.provider.close, _BROKEN, session_id=opened.upstream_session_id)
    await caller.rest()


async def _cut(scene: Scene, number: int) -> None:
    """Cut the two oldest lines."""
    await asyncio.to_thread(scene.provider.close, _CUT, count=2)


async def _late(scene: Scene, number: int) -> None:
    """Let the provider stand still between the beginning of an answer and its first audio."""
    caller = Caller(scene.channels[number % 2])
    await caller.open()
    await caller.say("Tell me about the history of the telephone.")
    await caller.answer_please()
    await caller.until("response_created")
    scene.provider.freeze()
    try:
        await asyncio.sleep(1.8)
    finally:
        scene.provider.thaw()
    await caller.until("response_done")
    await caller.bye(now=True)
    await caller.rest()


async def _without_redis(scene: Scene, number: int) -> None:
    """Let Redis stand still, for longer than the gateways wait for it."""
    scene.fleet.redis.freeze()
    try:
        await asyncio.sleep(8)
    finally:
        scene.fleet.redis.thaw()


# What happens, when first and how often from then on, in seconds.
_EVENTS: Final = (
    (_spoken, 0.0, 3.0), (_comes_back, 0.0, 3.0), (_in_vain, 0.0, 3.0), (_refused, 0.0, 2.0), (_mistaken, 0.0, 3.0),
    (_broken, 2.0, 15.0), (_cut, 3.0, 13.0), (_late, 10.0, 15.0), (_without_redis, 30.0, 60.0),
)  # fmt: skip
_LONG: Final = 6
_TALKS_PER_SECOND: Final = 3.0


async def _again(
    scene: Scene, event: Callable[[Scene, int], Awaitable[None]], after_seconds: float, every_seconds: float
) -> None:
    """Let it happen again and again. What a cut makes of a call is what the metrics are about; it is only noted."""
    number, loop = 0, asyncio.get_running_loop()
    await asyncio.sleep(after_seconds)
    began = loop.time()
    while True:
        try:
            await event(scene, number)
        except (AssertionError, TimeoutError) as error:
            scene.troubles.append(f"{event.__name__}: {str(error)[:200]}")
        number += 1
        await asyncio.sleep(max(0.1, began + number * every_seconds - loop.time()))


async def _talks_on(scene: Scene, number: int) -> None:
    while True:
        with contextlib.suppress(AssertionError, TimeoutError):
            await _long(scene, number)
        await asyncio.sleep(0.5)


def _listener(folder: Path, authority: trustme.CA) -> dict[str, str]:
    served = authority.issue_cert("127.0.0.1", not_after=datetime.now(UTC) + timedelta(days=90))
    files = {"cert_file": folder / "listener.pem", "key_file": folder / "listener.key"}
    served.cert_chain_pems[0].write_to_path(files["cert_file"])
    served.private_key_pem.write_to_path(files["key_file"])
    return {name: str(file) for name, file in files.items()}


@contextlib.asynccontextmanager
async def scene() -> AsyncIterator[Scene]:
    """Run gateways, a Redis and two providers, one of which takes no key."""
    with tempfile.TemporaryDirectory(prefix="tk", dir="/tmp") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        (folder / "strict").mkdir()
        provider = stack.enter_context(simulated_provider(folder, **SIMULATED))
        authority = trustme.CA()
        credentials = grpc.ssl_channel_credentials(authority.cert_pem.bytes())
        strict = stack.enter_context(simulated_provider(folder / "strict", faults=["handshake:status=401"]))
        running = stack.enter_context(
            fleet(
                2,
                provider=provider,
                accounts={**UNLIMITED, "second": UNLIMITED["main"]},
                targets={"openai": {"url": provider.url}, "strict": {"url": strict.url, "accounts": ["second"]}},
                grpc={"tls": _listener(folder, authority)},
                templates=TEMPLATES,
                pools=POOLS,
            )
        )
        channels = [channel_to(each, credentials) for each in running.addresses]
        try:
            yield Scene(running, provider, credentials, channels)
        finally:
            for channel in channels:
                await channel.close()


@contextlib.asynccontextmanager
async def busy(scene: Scene) -> AsyncIterator[None]:
    """Let it all happen while the block runs."""
    made: list[Coroutine[Any, Any, None]] = [_again(scene, *each) for each in _EVENTS]
    made += [_talks_on(scene, number) for number in range(_LONG)]
    async with contextlib.AsyncExitStack() as stack:
        per_second = _TALKS_PER_SECOND / 2
        for address in scene.fleet.addresses:
            await stack.enter_async_context(talking(address, per_second, credentials=scene.credentials, fresh_every=0))
        tasks = [asyncio.create_task(each) for each in made]
        try:
            yield
            over = [task for task in tasks if task.done()]
            assert not over, f"it does not go on: {over}"
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
