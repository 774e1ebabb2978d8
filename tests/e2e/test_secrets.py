"""Canaries: a key, a token and the caller's words, looked for in everything that a gateway shows."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf import text_format
from trunkline.v1 import control_pb2 as control

from gateway.settings.parts import accounts
from gateway.simulator import speech
from tests.support.calls import Caller
from tests.support.canaries import Canaries
from tests.support.processes import (
    ProcessStack,
    command,
    command_line,
    descendants,
    environment,
    on_linux,
    process_stack,
    valkeys,
)
from tests.support.stack import caller_settings, settings_for

pytestmark = on_linux
KEY = "sk-canary-0f3a9c11d2e84b57"
TOKEN = "tk-canary-77b1e0d4c5a9f236"
OTHER_KEY = "sk-canary-environment-91c2"
LEASE = "lt-canary-5d7e21b0"
WORDS = "marzipan-canary"
SPOKEN = speech.questions()[0]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessStack]:
    folder = tmp_path_factory.mktemp("secrets")
    key = folder / "key"
    key.write_text(KEY + "\n", "ascii")
    with process_stack(
        insecure_dev=False,
        callers=[caller_settings(folder, TOKEN, "converse", "read", "admin")],
        accounts={"main": {"key_file": str(key)}},
        env=environment(OPENAI_API_KEY=OTHER_KEY),
    ) as running:
        yield running


async def all_of_it(stack: ProcessStack) -> str:
    """Have calls that go well and wrong, with canaries in every field; return the refusals."""
    told = []
    async with grpc.aio.insecure_channel(stack.address) as channel:
        caller = Caller(channel, TOKEN)
        await caller.open(
            overrides=control.SessionOverrides(instructions=f"Say {WORDS} often"),
            correlation_id="open",
        )
        await caller.say(f"My name is {WORDS}. What is my name?")
        await caller.answer_please()
        await caller.until("response_done")
        for raw in (
            json.dumps({"type": WORDS}),
            f"{{{WORDS}",
            json.dumps({"type": "conversation.item.delete", "item_id": "x"}),
            json.dumps({"type": "session.update", "session": {"type": "realtime", "voice": WORDS}}),
        ):
            await caller.ask(raw=control.RawEvent(json=raw))
            told.append(text_format.MessageToString(await caller.until("error")))
        await caller.speak(SPOKEN.pcm)
        await caller.bye()
        await caller.rest()
        assert any(each.text == SPOKEN.text for each in caller.all("user_transcript"))
        for open_fields in (
            {"template": "nonesuch"},
            {"overrides": control.SessionOverrides(session_json=f"{{{WORDS}")},
            {"lease_token": LEASE},
        ):
            refusal = await Caller(channel, TOKEN).refused(**open_fields)
            told.append(str(refusal))
        for token in (f"{TOKEN}x", TOKEN[:-1], KEY):
            refusal = await Caller(channel, token).refused()
            told.append(str(refusal))
        cut = Caller(channel, TOKEN)
        await cut.open()
        await cut.say(WORDS)
        cut.cancel()
    return "\n".join(told)


def looked_at(stack: ProcessStack) -> dict[str, str]:
    """Collect everything that a gateway shows of itself."""
    pages = {}
    for path in ("/metrics", "/readyz", "/livez", f"/{TOKEN}"):
        try:
            with urllib.request.urlopen(f"http://{stack.ops}{path}", timeout=5) as answer:
                pages[path[:9]] = answer.read().decode()
        except urllib.error.HTTPError as error:
            pages[path[:9]] = error.read().decode()
    env = environment(TRUNKLINE_TOKEN=TOKEN)
    for verb in ("pools", "leases", "sessions"):
        done = command(verb, "--json", "--address", stack.address, env=env)
        assert done.code == 0, done.err
        pages[verb] = done.out + done.err
    everybody = {stack.gateway.pid, *descendants(stack.gateway.pid)}
    for pid in everybody:
        pages[f"cmdline of {pid}"] = command_line(pid)
        pages[f"environ of {pid}"] = Path(f"/proc/{pid}/environ").read_bytes().decode()
    pages["log"] = stack.gateway.output
    return pages


async def test_no_canary_is_anywhere(stack: ProcessStack) -> None:
    pages = {"refusals": await all_of_it(stack), **looked_at(stack)}
    assert '"session"' in pages["log"]
    assert "trunkline_acquires_total" in pages["/metrics"]
    assert "UNKNOWN_TEMPLATE" in pages["refusals"]
    canaries = Canaries()
    for label, secret in {
        "key": KEY,
        "token": TOKEN,
        "transcript": SPOKEN.text,
        "lease": LEASE,
        "words": WORDS,
    }.items():
        canaries.add(label, secret, whole=True)
    told = pages.pop("refusals")
    canaries.check(pages)
    canaries.check({"refusals": told}, "words")  # the caller's own, to that caller


async def test_every_line_of_the_log_is_json_of_known_fields(stack: ProcessStack) -> None:
    for line in stack.gateway.output.splitlines():
        entry = json.loads(line)
        assert {"event", "level", "timestamp"} <= set(entry)


async def test_every_refused_credential_is_logged(stack: ProcessStack) -> None:
    before = stack.gateway.output.count("authentication_failed")
    async with grpc.aio.insecure_channel(stack.address) as channel:
        assert (await Caller(channel, "wrong").refused()).reason == "UNAUTHENTICATED"
    assert stack.gateway.output.count("authentication_failed") == before + 1


def test_a_provider_on_loopback_never_sees_the_key_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is a simulator."""
    monkeypatch.setenv("OPENAI_API_KEY", OTHER_KEY)
    (account,) = accounts(settings_for("ws://127.0.0.1:19999/v1/realtime")).values()
    is_the_key = OTHER_KEY in account.key.bearer()
    assert not is_the_key


def test_the_store_of_a_gateway_is_told_no_secret(stack: ProcessStack) -> None:
    (store,) = valkeys(stack.gateway.pid)
    is_told = OTHER_KEY.encode() in Path(f"/proc/{stack.gateway.pid}/environ").read_bytes()
    assert is_told, "the gateway itself"
    assert len(Path(f"/proc/{store}/environ").read_bytes()) == 0
