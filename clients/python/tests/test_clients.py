"""The two clients beside each other, their calls other than conversations, TLS, and slow links."""

import asyncio
import inspect
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
import trustme

import trunkline_client
from trunkline_client import (
    AsyncClient,
    AsyncSession,
    CallerError,
    Client,
    ConnectionLost,
    ConnectionOptions,
    Session,
    TlsOptions,
)

from . import scripts
from .scripted_gateway import free_port, serving
from .shells import Connect

README = Path(__file__).parents[1] / "README.md"
RENAMED = {
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "__anext__": "__next__",
    "__aiter__": "__iter__",
}


def methods(kind: type) -> dict[str, str]:
    """Return each method's signature, in the words of the blocking client."""
    found = {}
    for name, member in vars(kind).items():
        if name.startswith("_") and name not in {*RENAMED, *RENAMED.values()}:
            continue
        signature = "property" if isinstance(member, property) else str(inspect.signature(member))
        found[RENAMED.get(name, name)] = signature.replace("Async", "").replace("_aio_", "_sync_")
    return found


@pytest.mark.parametrize(("asyncio_kind", "blocking_kind"), [(AsyncClient, Client), (AsyncSession, Session)])
def test_both_clients_have_the_same_methods_with_the_same_signatures(asyncio_kind: type, blocking_kind: type) -> None:
    assert methods(asyncio_kind) == methods(blocking_kind)
    assert len(methods(blocking_kind)) > 10


def test_both_constructors_take_the_same() -> None:
    assert inspect.signature(AsyncClient) == inspect.signature(Client)


def test_the_public_names_are_these() -> None:
    assert trunkline_client.__all__ == [
        "AsyncClient",
        "AsyncSession",
        "CallerError",
        "CapacityError",
        "Client",
        "ConnectionLost",
        "ConnectionOptions",
        "GatewayError",
        "Session",
        "SessionOverrides",
        "StoreError",
        "TlsOptions",
        "TrunklineError",
        "UpstreamError",
    ]


async def test_the_other_calls_answer_with_the_contracts_messages(connect: Connect) -> None:
    with serving(scripts.text_turn) as gateway:
        async with connect(gateway.address) as client:
            reserved = await client.acquire("support", 45)
            assert (reserved.lease_token, reserved.ttl_seconds) == ("support", 45)
            assert (await client.release("L1")).released
            assert (await client.pools("a")).pools[0].name == "a"
            assert (await client.leases("b")).leases[0].pool == "b"
            assert (await client.sessions("c")).sessions[0].pool == "c"
            assert (await client.get_session("s1")).session_id == "s1"
            gateway.stalled.set()
            assert (await client.capabilities()).version == "1"
            with pytest.raises(CallerError, match="UNKNOWN_SESSION"):
                await client.get_session("nobody")


async def test_a_client_outside_of_its_block_is_not_open(connect: Connect) -> None:
    client = connect("localhost:1")
    with pytest.raises(CallerError, match="NOT_OPEN"):
        await client.pools()
    async with client:
        session = client.open()
    with pytest.raises(CallerError, match="NOT_OPEN"):
        await client.pools()
    with pytest.raises(CallerError, match="NOT_OPEN"):
        await session.__aenter__()
    await client.close()


async def test_mutual_tls_with_a_name_of_its_own(connect: Connect, tmp_path: Path) -> None:
    authority = trustme.CA()
    files = _write(tmp_path, authority)
    served = authority.issue_cert("gateway.internal")
    credentials = grpc.ssl_server_credentials(
        [(served.private_key_pem.bytes(), served.cert_chain_pems[0].bytes())],
        root_certificates=authority.cert_pem.bytes(),
        require_client_auth=True,
    )
    with serving(scripts.text_turn, credentials) as gateway:
        right = TlsOptions(files["ca"], files["cert"], files["key"], server_name="gateway.internal")
        async with connect(gateway.address, token="t", options=ConnectionOptions(tls=right)) as client:
            await client.pools()
            async with client.open() as session:
                assert session.id == "s1"
        wrong = TlsOptions(files["ca"], files["cert"], files["key"], server_name="another.internal")
        async with connect(gateway.address, options=ConnectionOptions(tls=wrong)) as client:
            with pytest.raises(ConnectionLost):
                await client.pools()


def _write(folder: Path, authority: trustme.CA) -> dict[str, str]:
    mine = authority.issue_cert("caller.internal")
    contents = {
        "ca": authority.cert_pem.bytes(),
        "cert": mine.cert_chain_pems[0].bytes(),
        "key": mine.private_key_pem.bytes(),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {name: str(folder / name) for name in contents}


async def test_a_gateway_that_is_a_quarter_of_a_second_away_can_be_reached(
    connect: Connect,
) -> None:
    with serving(scripts.text_turn) as gateway:
        async with (
            _far_away(gateway.address, 0.25) as address,
            connect(address) as client,
            client.open() as session,
        ):
            assert session.id == "s1"


@asynccontextmanager
async def _far_away(address: str, seconds: float) -> AsyncIterator[str]:
    """Forward a port to `address`; the first answer of each connection takes `seconds`."""
    host, _, port = address.partition(":")
    entrance = free_port()
    under_way: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        writers = under_way[task] = [writer]
        await asyncio.sleep(seconds)
        back_reader, back_writer = await asyncio.open_connection(host, int(port))
        writers.append(back_writer)
        await asyncio.gather(_pipe(reader, back_writer), _pipe(back_reader, writer))

    server = await asyncio.start_server(forward, host, entrance)
    try:
        yield f"{host}:{entrance}"
    finally:
        # A gRPC channel lets go of its connection when it likes; the test does not wait for it.
        server.close()
        for writers in under_way.values():
            for each in writers:
                each.transport.abort()
        if under_way:
            await asyncio.wait(under_way, timeout=5.0)


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while content := await reader.read(65_536):
            writer.write(content)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def test_the_examples_talk_to_a_file(tmp_path: Path) -> None:
    from trunkline_client.audio import read_wav, write_wav  # noqa: PLC0415

    spoken = tmp_path / "in.wav"
    write_wav(spoken, bytes(range(256)) * 20)
    examples = Path(__file__).parents[1] / "examples"
    with serving(scripts.answers_speech) as gateway:
        for name in ("talk_to_a_file.py", "talk_to_a_file_sync.py"):
            heard = tmp_path / name
            running = await asyncio.create_subprocess_exec(
                sys.executable, str(examples / name), gateway.address, str(spoken), str(heard)
            )
            assert await asyncio.wait_for(running.wait(), 10) == 0
            assert read_wav(heard) == bytes(range(256)) * 20


@pytest.mark.parametrize("number", [0, 1])
async def test_the_readme_says_what_works(number: int) -> None:
    blocks = README.read_text(encoding="utf-8").split("```python\n")[1:]
    program = blocks[number].partition("```")[0].replace("…", "token")
    with serving(scripts.text_turn) as gateway:
        running = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            program.replace("127.0.0.1:50051", gateway.address),
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await asyncio.wait_for(running.communicate(), 10)
    assert (running.returncode, out) == (0, b"hi")
