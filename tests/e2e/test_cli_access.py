"""Tokens, rights, TLS and names, as operators meet them."""

import asyncio
import json
import re
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trustme

from gateway.cli.access import Access
from gateway.cli.main import main
from gateway.cli.watching import Watching
from tests.support.commands import Commands, commands
from tests.support.ports import free_port
from tests.support.processes import Finished, ProcessStack, environment, on_linux, process_stack
from tests.support.stack import caller_settings, gateway_on, pool, simulator
from tests.support.waiting import eventually

pytestmark = on_linux
NAME = "gateways.trunkline.svc"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


@pytest.fixture(scope="module")
def guarded(folder: Path) -> Iterator[ProcessStack]:
    """Run a gateway that knows two callers, and leave their tokens in files."""
    callers = []
    for name, rights in (("reader", ["read"]), ("operator", ["admin"]), ("bot", ["converse"])):
        (folder / f"{name}.token").write_text(f"canary-{name}\n", "ascii")
        callers.append(caller_settings(folder, f"canary-{name}", *rights, name=name))
    with process_stack(insecure_dev=False, callers=callers) as running:
        yield running


@pytest.fixture(scope="module")
def command() -> Iterator[Commands]:
    with commands() as running:
        yield running


def failed(done: Finished, *words: str) -> None:
    """Exit code 1, one sentence with these words, no token."""
    assert (done.code, done.out) == (1, ""), done
    assert len(done.err.splitlines()) == 1, done.err
    assert done.err.startswith("trunkline: "), done.err
    assert "canary" not in done.err
    for word in words:
        assert word in done.err, done.err


@pytest.mark.parametrize(
    "verb", [["pools"], ["pause", "default"], ["top"], ["top", "--once"], ["kill", "x", "--reason", "y"]]
)
def test_without_a_good_token_nobody_gets_in_and_is_told_how(
    command: Commands, guarded: ProcessStack, verb: list[str]
) -> None:
    for env in (environment(), environment(TRUNKLINE_TOKEN="canary-wrong")):
        failed(command(*verb, "--address", guarded.address, env=env), "UNAUTHENTICATED", "--token-file")


def test_who_may_read_may_not_steer(command: Commands, guarded: ProcessStack, folder: Path) -> None:
    how = ["--token-file", str(folder / "reader.token"), "--address", guarded.address]
    for verb in ("pools", "sessions", "leases", "capabilities"):
        done = command(verb, *how)
        assert (done.code, done.err) == (0, "")
    assert command("top", "--once", *how).code == 0
    for words in (["pause", "default"], ["drain"], ["retire"], ["limits", "default", "--floor", "0"]):
        failed(command(*words, *how), "NOT_PERMITTED", "admin", "rights")
    failed(command("kill", "x", "--reason", "y", *how), "NOT_PERMITTED")


def test_who_may_steer_may_by_file_and_by_environment(command: Commands, guarded: ProcessStack, folder: Path) -> None:
    file = ["--token-file", str(folder / "operator.token")]
    assert command("pause", "default", *file, "--address", guarded.address).code == 0
    env = environment(TRUNKLINE_TOKEN="canary-operator")
    assert command("unpause", "default", "--address", guarded.address, env=env).code == 0


def test_who_may_only_converse_sees_nothing(command: Commands, guarded: ProcessStack, folder: Path) -> None:
    how = ["--token-file", str(folder / "bot.token"), "--address", guarded.address]
    for verb in ("pools", "top"):
        failed(command(verb, *how), "NOT_PERMITTED", "read")


# TLS, and names with several addresses.


class Named:
    """Two gateways of one name, and how to ask them."""

    def __init__(self, folder: Path) -> None:
        self.port, self.folder = free_port(), folder
        self.hosts = ["127.0.0.1", "127.0.0.2"]
        self._authority = trustme.CA()
        self.ca_file = folder / "authority.pem"
        self._authority.cert_pem.write_to_path(self.ca_file)
        for name in (NAME, "client"):
            made = self._authority.issue_cert(name)
            made.private_key_pem.write_to_path(folder / f"{name}.key")
            made.cert_chain_pems[0].write_to_path(folder / f"{name}.pem")

    @property
    def addresses(self) -> list[str]:
        return [f"{host}:{self.port}" for host in self.hosts]

    @property
    def tls(self) -> dict[str, Any]:
        files = {"cert_file": self.folder / f"{NAME}.pem", "key_file": self.folder / f"{NAME}.key"}
        return {name: str(file) for name, file in {**files, "client_ca_file": self.ca_file}.items()}

    @property
    def shown(self) -> list[str]:
        files = {"ca": self.ca_file, "cert": self.folder / "client.pem", "key": self.folder / "client.key"}
        return [word for option, file in files.items() for word in (f"--{option}-file", str(file))]


@asynccontextmanager
async def named(folder: Path) -> AsyncIterator[Named]:
    """Run them; each wants its callers' certificates."""
    found = Named(folder)
    callers = [caller_settings(folder, "canary", "admin")]
    async with AsyncExitStack() as stack:
        provider = await stack.enter_async_context(simulator())
        for address in found.addresses:
            grpc = {"address": address, "advertise": address, "tls": found.tls}
            running = await stack.enter_async_context(
                gateway_on(provider.url, insecure_dev=False, grpc=grpc, callers=callers, pools={"default": pool()})
            )
            await running.until_warm(1)
        yield found


def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Return the names that a test makes up; what it puts there is known from then on."""
    known: dict[str, list[str]] = {}
    real = socket.getaddrinfo

    def look_up(host: Any, port: Any, *more: Any, **options: Any) -> list[Any]:
        if host in known:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in known[host]]
        return real(host, port, *more, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return known


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run the command in this process, where the names are known that a test makes up."""
    known = names(monkeypatch)

    async def type_(hosts: list[str], *arguments: str) -> Finished:
        known[NAME] = hosts
        monkeypatch.setattr(sys, "argv", ["trunkline", *arguments])
        code: Any = 0
        try:
            await asyncio.to_thread(main)
        except SystemExit as end:
            code = end.code
        out, err = capsys.readouterr()
        # The gateways of this process log to the same place.
        return Finished(int(code or 0), re.sub(r"(?m)^\d{4}-\d\d-\d\d .*\n", "", out), err)

    monkeypatch.setenv("TRUNKLINE_TOKEN", "canary")
    return type_


async def test_a_name_with_several_addresses_is_asked_at_all_of_them_over_tls(typed: Any, tmp_path: Path) -> None:
    async with named(tmp_path) as found:
        how = ["--address", f"{NAME}:{found.port}", *found.shown]
        done = await typed(found.hosts, "pools", "--json", *how)
        assert (done.code, done.err) == (0, "")
        assert [each["gateway"] for each in json.loads(done.out)["pools"]] == found.addresses
        done = await typed(found.hosts, "pause", "default", *how)
        assert (done.code, done.err, done.out.count("paused")) == (0, "", 2)
        done = await typed(found.hosts, "top", "--once", *how)
        assert (done.code, done.err) == (0, "")
        assert all(address in done.out for address in found.addresses)
        done = await typed(found.hosts, "drain", "--yes", *how)
        assert (done.code, done.out) == (2, "")
        assert all(address in done.err for address in found.addresses)
        # One of them has gone since the name was made.
        done = await typed([*found.hosts, "127.0.0.3"], "unpause", "default", *how)
        assert (done.code, done.out.count("serving")) == (1, 2)
        assert f"127.0.0.3:{found.port}: CONNECTION_LOST" in done.err


async def test_a_certificate_must_be_good_on_both_sides(typed: Any, tmp_path: Path) -> None:
    async with named(tmp_path) as found:
        address = ["--address", found.addresses[0]]
        done = await typed([], "pools", *address, *found.shown)
        failed(done, "CONNECTION_LOST")  # the certificate is for the name
        assert (await typed([], "pools", *address, *found.shown, "--server-name", NAME)).code == 0
        foreign = tmp_path / "foreign.pem"
        trustme.CA().cert_pem.write_to_path(foreign)
        wrong = ["--ca-file", str(foreign), *found.shown[2:], "--server-name", NAME]
        failed(await typed([], "pools", *address, *wrong), "CONNECTION_LOST")
        without = ["--ca-file", str(found.ca_file), "--server-name", NAME]
        failed(await typed([], "pools", *address, *without), "CONNECTION_LOST")
        failed(await typed([], "pools", *address), "CONNECTION_LOST", "--ca-file")


async def test_a_name_that_nobody_knows_is_told(typed: Any, tmp_path: Path) -> None:
    found = Named(tmp_path)
    done = await typed([], "pools", "--address", "nonesuch.invalid:50051", "--ca-file", str(found.ca_file))
    failed(done, "nonesuch.invalid:50051", "CONNECTION_LOST")


async def test_top_follows_a_name_to_gateways_that_come_and_leaves_those_that_go(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    known = names(monkeypatch)
    monkeypatch.setenv("TRUNKLINE_TOKEN", "canary")
    async with named(tmp_path) as found:
        first, second = found.addresses
        gone = f"127.0.0.3:{found.port}"
        files = (tmp_path / "authority.pem", tmp_path / "client.pem", tmp_path / "client.key")
        known[NAME] = ["127.0.0.1", "127.0.0.3"]
        watching = Watching(Access(f"{NAME}:{found.port}", None, *files), 100, look_up_every_seconds=0.1)
        running = asyncio.create_task(watching.run())
        await watching.begun()
        assert list(watching.gateways) == [first, gone]
        known[NAME] = found.hosts
        await eventually(lambda: list(watching.gateways) == [first, second], "the names' gateways are watched")
        await eventually(lambda: watching.gateways[second].seen, "the new one answers")
        # One that answers is shown even when the name has forgotten it: it may still have sessions.
        known[NAME] = ["127.0.0.2", "127.0.0.3"]
        await eventually(lambda: gone in watching.gateways, "the name is looked up")
        assert first in watching.gateways
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
