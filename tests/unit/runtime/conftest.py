"""Every test here runs in virtual time, and leaves no task behind."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import pytest

from tests.support.virtual_time import VirtualTimeLoop, others
from tests.unit.runtime.fakes import Observer
from tests.unit.runtime.stage import UNRECOVERED, Stage


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"virtual": VirtualTimeLoop}


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
def observer() -> Observer:
    return Observer()


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    built = Stage()
    yield built
    await built.clear()


@pytest.fixture
async def home() -> AsyncIterator[Stage]:
    built = Stage()
    await built.warm()
    yield built
    await built.clear()


@pytest.fixture
async def away(home: Stage) -> AsyncIterator[Stage]:
    """Another gateway, which sees the same book."""
    built = Stage(book=home.book, sealer=home.sealer, gateway="gateway-2")
    await built.warm()
    yield built
    await built.clear()


@pytest.fixture
def unrecovered(stage: Stage) -> None:
    """Let a lost line be the end of its session."""
    stage.limit(recovery=UNRECOVERED)
