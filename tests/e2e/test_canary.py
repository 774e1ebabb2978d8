"""Secrets of every kind, on a gateway as operators run it: it shows none, and stores none that could be read."""

import asyncio
import contextlib
import json
import secrets
import tempfile
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from google.protobuf import text_format
from trunkline.v1 import control_pb2 as control
from trunkline.v1 import session_pb2 as session
from trunkline.v1 import session_pb2_grpc

from gateway.simulator import speech
from tests.support.calls import Caller
from tests.support.canaries import Canaries, fresh
from tests.support.keyed import KeyedProvider, keyed_provider
from tests.support.kubelet import MountedSecret
from tests.support.mean_provider import AT_DIAL, AT_WORDS, MeanProvider, mean_provider, template_for
from tests.support.processes import command_line, descendants, on_linux
from tests.support.redis_watched import WatchedRedis, watched_redis
from tests.support.reloading import Reloading, reloading
from tests.support.simulated import simulated_provider
from tests.support.stack import UNLIMITED, caller_settings, channel_to, hashed_token, pool
from tests.support.steering import Operator
from tests.support.waiting import eventually

pytestmark = [on_linux, pytest.mark.heavy]

MANNERS: Final = (*AT_DIAL, *AT_WORDS)
SPOKEN: Final = speech.questions()[0]


@dataclass(repr=False)  # a failure would print it
class Stand:
    """All that there is to look at."""

    gateway: Reloading
    redis: WatchedRedis
    provider: KeyedProvider
    mean: MeanProvider
    secret: MountedSecret
    channel: grpc.aio.Channel
    canaries: Canaries
    token: str
    monitored: bytearray
    # What callers were told when they were refused.
    told: list[str] = field(default_factory=list)

    def caller(self, token: str = "") -> Caller:
        return Caller(self.channel, token or self.token)

    async def refused(self, token: str = "", **fields: Any) -> None:
        refusal = await self.caller(token).refused(**fields)
        self.told.append(f"{refusal.text} {text_format.MessageToString(refusal.rich)} {refusal.rich}")


@contextlib.asynccontextmanager
async def stand() -> AsyncIterator[Stand]:
    canaries = Canaries()
    key, token, password, sealing = fresh("sk-"), fresh("tk-"), fresh("pw"), secrets.token_bytes(32)
    for label, value in {"key": key, "token": token, "password": password}.items():
        canaries.add(label, value)
    canaries.add("sealing key", sealing)
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tk", dir="/tmp")))
        redis = stack.enter_context(watched_redis(folder, password))
        monitored = await stack.enter_async_context(redis.monitored())
        simulator = stack.enter_context(simulated_provider(folder))
        provider = await stack.enter_async_context(keyed_provider(simulator.port))
        mean = await stack.enter_async_context(mean_provider())
        secret = MountedSecret(folder / "secret", {"api-key": key, "password": password, "k1": sealing})
        caller = caller_settings(folder, token, "converse", "read", "admin")
        gateway = stack.enter_context(
            reloading(
                provider.url,
                insecure_dev=False,
                callers=[caller],
                redis={"url": redis.url, "password_file": secret.path("password")},
                store={"sealing_keys": [{"id": "k1", "file": secret.path("k1")}], "retention_seconds": 60},
                accounts={"main": {**UNLIMITED["main"], "key_file": secret.path("api-key")}},
                targets={"openai": {"url": provider.url}, **{each: {"url": mean.url(each)} for each in MANNERS}},
                templates={"default": {}, **{each: template_for(each) for each in MANNERS}},
                pools={
                    "default": pool(floor=2),
                    **dict.fromkeys(AT_DIAL, pool(floor=0, wait_max_ms=500)),
                    **dict.fromkeys(AT_WORDS, pool(floor=0, wait_max_ms=5000)),
                },
            )
        )
        channel = await stack.enter_async_context(channel_to(gateway.address))
        yield Stand(gateway, redis, provider, mean, secret, channel, canaries, token, monitored)


# What happens.


async def a_call_of_every_kind(here: Stand) -> str:
    """Talk in words and in speech, with secrets in every field; return the session's id."""
    canaries, words = here.canaries, fresh("marzipan ")
    instructions, mark = fresh("whisper "), fresh("m-")
    for label, value in {"words": words, "instructions": instructions, "mark": mark}.items():
        canaries.add(label, value)
    caller = here.caller()
    opened = await caller.open(
        overrides=control.SessionOverrides(instructions=instructions),
        metadata={"mark": mark},
        history=[session.HistoryItem(text=f"Once I said {words}", role=control.ROLE_USER)],
    )
    await caller.say(f"My name is {words}. What is my name?")
    await caller.answer_please(instructions=instructions)
    await caller.until("response_done")
    await caller.speak(SPOKEN.pcm)
    await caller.speak(bytes(96_000))
    await caller.until("response_done")
    while SPOKEN.text not in [each.text for each in caller.all("user_transcript")]:
        assert await caller.read() is not None
    for raw in (
        json.dumps({"type": words}),
        f"{{{words}",
        json.dumps({"type": "conversation.item.delete", "item_id": words}),
        json.dumps({"type": "session.update", "session": {"type": "realtime", "voice": words}}),
        json.dumps({"type": "session.update", "session": {"type": "realtime", words: words}}),
    ):
        await caller.ask(raw=control.RawEvent(json=raw))
        await caller.until("error")
    await caller.ask(text=control.TextInput(text=words * 10_000))  # over the limit
    await caller.until("error")
    canaries.add("transcript", SPOKEN.text, whole=True)
    canaries.add("audio", SPOKEN.pcm[9600:9696])
    answers = [each.text for each in caller.all("item_done") if each.role == "assistant"]
    canaries.add("answer", max(answers, key=len), whole=True)
    canaries.add("answer's audio", caller.audio()[9600:9696])
    return opened.session_id


async def calls_that_are_refused(here: Stand) -> None:
    canaries, words = here.canaries, fresh("pepper ")
    canaries.add("words of who is refused", words)
    await here.refused(template=words)
    await here.refused(overrides=control.SessionOverrides(session_json=f"{{{words}"))
    await here.refused(overrides=control.SessionOverrides(session_json=json.dumps({"model": words})))
    lease = fresh("lt-")
    canaries.add("lease token", lease)
    await here.refused(lease_token=lease)
    for label in ("a wrong token", "another wrong token"):
        wrong = fresh("tk-")
        canaries.add(label, wrong)
        await here.refused(wrong)
    await here.refused(here.token + "x")


async def a_provider_that_repeats_everything(here: Stand) -> None:
    """Have each of its manners shown, at dials and in calls."""
    for manner in AT_DIAL:
        await here.refused(template=manner)
        assert manner in here.mean.shown
    for manner in AT_WORDS:
        words = fresh("saffron-")
        here.canaries.add(f"what {manner} repeats", words)
        caller = here.caller()
        await caller.open(template=manner)
        await caller.say(words)
        async with asyncio.timeout(10):
            while manner not in here.mean.shown:  # noqa: ASYNC110 it is a step of another task
                await asyncio.sleep(0.01)
        await caller.bye(now=True)
        await caller.rest()


async def changes_that_cannot_be_used(here: Stand) -> None:
    """Put secrets where they do not belong, and files that are none where secrets belong."""
    gateway, canaries = here.gateway, here.canaries

    async def is_refused(**sections: Any) -> None:
        before = len(gateway.events("reload_refused"))
        kept = {name: gateway.content[name] for name in sections if name in gateway.content}
        gateway.write(**sections)
        gateway.hang_up()
        await gateway.refused(before)
        here.told.append(gateway.configuration()[1])
        for name in sections.keys() - kept.keys():
            del gateway.content[name]
        gateway.write(**kept)

    misplaced = fresh("sk-")
    canaries.add("a key in the wrong place", misplaced)
    main = gateway.content["accounts"]["main"]
    await is_refused(accounts={"main": {**main, "key_file": misplaced}})
    await is_refused(accounts={"main": {**main, "connections_max": misplaced}})
    await is_refused(accounts={"main": {**main, "api_key": misplaced}})
    await is_refused(**{misplaced: 1})
    password = fresh("pw")
    canaries.add("a password in a URL", password)
    await is_refused(redis={"url": f"redis://u:{password}@127.0.0.1:99999"})
    half = fresh("half ")
    canaries.add("what is no key", half)
    for name in ("api-key", "k1"):
        before = len(gateway.events("reload_refused"))
        kept = here.secret.content[name]
        here.secret.put(**{name: half})
        await gateway.refused(before)
        here.told.append(gateway.configuration()[1])
        here.secret.put(**{name: kept})
    await eventually(lambda: gateway.configuration() == ("ok", ""), "all is well again", 20)


async def rotations(here: Stand) -> None:
    """A key that no pattern knows, a new token, a new sealing key; the provider repeats the refused key."""
    key, last, token, sealing = fresh("plain"), fresh("plain"), fresh("plain"), secrets.token_bytes(32)
    for label, value in {"next key": key, "last key": last, "next token": token}.items():
        here.canaries.add(label, value)
    here.canaries.add("next sealing key", sealing)
    here.provider.refused.add(key)
    here.secret.become({**here.secret.content, "api-key": key, "k2": sealing})
    await eventually(lambda: here.provider.refusals[key] > 0, "it is refused", 20)
    ring = [{"id": name, "file": here.secret.path(name)} for name in ("k2", "k1")]
    hashed_token(here.gateway.folder, "next", token)
    callers = [
        *here.gateway.content["callers"],
        caller_settings(here.gateway.folder, token, "converse", name="next"),
    ]
    await here.gateway.follow(store={"sealing_keys": ring, "retention_seconds": 60}, callers=callers)
    for manner in AT_DIAL:
        await here.refused(template=manner)
    here.secret.put(**{"api-key": last})
    await eventually(lambda: here.provider.open_with(last) > 0, "it is used", 20)
    caller = here.caller(token)
    words = fresh("cinnamon ")
    here.canaries.add("words after it all", words)
    await caller.open()
    await caller.say(words)
    await caller.answer_please()
    await caller.until("response_done")


# What is looked at.


async def shown(here: Stand) -> dict[str, str | bytes]:
    """Return everything that the gateway shows of itself, and all that Redis has of it."""
    pages: dict[str, str | bytes] = {}
    for path in ("/metrics", "/readyz", "/livez", f"/{here.token}"):
        try:
            pages[path[:9]] = await asyncio.to_thread(_page, here.gateway.ops, path)
        except urllib.error.HTTPError as error:
            pages[path[:9]] = error.read()
    operator = Operator(here.channel, here.token)
    pages["pools"] = "".join(map(str, await operator.pools()))
    pages["leases"] = "".join(map(str, await operator.leases()))
    pid = here.gateway.process.pid
    for each in {pid, *descendants(pid)}:
        pages[f"the arguments of {each}"] = command_line(each)
        pages[f"the environment of {each}"] = environment_of(each)
    pages["the log"] = here.gateway.process.output
    pages["Redis"] = here.redis.everything()
    pages["Redis' log"] = here.redis.log
    pages["MONITOR"] = bytes(here.monitored)
    return pages


def environment_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


def _page(ops: str, path: str) -> bytes:
    with urllib.request.urlopen(f"http://{ops}{path}", timeout=5) as answer:
        content: bytes = answer.read()
    return content


@pytest.mark.timeout(280)
async def test_no_secret_stands_in_anything_that_is_shown_or_stored() -> None:
    async with stand() as here:
        name = await a_call_of_every_kind(here)
        await calls_that_are_refused(here)
        await a_provider_that_repeats_everything(here)
        await changes_that_cannot_be_used(here)
        await rotations(here)
        pages = await shown(here)
        # What was looked at is what was meant.
        assert name.encode() in here.redis.everything()
        assert b'"evalsha"' in here.monitored.lower()
        assert "dial_failed" in str(pages["the log"])
        here.canaries.check(pages)
        # A caller may hear again what it has said itself.
        here.canaries.check({"what callers were told": "\n".join(here.told)}, "words of who is refused")
        # Nor when it has ended, and the owner reads what was kept.
        stub: Any = session_pb2_grpc.SessionServiceStub(here.channel)
        how = {"metadata": (("authorization", f"Bearer {here.token}"),), "timeout": 10}
        kept = await stub.GetSession(session.GetSessionRequest(session_id=name), **how)
        assert set(here.canaries.found_in(text_format.MessageToString(kept, as_utf8=True))) >= {"words", "transcript"}
        here.gateway.process.stop()
        here.canaries.check({"the log": here.gateway.process.output, "Redis": here.redis.everything()})
