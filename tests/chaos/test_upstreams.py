"""What the scenarios about lines measure is measured right."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

from tests.chaos.rotations import Lines, Turns
from tests.chaos.upstreams import most_in_a_second
from tests.support.simulated import SimulatedProvider, simulated_provider
from tests.support.waiting import eventually_sync


def test_the_most_in_a_second_are_found_wherever_it_begins() -> None:
    assert most_in_a_second([]) == 0
    assert most_in_a_second([0.0, 1.0, 2.0]) == 1
    assert most_in_a_second([5.9, 0.0, 0.9, 5.2, 5.1, 6.05]) == 4


def test_a_change_of_line_is_felt_by_the_turns_beside_it_alone() -> None:
    turns = Turns([(0.0, 0.01), (1.0, 0.01), (2.0, 0.02), (3.0, 0.5), (4.0, 0.01)], rotated_at=[2.5])
    assert turns.split() == ([0.5], [0.01, 0.01, 0.01])
    assert Turns([(0.0, 0.7), (1.0, 0.01)], rotated_at=[0.5]).split() == ([0.7], [])


async def test_lines_overlap_where_the_next_one_was_open_before_the_last_one_closed() -> None:
    provider = _Told(
        _line("a", 5.0, "open"),
        _line("b", 1.0, "open"),
        _line("c", 0.0, "opening", "other"),
    )
    lines = Lines(provider)
    await lines.look()
    provider.moves(10.0, _line("a", 5.5, "closed"), _line("b", 8.0, "closed"), _line("d", 2.0, "open"))
    await lines.look()
    # b was opened at 4, a closed at 5.5; d was opened at 13, b closed at 12.
    assert lines.overlaps("tag-x") == [True, False]
    assert lines.overlaps("tag-other") == []


def _line(name: str, age_seconds: float, state: str, tag: str = "x") -> dict[str, Any]:
    return {"id": name, "age_seconds": age_seconds, "state": state, "session_tags": [f"tag-{tag}"]}


class _Told(SimulatedProvider):
    """What a provider would tell."""

    def __init__(self, *lines: dict[str, Any]) -> None:
        super().__init__(Path())
        self._time, self._lines = 5.0, lines

    def moves(self, seconds: float, *lines: dict[str, Any]) -> None:
        self._time, self._lines = self._time + seconds, lines

    def observe(self) -> dict[str, Any]:
        return {"time": self._time, "connections": list(self._lines)}


@contextlib.contextmanager
def _dialled(provider: SimulatedProvider) -> Iterator[ClientConnection]:
    headers = {"Authorization": "Bearer any"}
    with connect(f"{provider.url}?model=gpt-realtime", additional_headers=headers, proxy=None) as line:
        line.recv(timeout=5)
        yield line


@pytest.fixture
def provider() -> Iterator[SimulatedProvider]:
    with tempfile.TemporaryDirectory(prefix="tk", dir="/tmp") as folder, simulated_provider(Path(folder)) as running:
        yield running


def test_the_line_of_one_session_is_cut_and_no_other(provider: SimulatedProvider) -> None:
    with _dialled(provider), _dialled(provider):
        first, second = (each["session_id"] for each in provider.observe()["connections"])
        assert provider.close(session_id="sess_nobody") == 0
        assert provider.close(session_id=second) == 1

        def still_open() -> list[str]:
            told = provider.observe()["connections"]
            return [each["session_id"] for each in told if each["state"] == "open"]

        eventually_sync(lambda: still_open() == [first], "only the other line is open")
