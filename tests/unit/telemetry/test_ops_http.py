"""Addresses of the ops server are refused where they are written."""

import pytest

from gateway.telemetry.ops_http import OpsOptions


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("127.0.0.1:9464", ("127.0.0.1", 9464)),
        ("[::1]:9464", ("::1", 9464)),
        ("10.0.0.7:1", ("10.0.0.7", 1)),
        (":65535", (None, 65535)),
        ("localhost:9464", ("localhost", 9464)),
    ],
)
def test_an_address_has_a_host_and_a_port(address: str, parts: tuple[str | None, int]) -> None:
    assert OpsOptions(address).host_and_port == parts


@pytest.mark.parametrize("address", ["", "9464", "host", "host:", "host:0", "host:x", "h:65536"])
def test_an_address_without_a_port_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="port"):
        OpsOptions(address)
