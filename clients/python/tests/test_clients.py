"""The two clients beside each other, their calls other than conversations, and TLS."""

import inspect
from pathlib import Path

import grpc
import pytest
import trustme

import trunkline_client
from trunkline_client import (
    AsyncClient,
    AsyncLease,
    AsyncSession,
    CallerError,
    Client,
    ConnectionLost,
    ConnectionOptions,
    Lease,
    Session,
    TlsOptions,
)

from . import scripts
from .scripted_gateway import serving
from .shells import Connect

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


@pytest.mark.parametrize(
    ("asyncio_kind", "blocking_kind"), [(AsyncClient, Client), (AsyncSession, Session), (AsyncLease, Lease)]
)
def test_both_clients_have_the_same_methods_with_the_same_signatures(asyncio_kind: type, blocking_kind: type) -> None:
    assert methods(asyncio_kind) == methods(blocking_kind)
    assert len(methods(blocking_kind)) >= 8


def test_both_constructors_take_the_same() -> None:
    assert inspect.signature(AsyncClient) == inspect.signature(Client)


def test_the_public_names_are_these() -> None:
    assert trunkline_client.__all__ == [
        "AsyncClient",
        "AsyncLease",
        "AsyncSession",
        "CallerError",
        "CapacityError",
        "Client",
        "ConnectionLost",
        "ConnectionOptions",
        "GatewayError",
        "Lease",
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
            assert (await client.acquire(idempotency_key="again")).lease_id == "again"
            assert (await client.keep_alive("support")).ttl_seconds == 1
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
        session = client.open(resumable=False)
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
            async with client.open(resumable=False) as session:
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
