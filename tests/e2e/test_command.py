"""The command `trunkline`: what it prints for programs, and how it refuses what cannot be."""

import json
import re
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf.json_format import Parse
from trunkline.v1 import admin_pb2

from gateway.settings import Settings, load
from tests.support.calls import Caller
from tests.support.commands import Commands, commands
from tests.support.ports import free_port
from tests.support.processes import (
    Finished,
    ProcessStack,
    environment,
    on_linux,
    process_stack,
    write_yaml,
)
from tests.support.stack import channel_to

pytestmark = on_linux
DISTRIBUTION = {"n", "p50", "p90", "p99", "max"}


@pytest.fixture(scope="module")
def stack() -> Iterator[ProcessStack]:
    with process_stack() as running:
        running.until_warm()
        yield running


@pytest.fixture(scope="module")
def command() -> Iterator[Commands]:
    with commands() as running:
        yield running


def refused(done: Finished, *words: str) -> None:
    """Exit code 2 and one sentence that has these words; no traceback."""
    assert (done.code, done.out) == (2, ""), done
    assert "Traceback" not in done.err, done.err
    assert done.err.startswith("trunkline: "), done.err
    for word in words:
        assert word in done.err, done.err


# For programs.


def test_probe_prints_exactly_these_figures(command: Commands, stack: ProcessStack) -> None:
    done = command("probe", "--json", "--calls", "2", "--address", stack.address)
    assert (done.code, done.err) == (0, "")
    figures = json.loads(done.out)
    assert set(figures) == {"calls", "ok", "failed", "warm_hits", "open_ms", "first_audio_ms", "response_ms"}
    assert (figures["calls"], figures["ok"], figures["failed"]) == (2, 2, 0)
    for name in ("open_ms", "first_audio_ms", "response_ms"):
        assert set(figures[name]) == DISTRIBUTION
        assert figures[name]["n"] == 2
        assert 0 < figures[name]["p50"] <= figures[name]["p90"] <= figures[name]["max"]
        assert figures[name]["p99"] is None


def test_probe_counts_failures_and_says_so_by_its_exit_code(command: Commands, stack: ProcessStack) -> None:
    done = command("probe", "--json", "--calls", "2", "--template", "nonesuch", "--address", stack.address)
    assert done.code == 1
    figures = json.loads(done.out)
    assert (figures["calls"], figures["ok"], figures["failed"]) == (2, 0, 2)
    assert figures["open_ms"] == dict.fromkeys(DISTRIBUTION) | {"n": 0}
    assert done.err.count("UNKNOWN_TEMPLATE") == 2


async def test_pools_leases_and_sessions_print_the_contracts_own_json(command: Commands, stack: ProcessStack) -> None:
    async with channel_to(stack.address) as channel:
        caller = Caller(channel)
        opened = await caller.open(correlation_id="shown")
        answers: dict[str, Any] = {}
        for verb, message in (
            ("pools", admin_pb2.ListPoolsResponse()),
            ("leases", admin_pb2.ListLeasesResponse()),
            ("sessions", admin_pb2.ListSessionsResponse()),
        ):
            done = command(verb, "--json", "--address", stack.address)
            assert (done.code, done.err) == (0, "")
            answers[verb] = Parse(done.out, message)
            table = command(verb, "--address", stack.address)
            assert table.code == 0
            assert "default" in table.out
        caller.cancel()
    (pool,) = answers["pools"].pools
    assert (pool.name, pool.leased, pool.floor, pool.ceiling) == ("default", 1, 1, 8)
    (lease,) = answers["leases"].leases
    (session,) = answers["sessions"].sessions
    assert lease.session_id == session.session_id == opened.session_id
    assert session.correlation_id == "shown"
    assert session.state == 2


def test_the_example_loads_and_is_the_default(command: Commands, tmp_path: Path) -> None:
    done = command("config", "--example")
    assert (done.code, done.err) == (0, "")
    file = tmp_path / "example.yaml"
    file.write_text(done.out, "utf-8")
    assert load(file) == Settings()
    assert "callers" in yaml.safe_load(done.out)


def test_the_configuration_in_force_loads_again_and_masks_passwords(command: Commands, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_bytes(bytes(32))
    file = write_yaml(
        tmp_path,
        {
            "redis": {"url": "redis://user:canary-password@127.0.0.1:6379/0"},
            "store": {"sealing_keys": [{"id": "k1", "file": str(key)}]},
        },
    )
    env = environment(TRUNKLINE_LIMITS__DRAIN_SECONDS="7")
    done = command("config", "--config", str(file), env=env)
    assert done.code == 0, done.err
    assert "canary" not in done.out + done.err
    shown = yaml.safe_load(done.out)
    assert shown["limits"]["drain_seconds"] == 7
    assert shown["store"]["sealing_keys"] == [{"id": "k1", "file": str(key)}]


# What cannot be.


@pytest.fixture
def taken() -> Iterator[str]:
    """Give an address that somebody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", free_port()))
        listener.listen()
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def serve(command: Commands, folder: Path, content: Mapping[str, Any], **variables: str) -> Finished:
    """Start a gateway that is expected not to start."""
    free = {
        "grpc": {"address": f"127.0.0.1:{free_port()}"},
        "ops": {"address": f"127.0.0.1:{free_port()}"},
        "targets": {"openai": {"url": "ws://127.0.0.1:19999/v1/realtime"}},
    }
    file = write_yaml(folder, {**free, **content})
    env = environment(**variables)
    return command("serve", "--insecure-dev", "--config", str(file), env=env)


def without_log(done: Finished) -> Finished:
    """Leave out log lines, ours and those of gRPC's core, which stand on stderr too."""
    lines = done.err.splitlines(keepends=True)
    words = [line for line in lines if not re.match(r"\{|[IWE]\d{4} ", line)]
    return Finished(done.code, done.out, "".join(words))


@pytest.mark.parametrize("section", ["grpc", "ops"])
def test_an_address_in_use_is_named(command: Commands, section: str, taken: str, tmp_path: Path) -> None:
    refused(without_log(serve(command, tmp_path, {section: {"address": taken}})), taken, "cannot listen")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"nonesuch": 1}, ["nonesuch", "no such key"]),
        ({"limits": {"drain": 1}}, ["limits.drain", "no such key"]),
        ({"limits": {"drain_seconds": "soon"}}, ["limits.drain_seconds"]),
        ({"pools": {"other": {}}}, ["pools", "'other'"]),
        ({"templates": {"default": {"session": {"audio": 5}}}}, ["templates.default"]),
        ({"templates": {"default": {"session": {"audio": {"input": 5}}}}}, ["templates.default"]),
        ({"targets": {"openai": {"url": "ws://example.com/v1/realtime"}}}, ["targets.openai"]),
        ({"targets": {"openai": {"url": "http://[::1"}}}, ["targets.openai"]),
        ({"accounts": {"main": {"key_file": "/nonesuch/key"}}}, ["accounts.main.key_file"]),
        ({"redis": {"url": "redis://127.0.0.1:1"}}, ["store.sealing_keys"]),
        (
            {"redis": {"url": "redis://127.0.0.1:1"},
             "store": {"sealing_keys": [{"id": "k", "file": "/nonesuch/key"}]}},
            ["/nonesuch/key"],
        ),
        (
            {"redis": {"url": "http://127.0.0.1:1"},
             "store": {"sealing_keys": [{"id": "k", "file": "/nonesuch/key"}]}},
            ["redis"],
        ),
        ({"grpc": {"address": "127.0.0.1:1", "tls": {"cert_file": "/x"}}}, ["grpc.tls"]),
        (
            {"grpc": {"address": "127.0.0.1:21999",
                      "tls": {"cert_file": "/nonesuch/c", "key_file": "/nonesuch/k"}}},
            ["/nonesuch/"],
        ),
        ({"grpc": {"address": "127.0.0.1:99999"}}, ["127.0.0.1:99999"]),
        ({"grpc": {"address": "127.0.0.1"}}, ["127.0.0.1"]),
        ({"ops": {"address": "nonsense"}}, ["nonsense"]),
        ({"ops": {"address": "127.0.0.1:99999"}}, ["127.0.0.1:99999"]),
        ({"ops": {"address": "192.0.2.1:9999"}}, ["192.0.2.1:9999"]),
        ({"profile": "test"}, ["profile"]),
    ],
    ids=[
        "unknown key", "unknown key below", "wrong type", "pool without template", "session audio",
        "session input", "plain provider", "no url", "no key file", "no sealing key",
        "no sealing key file", "strange redis", "half of tls", "no certificate", "port too high",
        "no port", "ops nonsense", "ops port too high", "ops elsewhere", "profile",
    ],
)  # fmt: skip
def test_a_configuration_that_cannot_be_is_refused_in_a_sentence(
    command: Commands, content: dict[str, Any], words: list[str], tmp_path: Path
) -> None:
    refused(without_log(serve(command, tmp_path, content)), *words)


def test_certificates_that_are_none_are_refused(command: Commands, tmp_path: Path) -> None:
    for name in ("c", "k"):
        (tmp_path / name).write_text("nonsense", "ascii")
    tls = {"cert_file": str(tmp_path / "c"), "key_file": str(tmp_path / "k")}
    address = f"127.0.0.1:{free_port()}"
    done = serve(command, tmp_path, {"grpc": {"address": address, "tls": tls}})
    refused(without_log(done), "tls")


@pytest.mark.parametrize("name", ["TRUNKLINE_NONESUCH", "TRUNKLINE_GRPC__ADRESS", "TRUNKLINE_LIMITS__NONE__SUCH"])
def test_a_variable_that_names_no_setting_is_refused(command: Commands, name: str, tmp_path: Path) -> None:
    refused(serve(command, tmp_path, {}, **{name: "1"}), name)


def test_what_kubernetes_sets_for_a_service_is_not_ours(command: Commands, tmp_path: Path) -> None:
    env = environment(
        TRUNKLINE_SERVICE_HOST="10.0.0.1",
        TRUNKLINE_SERVICE_PORT_GRPC="50051",
        TRUNKLINE_PORT="tcp://10.0.0.1:50051",
        TRUNKLINE_PORT_50051_TCP_ADDR="10.0.0.1",
        TRUNKLINE_METRICS_SERVICE_PORT="9464",
    )
    assert command("config", env=env).code == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [(None, "cannot be read"), ("a: [", "not YAML"), ("- a", "mapping"), ("\x00", "not YAML")],
    ids=["missing", "broken", "a list", "binary"],
)
def test_a_file_that_cannot_be_read_is_named(command: Commands, text: str | None, words: str, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    if text is not None:
        file.write_text(text, "utf-8")
    refused(command("config", "--config", str(file)), str(file), words)


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonesuch"],
        ["pools", "--nonesuch"],
        ["probe", "--calls", "0"],
        ["probe", "--calls", "many"],
        ["simulator", "--port", "70000"],
        ["simulator", "--connect-delay-ms", "-1"],
        ["demo", "--calls", "0"],
        ["serve", "--logs", "nonesuch"],
        ["pools", "--token-file", "/nonesuch/token"],
        ["pools", "--ca-file", "/nonesuch/ca"],
        ["pools", "--address", "example.com:50051"],
        ["pools", "--address", "nonsense"],
        ["demo", "--calls", "2", "--output", "/proc/nonesuch"],
        ["demo", "--calls", "2", "--output", "/dev/null"],
    ],
    ids=" ".join,
)
def test_arguments_that_cannot_be_are_refused_in_a_sentence(command: Commands, arguments: list[str]) -> None:
    refused(command(*arguments))


@pytest.mark.parametrize("arguments", [["pools"], ["probe", "--calls", "1"]], ids=" ".join)
def test_a_gateway_that_does_not_answer_is_said_in_a_sentence(command: Commands, arguments: list[str]) -> None:
    done = command(*arguments, "--address", "127.0.0.1:19999")
    assert (done.code, done.out) == (1, "")
    assert "127.0.0.1:19999" in done.err
    assert "Traceback" not in done.err


def test_a_simulator_says_that_its_port_is_taken(command: Commands, taken: str) -> None:
    refused(command("simulator", "--port", taken.rpartition(":")[2]), taken.rpartition(":")[2])


def test_a_token_with_a_line_end_is_refused_without_being_shown(command: Commands, stack: ProcessStack) -> None:
    env = environment(TRUNKLINE_TOKEN="canary\ntoken")
    done = command("pools", "--address", stack.address, env=env)
    refused(done)
    assert "canary" not in done.err


def test_without_arguments_it_helps(command: Commands) -> None:
    done = command("--help")
    assert done.code == 0
    for verb in ("serve", "demo", "probe", "simulator", "config", "pools", "leases", "sessions"):
        assert verb in done.out
