"""When files are read again, what is done with what they say, and what stays when it cannot be used."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.app.reload import Reload, Source
from gateway.core.errors import Reason, StoreError
from gateway.settings import Settings, SettingsError, load
from tests.support.waiting import eventually


class Follower:
    """A configuration with one key file, and what was followed of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file, self.key = folder / "trunkline.yaml", folder / "key"
        self.key.write_text("first", "ascii")
        self.write(main={"key_file": str(self.key)})
        # What was put in force: the keys by account, and the settings.
        self.applied: list[tuple[dict[str, str], Settings]] = []
        self.noticed_times = 0
        self.noticed_failure: Exception | None = None
        self.prepare_failure: Exception | None = None
        self.apply_failure: Exception | None = None
        self.may_apply = asyncio.Event()
        self.may_apply.set()
        self.on_prepare: Callable[[], None] = lambda: None
        self.reload = Reload(Source(self.file, lambda: load(self.file)), load(self.file), self._prepare)

    def write(self, **accounts: dict[str, Any]) -> None:
        self.write_text(yaml.safe_dump({"accounts": accounts, **self._rest(accounts)}))

    def write_text(self, text: str) -> None:
        fresh = self.folder / "new"
        fresh.write_text(text, "utf-8")
        fresh.replace(self.file)

    @staticmethod
    def _rest(accounts: dict[str, dict[str, Any]]) -> dict[str, Any]:
        return {"targets": {"openai": {"url": "ws://127.0.0.1:9/", "accounts": list(accounts)}}}

    @property
    def keys(self) -> list[str]:
        return [keys["main"] for keys, _ in self.applied]

    def _prepare(self, settings: Settings) -> dict[str, str]:
        self.on_prepare()
        if self.prepare_failure is not None:
            raise self.prepare_failure
        found = {}
        for name, account in settings.accounts.items():
            assert account.key_file is not None
            try:
                found[name] = account.key_file.read_text("ascii")
            except OSError as error:
                raise SettingsError(f"{name} cannot be read: {error.strerror}") from None
        return found

    def noticed(self) -> None:
        self.noticed_times += 1
        if self.noticed_failure is not None:
            raise self.noticed_failure

    async def apply(self, settings: Settings, keys: dict[str, str]) -> None:
        if self.apply_failure is not None:
            raise self.apply_failure
        await self.may_apply.wait()
        self.applied.append((keys, settings))

    async def followed(self, times: int) -> None:
        await eventually(lambda: len(self.applied) >= times, f"it follows {times} times")

    async def refuses(self, words: str) -> None:
        await eventually(lambda: words in self.reload.refused, f"it refuses: {words}")


@pytest.fixture
async def follower(tmp_path: Path) -> AsyncIterator[Follower]:
    made = Follower(tmp_path)
    running = asyncio.create_task(made.reload.run(made.apply, made.noticed))
    yield made
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def test_a_changed_file_is_followed_by_itself_and_an_unchanged_one_is_left_alone(follower: Follower) -> None:
    follower.key.write_text("second", "ascii")
    await follower.followed(1)
    await asyncio.sleep(4.5)  # two more looks
    assert follower.keys == ["second"]


async def test_what_follows_its_files_by_itself_is_told_of_a_change_that_is_refused(follower: Follower) -> None:
    follower.prepare_failure = SettingsError("another file cannot be used")
    follower.key.write_text("second", "ascii")
    await follower.refuses("another file")
    assert (follower.noticed_times, follower.applied) == (1, [])


async def test_a_fault_in_what_follows_by_itself_ends_nothing(follower: Follower) -> None:
    follower.noticed_failure = RuntimeError("a fault")
    follower.key.write_text("second", "ascii")
    await follower.refuses("a fault of ours: RuntimeError")
    follower.noticed_failure = None
    follower.key.write_text("third", "ascii")
    await follower.followed(1)
    assert follower.keys == ["third"]


async def test_a_change_before_the_first_look_is_followed(tmp_path: Path) -> None:
    made = Follower(tmp_path)
    made.key.write_text("second", "ascii")
    running = asyncio.create_task(made.reload.run(made.apply, made.noticed))
    await made.followed(1)
    running.cancel()
    await asyncio.wait({running})
    assert made.keys == ["second"]


async def test_it_looks_at_once_when_it_is_asked_though_nothing_seems_to_have_changed(follower: Follower) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    follower.reload.ask()
    await follower.followed(1)
    assert loop.time() - began < 1.5


async def test_a_file_that_is_being_written_is_read_when_it_is_whole(follower: Follower) -> None:
    with follower.key.open("w", encoding="ascii") as file:
        for part in ("sec", "o", "nd"):
            file.write(part)
            file.flush()
            follower.reload.ask()
            await asyncio.sleep(0.1)
    await follower.followed(1)
    assert set(follower.keys) == {"second"}


async def test_what_was_refused_changes_nothing_and_the_next_good_write_heals_it(follower: Follower) -> None:
    follower.write_text("callers: [")
    follower.reload.ask()
    await follower.refuses("is not YAML, line")
    assert follower.applied == []
    follower.write(main={"key_file": str(follower.key)})
    follower.reload.ask()
    await follower.followed(1)
    assert follower.reload.refused == ""


@pytest.mark.parametrize(
    "text",
    [
        "callers: 2026-13-45",
        "limits: {drain_seconds: " + "9" * 5000 + "}",
        "a: " + "[" * 5000,
        "templates: {default: {session: {instructions: 2026-11-22}, recovery: {user_turns: none}}}",
        "templates: {default: {session: {type: [a]}, recovery: {user_turns: none}}}",
        "templates: {default: {session: {a: {1: x, b: y}}, recovery: {user_turns: none}}}",
        "templates: {default: {session: {type: transcription, audio: null}, recovery: {user_turns: none}}}",
        "store: {sealing_keys: [{id: k1, file: /a}, {id: k1, file: /b}]}",
        'accounts: {main: {key_file: "a\\0b"}}',
        "&a [*a]",
        "- a list",
        "\udcff",
        "",
    ],
)  # fmt: skip
async def test_no_text_whatever_ends_the_watch(text: str, follower: Follower) -> None:
    """Some of these were read by mistake as something to raise about."""
    follower.file.write_bytes(text.encode("utf-8", "surrogateescape"))
    follower.reload.ask()
    await eventually(lambda: follower.reload.refused or follower.applied, "it was looked at")
    follower.applied.clear()
    follower.write(main={"key_file": str(follower.key)})
    follower.reload.ask()
    await follower.followed(1)
    assert follower.reload.refused == ""


@pytest.mark.parametrize("where", ["prepare", "apply"])
@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (SettingsError("not like this"), "not like this"),
        (StoreError(Reason.INTERNAL, "not this key"), "not this key"),
        (RuntimeError("sk-canary"), "a fault of ours: RuntimeError"),
    ],
    ids=["settings", "store", "fault"],
)
async def test_a_failure_is_told_and_survived(where: str, failure: Exception, words: str, follower: Follower) -> None:
    setattr(follower, f"{where}_failure", failure)
    follower.reload.ask()
    await follower.refuses(words)
    assert "sk-canary" not in follower.reload.refused
    setattr(follower, f"{where}_failure", None)
    follower.reload.ask()
    await follower.followed(1)
    assert follower.reload.refused == ""


async def test_a_key_file_that_comes_after_the_configuration_that_names_it_is_waited_for(follower: Follower) -> None:
    """Kubelet brings a ConfigMap and a Secret apart."""
    later = follower.folder / "later"
    follower.write(main={"key_file": str(later)})
    follower.reload.ask()
    await follower.refuses("main cannot be read")
    later.write_text("second", "ascii")
    await follower.followed(1)
    assert follower.keys == ["second"]


async def test_a_new_key_file_that_comes_in_the_very_moment_is_not_missed(follower: Follower) -> None:
    later = follower.folder / "later"
    follower.write(main={"key_file": str(later)})
    follower.prepare_failure = SettingsError("not there")

    def come() -> None:
        later.write_text("second", "ascii")
        follower.on_prepare = lambda: setattr(follower, "prepare_failure", None)

    follower.on_prepare = come
    follower.reload.ask()
    await follower.followed(1)
    assert follower.keys == ["second"]


async def test_a_change_while_another_one_is_put_in_force_is_followed_after_it(follower: Follower) -> None:
    follower.may_apply.clear()
    follower.key.write_text("second", "ascii")
    follower.reload.ask()
    await asyncio.sleep(0.6)
    follower.key.write_text("third", "ascii")
    follower.may_apply.set()
    await follower.followed(2)
    assert follower.keys[-1] == "third"


async def test_files_that_are_no_longer_named_are_no_longer_looked_at(follower: Follower) -> None:
    other = follower.folder / "other"
    other.write_text("other", "ascii")
    follower.write(main={"key_file": str(other)})
    follower.reload.ask()
    await follower.followed(1)
    follower.key.write_text("nobody's", "ascii")
    await asyncio.sleep(4.5)
    assert follower.keys == ["other"]


async def test_a_setting_that_needs_a_restart_is_named(follower: Follower) -> None:
    follower.write_text(f"grpc: {{address: '127.0.0.1:20001'}}\naccounts: {{main: {{key_file: {follower.key}}}}}")
    follower.reload.ask()
    await follower.refuses("grpc: a change needs a restart")
    assert follower.applied == []
