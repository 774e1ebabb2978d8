"""Which authorities a Redis server's certificate may come from: the one that is named, and no other beside it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.store import link
from gateway.store.link import LinkError, ServerLink
from gateway.store.options import RedisOptions
from tests.support.redis_access import GATEWAY_PASSWORD
from tests.support.redis_tls import TlsRedis, tls_redis


@pytest.fixture(name="server", scope="module")
def _server() -> Iterator[TlsRedis]:
    with tls_redis() as server:
        yield server


async def connects(server: TlsRedis, ca_file: Path | None) -> None:
    reached = ServerLink(RedisOptions(url=server.url, password=GATEWAY_PASSWORD, tls_ca_file=ca_file))
    try:
        await reached.open()
    finally:
        await reached.close()


@pytest.fixture(name="systems")
def _systems(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """What the system trusts is chosen by the test."""
    link._context.cache_clear()
    yield monkeypatch
    link._context.cache_clear()


async def test_the_authority_that_is_named_is_trusted(server: TlsRedis) -> None:
    await connects(server, server.ca_file)


async def test_no_authority_of_the_system_is_trusted_beside_it(server: TlsRedis, systems: pytest.MonkeyPatch) -> None:
    systems.setenv("SSL_CERT_FILE", str(server.ca_file))
    with pytest.raises(LinkError, match="CERTIFICATE_VERIFY_FAILED"):
        await connects(server, server.foreign_ca_file)
    await connects(server, None)


async def test_without_one_the_systems_are(server: TlsRedis, systems: pytest.MonkeyPatch) -> None:
    systems.setenv("SSL_CERT_FILE", str(server.foreign_ca_file))
    with pytest.raises(LinkError, match="CERTIFICATE_VERIFY_FAILED"):
        await connects(server, None)


async def test_a_file_that_has_changed_is_read_anew(server: TlsRedis, tmp_path: Path) -> None:
    named = tmp_path / "ca.pem"
    shutil.copyfile(server.foreign_ca_file, named)
    with pytest.raises(LinkError, match="CERTIFICATE_VERIFY_FAILED"):
        await connects(server, named)
    fresh = tmp_path / "fresh.pem"
    shutil.copyfile(server.ca_file, fresh)
    fresh.replace(named)
    await connects(server, named)


async def test_one_that_cannot_be_read_is_named(server: TlsRedis, tmp_path: Path) -> None:
    with pytest.raises(LinkError, match=r"nowhere\.pem cannot be read: No such file"):
        await connects(server, tmp_path / "nowhere.pem")


async def test_the_list_is_read_once_for_all_connections(server: TlsRedis, systems: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        await connects(server, server.ca_file)
    assert link._context.cache_info().misses == 1
