"""A configuration that cannot be used changes nothing: calls go on, operators learn why, the next good one heals it."""

import asyncio
import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from trunkline.v1 import types_pb2 as types

from tests.support.calls import Caller
from tests.support.kubelet import MountedSecret
from tests.support.processes import on_linux
from tests.support.reloading import Reloading, reloading
from tests.support.simulated import simulated_provider
from tests.support.stack import UNLIMITED, channel_to, pool
from tests.support.steering import Operator
from tests.support.waiting import eventually

pytestmark = on_linux

# Less than the two seconds between two looks.
AT_ONCE_SECONDS: Final = 1.5
Break = Callable[[dict[str, Any]], dict[str, Any] | str | bytes]


@pytest.fixture(scope="module")
def gateway() -> Iterator[Reloading]:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tk", dir="/tmp")))
        provider = stack.enter_context(simulated_provider(folder))
        pools = {"default": pool(floor=2, demand={"enabled": False})}
        yield stack.enter_context(reloading(provider.url, pools=pools))


def with_(**sections: Any) -> Break:
    return lambda content: {**content, **sections}


BROKEN: Final[dict[str, tuple[Break, str]]] = {
    "no yaml": (lambda _: "callers: [", "is not YAML, line 1"),
    "no text": (lambda _: b"\xff\xfe\x00", "is not YAML"),
    "no mapping": (lambda _: "- callers", "must hold a mapping"),
    "cut": (lambda content: yaml.safe_dump(content)[:40], "the configuration cannot be used"),
    "empty": (lambda _: "", "a change needs a restart"),
    "unknown key": (with_(nonesuch=1), "nonesuch: no such key"),
    "unknown key below": (with_(limits={"drain_second": 1}), "limits.drain_second: no such key"),
    "wrong value": (with_(pools={"default": {"floor": "many"}}), "pools.default.floor: Input should be"),
    "floor over ceiling": (with_(pools={"default": {"floor": 9, "ceiling": 8}}), "is over ceiling 8"),
    "over the account": (with_(pools={"default": {"ceiling": 5000}}), "connections_max is 2000"),
    "key file": (
        with_(accounts={"main": {**UNLIMITED["main"], "key_file": "/nonesuch/key"}}),
        "accounts.main.key_file: /nonesuch/key cannot be read: No such file or directory",
    ),
    "token file": (
        with_(callers=[{"name": "a", "tenant": "b", "token_sha256_file": "/nonesuch/token"}]),
        "callers.a.token_sha256_file: /nonesuch/token cannot be read",
    ),
    "address": (with_(grpc={"address": "127.0.0.1:19998"}), "grpc: a change needs a restart"),
    "limits": (with_(limits={"drain_seconds": 2}), "limits: a change needs a restart"),
    "redis": (with_(redis={"url": "redis://127.0.0.1:1"}, store={}), "store.sealing_keys: an external Redis needs"),
    "store": (with_(store={"retention_seconds": 5}), "store: a change needs a restart"),
    "account gone": (
        lambda content: {
            **content,
            "accounts": {"other": {}},
            "targets": {"openai": {**content["targets"]["openai"], "accounts": ["other"]}},
        },
        "accounts: a change needs a restart",
    ),
    "account limits": (
        with_(accounts={"main": {**UNLIMITED["main"], "connections_max": 999}}),
        "accounts.main: a change needs a restart",
    ),
    "target of nobody": (with_(templates={"default": {"target": "nowhere"}}), "'nowhere' is not among targets"),
    "pool of nobody": (with_(pools={"default": {}, "other": {}}), "'other' is not among templates"),
    "no json": (with_(templates={"default": {"session": {"x": float("inf")}}}), "templates.default"),
    "a date that cannot be": (lambda _: "callers: 2026-13-45", "is not YAML"),
}  # fmt: skip


@pytest.mark.parametrize("case", list(BROKEN))
async def test_what_cannot_be_used_is_refused_with_the_reason_and_changes_nothing(
    case: str, gateway: Reloading
) -> None:
    breaks, words = BROKEN[case]
    async with channel_to(gateway.address) as channel:
        running, before = Caller(channel), len(gateway.events("reload_refused"))
        opened = await running.open()
        shown = await Operator(channel).pool()
        broken = breaks(gateway.content)
        gateway.write_text(yaml.safe_dump(broken) if isinstance(broken, dict) else broken)
        gateway.hang_up()
        why = await gateway.refused(before)
        assert words in why
        await eventually(
            lambda: gateway.configuration() == ("degraded", why[:200] + "…" * (len(why) > 200)), "it shows"
        )
        assert gateway.ready()["ready"], "callers are not sent away for it"
        fresh = Caller(channel)
        again = await fresh.open()
        assert (again.source, again.template_version) == (types.LINE_SOURCE_WARM, opened.template_version)
        now = await Operator(channel).pool()
        assert (now.floor, now.ceiling, now.line_class) == (shown.floor, shown.ceiling, shown.line_class)
        await running.say("Hello there")
        await running.answer_please()
        await running.until("response_done")
        done = len(gateway.events("reloaded"))
        gateway.write()
        gateway.hang_up()
        await gateway.reloaded(done)
        await eventually(lambda: gateway.configuration() == ("ok", ""), "all is well again")
        for each in (running, fresh):
            each.cancel()


async def test_a_signal_looks_at_once(gateway: Reloading) -> None:
    loop = asyncio.get_running_loop()
    for _ in range(3):
        before = len(gateway.events("reloaded"))
        gateway.hang_up()
        began = loop.time()
        await gateway.reloaded(before)
        assert loop.time() - began < AT_ONCE_SECONDS


async def test_signals_in_quick_succession_harm_nothing(gateway: Reloading) -> None:
    before = len(gateway.events("reloaded"))
    for _ in range(50):
        gateway.hang_up()
    await gateway.reloaded(before)
    assert not gateway.process.ended
    assert gateway.configuration() == ("ok", "")


async def test_a_file_that_is_written_in_two_steps_is_followed_when_it_is_whole(gateway: Reloading) -> None:
    """It is empty, then half of it is there, then all: whatever is looked at meanwhile, the end is the same."""
    pools = {"default": pool(floor=3, demand={"enabled": False})}
    text = yaml.safe_dump({**gateway.content, "pools": pools})
    async with channel_to(gateway.address) as channel:
        with gateway.file.open("w", encoding="utf-8") as file:
            for part in ("", text[:30], text[30:]):
                await asyncio.sleep(0.6)
                file.write(part)
                file.flush()
                gateway.hang_up()
        async with asyncio.timeout(10):
            while (await Operator(channel).pool()).floor != 3:  # noqa: ASYNC110 it is another process
                await asyncio.sleep(0.05)
        await eventually(lambda: gateway.configuration() == ("ok", ""), "all is well")
    await gateway.follow()


async def test_a_configuration_that_is_gone_for_a_while_is_missed_and_found_again(gateway: Reloading) -> None:
    text, before = gateway.file.read_bytes(), len(gateway.events("reload_refused"))
    gateway.file.unlink()
    assert "cannot be read: No such file or directory" in await gateway.refused(before)
    gateway.file.write_bytes(text)
    await eventually(lambda: gateway.configuration() == ("ok", ""), "all is well again")


async def test_a_map_that_is_mounted_before_the_secret_that_it_names_waits_for_it(gateway: Reloading) -> None:
    """Kubelet brings them apart, seconds or a minute later."""
    secret = gateway.folder / "secret"
    accounts = {"main": {**UNLIMITED["main"], "key_file": str(secret / "api-key")}}
    before, done = len(gateway.events("reload_refused")), len(gateway.events("reloaded"))
    kept = gateway.content["accounts"]
    gateway.write(accounts=accounts)
    assert "accounts.main.key_file" in await gateway.refused(before)
    MountedSecret(secret, {"api-key": "key"})
    await gateway.reloaded(done)
    await eventually(lambda: gateway.configuration() == ("ok", ""), "all is well")
    await gateway.follow(accounts=kept)


async def test_a_gateway_whose_configuration_was_refused_ends_in_order() -> None:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tk", dir="/tmp")))
        provider = stack.enter_context(simulated_provider(folder))
        gateway = stack.enter_context(reloading(provider.url))
        gateway.write_text("callers: [")
        await gateway.refused(0)
        gateway.process.stop()
        assert gateway.process.code == 0
        assert "Traceback" not in gateway.process.output
