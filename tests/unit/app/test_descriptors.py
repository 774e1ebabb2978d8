"""Callers never take the descriptors that lines need, nor lines all of the callers'."""

import resource

import pytest

from gateway.app import descriptors
from gateway.app.descriptors import OWN, callers_connections


@pytest.mark.parametrize(
    ("hard", "wanted", "lines", "connections"),
    [
        (100_000, 4096, 100, 4096),
        (resource.RLIM_INFINITY, 4096, 100, 4096),
        (1024, 4096, 64, 1024 - OWN - 64),
        (1024, 4096, 2000, (1024 - OWN) // 2),
        (OWN, 4096, 64, 1),
    ],
)
def test_what_the_system_allows_is_shared(
    hard: int, wanted: int, lines: int, connections: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[tuple[int, int]]()
    monkeypatch.setattr(resource, "getrlimit", lambda _: (min(OWN, 1024), hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: asked.append(limits))
    assert callers_connections(wanted, lines) == max(0, connections)
    assert all(soft <= hard or hard == resource.RLIM_INFINITY for soft, _ in asked)
    assert descriptors.OWN == OWN
