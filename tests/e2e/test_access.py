"""Nobody gets in without credentials, and nobody does more than its rights allow."""

import asyncio
import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
import trunkline.v1
from google.protobuf.descriptor import FileDescriptor, MethodDescriptor
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gateway.app import Gateway
from gateway.settings import SettingsError
from tests.support.calls import HIDDEN, SECONDS, Refusal, ended_status, refusal, refusal_of
from tests.support.stack import Running, caller_settings, gateway_on, settings_for, simulator

TOKENS = {right: f"token-of-{right}" for right in ("converse", "read", "admin")}
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
HEALTH_LIST = "/grpc.health.v1.Health/List"
# `admin` includes `read`.
OPENS = {"converse": {"converse"}, "read": {"read"}, "admin": {"admin", "read"}}
READING = {"ListPools", "ListLeases", "ListSessions", "Watch", "GetCapabilities"}
# What an empty message is answered: it has no first frame, and names no pool.
EMPTY: Final = {"Converse": "FIRST_FRAME_EXPECTED", "GetSession": "UNKNOWN_SESSION"} | dict.fromkeys(
    ("PausePool", "UnpausePool", "DrainPool", "SetLimits"), "UNKNOWN_TEMPLATE"
)


def contract() -> Iterator[MethodDescriptor]:
    """Every method of the package trunkline.v1, from its descriptors."""
    for module in pkgutil.iter_modules(trunkline.v1.__path__):
        if module.name.endswith("_pb2"):
            file: FileDescriptor = importlib.import_module(f"trunkline.v1.{module.name}").DESCRIPTOR
            for service in file.services_by_name.values():
                yield from service.methods


METHODS = list(contract())


def path_of(method: MethodDescriptor) -> str:
    return f"/{method.containing_service.full_name}/{method.name}"


def needed(method: MethodDescriptor) -> str:
    """The right, as the contract's comments have it."""
    if method.containing_service.name != "AdminService":
        return "converse"
    return "read" if method.name in READING else "admin"


async def status_of(
    channel: grpc.aio.Channel, path: str, authorization: str | None, kind: tuple[bool, bool]
) -> Refusal | None:
    """Call any method with an empty message; None = it was answered."""
    metadata = () if authorization is None else (("authorization", authorization),)
    up, down = kind
    make: Any = {
        (False, False): channel.unary_unary,
        (False, True): channel.unary_stream,
        (True, False): channel.stream_unary,
        (True, True): channel.stream_stream,
    }[kind]
    request = iter([b""]) if up else b""
    call = make(path)(request, metadata=metadata, timeout=SECONDS)
    # A failed write may hide the gateway's own status, whether that came before or after it (grpc/grpc#36066).
    noted = list[Refusal]()
    call.add_done_callback(lambda ended: noted.append(ended_status(ended)))
    try:
        if down:
            async for _ in call:
                break
        else:
            await call
    except grpc.aio.AioRpcError as error:
        found = refusal_of(error)
        async with asyncio.timeout(SECONDS):
            while found.text == HIDDEN:
                await asyncio.sleep(0.005)
                now = refusal(await call.code(), await call.details(), await call.trailing_metadata())
                found = next((each for each in noted if each.text != HIDDEN), now)
        return found
    finally:
        call.cancel()
    return None


def kind_of(method: MethodDescriptor) -> tuple[bool, bool]:
    return (method.client_streaming, method.server_streaming)


def callers(folder: Path) -> list[dict[str, Any]]:
    return [caller_settings(folder, token, right, name=right) for right, token in TOKENS.items()]


def test_the_contract_has_the_services_that_it_should() -> None:
    names = {method.containing_service.name for method in METHODS}
    assert names == {"SessionService", "LeaseService", "SpeechService", "AdminService"}
    assert len(METHODS) >= 19


@pytest.mark.parametrize(
    "shown",
    [
        None, "", "Bearer", "Bearer ", "Bearer wrong", f"Basic {TOKENS['admin']}",
        TOKENS["admin"], f"Bearer {TOKENS['admin']}x", f"Bearer {TOKENS['admin'][:-1]}",
    ],
)  # fmt: skip
async def test_without_valid_credentials_every_method_is_unauthenticated(shown: str | None, tmp_path: Path) -> None:
    async with simulator() as sim, gateway_on(sim.url, insecure_dev=False, callers=callers(tmp_path)) as running:
        for path, kind in [(path_of(each), kind_of(each)) for each in METHODS]:
            status = await status_of(running.channel, path, shown, kind)
            assert status is not None, path
            assert (path, status.code) == (path, grpc.StatusCode.UNAUTHENTICATED)
            assert status.reason == "UNAUTHENTICATED"
        for path, kind in ((REFLECTION, (True, True)), ("/trunkline.v1.Nonesuch/Call", (False, False))):
            status = await status_of(running.channel, path, shown, kind)
            assert status is not None
            assert (path, status.code) == (path, grpc.StatusCode.UNAUTHENTICATED)


@pytest.mark.parametrize("right", list(TOKENS))
async def test_each_right_opens_its_own_methods_and_no_others(right: str, tmp_path: Path) -> None:
    async with simulator() as sim, gateway_on(sim.url, insecure_dev=False, callers=callers(tmp_path)) as running:
        for method in sorted(METHODS, key=lambda each: each.name == "DrainGateway"):  # after it there is none
            path = path_of(method)
            shown = f"Bearer {TOKENS[right]}"
            status = await status_of(running.channel, path, shown, kind_of(method))
            refused = status is not None and status.code is grpc.StatusCode.PERMISSION_DENIED
            assert (path, refused) == (path, needed(method) not in OPENS[right])
            if refused and status is not None:
                assert status.reason == "NOT_PERMITTED"
                assert needed(method) in status.text
            elif status is not None:
                assert (path, status.reason) == (path, EMPTY.get(method.name, "NOT_IMPLEMENTED_YET"))


SERVED: Final = (
    "SessionService/Converse",
    *(f"LeaseService/{each}" for each in ("Acquire", "KeepAlive", "Release")),
    *(f"AdminService/{each}" for each in ("PausePool", "UnpausePool", "DrainPool", "RetireLines")),
)


async def test_every_method_that_is_not_served_yet_says_so(tmp_path: Path) -> None:
    async with simulator() as sim, gateway_on(sim.url) as running:
        served = set((await _capabilities(running)).methods)
        assert {f"/trunkline.v1.{each}" for each in SERVED} <= served
        for method in METHODS:
            if path_of(method) not in served:
                status = await status_of(running.channel, path_of(method), None, kind_of(method))
                assert status is not None
                assert (status.code, status.reason) == (grpc.StatusCode.UNIMPLEMENTED, "NOT_IMPLEMENTED_YET")


async def _capabilities(running: Running) -> Any:
    from trunkline.v1 import admin_pb2, admin_pb2_grpc  # noqa: PLC0415

    stub = admin_pb2_grpc.AdminServiceStub(running.channel)
    return await stub.GetCapabilities(admin_pb2.GetCapabilitiesRequest(), timeout=SECONDS)


async def test_a_caller_with_its_token_holds_a_session_under_its_own_name(tmp_path: Path) -> None:
    from trunkline.v1 import admin_pb2, admin_pb2_grpc  # noqa: PLC0415

    async with simulator() as sim, gateway_on(sim.url, insecure_dev=False, callers=callers(tmp_path)) as running:
        caller = running.caller(TOKENS["converse"])
        opened = await caller.open(correlation_id="c-1", metadata={"queue": "billing"})
        stub = admin_pb2_grpc.AdminServiceStub(running.channel)
        shown: dict[str, Any] = {"metadata": (("authorization", f"bearer {TOKENS['read']}"),), "timeout": SECONDS}
        (session,) = (await stub.ListSessions(admin_pb2.ListSessionsRequest(), **shown)).sessions
        assert session.session_id == opened.session_id
        assert (session.tenant, session.caller) == ("acme", "converse")
        assert (session.correlation_id, dict(session.metadata)) == ("c-1", {"queue": "billing"})
        (lease,) = (await stub.ListLeases(admin_pb2.ListLeasesRequest(), **shown)).leases
        assert lease.session_id == opened.session_id
        assert lease.upstream_session_id == opened.upstream_session_id
        assert (lease.tenant, lease.caller) == ("acme", "converse")


async def test_health_may_be_asked_without_credentials_and_tells_no_more(tmp_path: Path) -> None:
    async with simulator() as sim, gateway_on(sim.url, insecure_dev=False, callers=callers(tmp_path)) as running:
        await running.until_warm(1)
        stub: Any = health_pb2_grpc.HealthStub(running.channel)  # its types are for blocking channels
        for service in ("", "trunkline.v1.SessionService"):
            request = health_pb2.HealthCheckRequest(service=service)
            async for answer in stub.Watch(request, timeout=SECONDS):
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    break
            checked = await stub.Check(request, timeout=SECONDS)
            assert checked.status == health_pb2.HealthCheckResponse.SERVING
        status = await status_of(running.channel, HEALTH_LIST, None, (False, False))
        assert status is not None
        assert status.code is grpc.StatusCode.UNAUTHENTICATED


async def test_reflection_is_there_in_development_with_credentials_only(tmp_path: Path) -> None:
    async with simulator() as sim, gateway_on(sim.url, insecure_dev=False, callers=callers(tmp_path)) as running:
        shown = f"Bearer {TOKENS['converse']}"
        method: Any = running.channel.stream_stream(REFLECTION)
        call = method(iter([b":\x01*"]), metadata=(("authorization", shown),), timeout=SECONDS)
        answer = await call.read()
        assert b"trunkline.v1.SessionService" in answer
        call.cancel()


async def test_reflection_is_off_in_production(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("sk-test", "ascii")
    async with (
        simulator() as sim,
        gateway_on(
            sim.url,
            insecure_dev=False,
            profile="production",
            callers=callers(tmp_path),
            accounts={"main": {"key_file": str(key)}},
        ) as running,
    ):
        shown = f"Bearer {TOKENS['converse']}"
        status = await status_of(running.channel, REFLECTION, shown, (True, True))
        assert status is not None
        assert status.code is grpc.StatusCode.UNIMPLEMENTED


# Who refuses to start.

URL = "ws://127.0.0.1:19999/v1/realtime"


def test_a_gateway_without_callers_does_not_start() -> None:
    with pytest.raises(SettingsError, match=r"callers: nobody may call.*--insecure-dev"):
        Gateway(settings_for(URL))


@pytest.mark.parametrize("address", ["0.0.0.0:50051", "[::]:50051", "10.1.2.3:50051"])
def test_insecure_dev_is_for_loopback_only(address: str) -> None:
    with pytest.raises(SettingsError, match="loopback only"):
        Gateway(settings_for(URL, grpc={"address": address}), insecure_dev=True)


def test_insecure_dev_is_not_for_production(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("sk-test", "ascii")
    settings = settings_for(URL, profile="production", accounts={"main": {"key_file": str(key)}})
    with pytest.raises(SettingsError, match="not for production"):
        Gateway(settings, insecure_dev=True)


def test_insecure_dev_does_not_open_a_gateway_that_has_callers(tmp_path: Path) -> None:
    gateway = Gateway(settings_for(URL, callers=callers(tmp_path)), insecure_dev=True)
    assert gateway._door.authenticator.authenticate({}) is None


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "cannot be read"), ("beef", "64 hex digits"), ("z" * 64, "64 hex digits")],
    ids=["missing", "short", "no hex"],
)
def test_a_token_file_that_cannot_be_used_is_named_without_its_content(
    content: str | None, words: str, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_text(content, "ascii")
    one = {"name": "bot", "tenant": "acme", "token_sha256_file": str(file), "rights": ["converse"]}
    with pytest.raises(SettingsError, match=words) as caught:
        Gateway(settings_for(URL, callers=[one]))
    assert "callers.bot.token_sha256_file" in str(caught.value)
    assert content is None or content not in str(caught.value)


@pytest.mark.parametrize("content", [None, "", "two words", "line\nline"])
def test_a_key_file_that_cannot_be_used_is_named_without_its_content(content: str | None, tmp_path: Path) -> None:
    file = tmp_path / "key"
    if content is not None:
        file.write_text(content, "ascii")
    with pytest.raises(SettingsError, match=r"accounts\.main\.key_file") as caught:
        Gateway(settings_for(URL, accounts={"main": {"key_file": str(file)}}), insecure_dev=True)
    assert not content or content not in str(caught.value)
