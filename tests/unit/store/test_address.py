"""A Redis URL is read as written, and what cannot be read is refused without a word of it."""

import pytest

from gateway.store.address import RedisAddress, Topology, parse

SINGLE, SENTINEL, CLUSTER = Topology.SINGLE, Topology.SENTINEL, Topology.CLUSTER


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://h", RedisAddress(SINGLE, False, (("h", 6379),))),
        ("rediss://u:p%40@h:1/2", RedisAddress(SINGLE, True, (("h", 1),), "", 2, "u", "p@")),
        ("redis://u:p/#?@@h", RedisAddress(SINGLE, False, (("h", 6379),), "", 0, "u", "p/#?@")),
        ("unix:///run/a@b", RedisAddress(SINGLE, tls=False, path="/run/a@b", is_local=True)),
        ("unix://:p@/s?db=3", RedisAddress(SINGLE, False, (), "", 3, None, "p", "/s", True)),
        ("redis+sentinel://a,b:1/trunks", RedisAddress(SENTINEL, False, (("a", 26379), ("b", 1)), "trunks")),
        (
            "rediss+sentinel://u:p@a:5/trunks/3",
            RedisAddress(SENTINEL, True, (("a", 5),), "trunks", 3, "u", "p"),
        ),
        ("redis+cluster://u@[::1]:7000,b", RedisAddress(CLUSTER, False, (("::1", 7000), ("b", 6379)), username="u")),
        ("rediss+cluster://:p@a", RedisAddress(CLUSTER, True, (("a", 6379),), password="p")),
    ],
)
def test_a_url_is_read_as_written(url: str, address: RedisAddress) -> None:
    assert parse(url) == address


def test_an_address_shows_no_password() -> None:
    assert "hunter2" not in repr(parse("redis+cluster://u:hunter2@a"))


@pytest.mark.parametrize(
    ("url", "is_local"),
    [
        ("redis://127.0.0.1", True),
        ("redis://10.0.0.1", False),
        ("redis+cluster://localhost,[::1]:7", True),
        ("redis+sentinel://localhost,sentinel.example/trunks", False),
    ],
)
def test_it_is_known_whether_a_packet_leaves_the_machine(url: str, is_local: object) -> None:
    assert parse(url).is_local is is_local
