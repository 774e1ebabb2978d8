"""The exchange is tested in virtual time; what reads files needs threads, and a real loop."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import pytest

from tests.support.virtual_time import VirtualTimeLoop, others
from tests.unit.app.board import Board


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Return the loop of the tests of one file."""
    if item.path.name.startswith("test_exchange"):
        return {"virtual": VirtualTimeLoop}
    return {"real": asyncio.new_event_loop}


@pytest.fixture(autouse=True)
async def _no_task_is_left() -> AsyncIterator[None]:
    yield
    left = await others()
    names = sorted(task.get_name() for task in left)
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    assert not names, f"tasks are left: {names}"


@pytest.fixture
async def board() -> AsyncIterator[Board]:
    built = Board()
    yield built
    await built.clear()
