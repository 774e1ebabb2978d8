"""No task is forgotten, none dies unseen, all end with their scope."""

import asyncio

import pytest
from structlog.testing import capture_logs

from gateway.runtime.tasks import TaskScope
from tests.support.virtual_time import now, others


async def sleep_and_spawn(scope: TaskScope, done: list[str]) -> None:
    await asyncio.sleep(1.0)
    scope.spawn(finish(done), "second")


async def finish(done: list[str]) -> None:
    await asyncio.sleep(1.0)
    done.append("second")


async def test_a_task_bears_its_scopes_name() -> None:
    scope = TaskScope("pool:default")
    task = scope.spawn(asyncio.sleep(0), "dial")
    assert task.get_name() == "pool:default:dial"
    assert len(scope) == 1
    await scope.wait(1.0)


async def test_an_empty_scope_has_ended() -> None:
    assert await TaskScope("none").wait(1.0)


async def test_a_scope_waits_for_its_tasks() -> None:
    scope = TaskScope("some")
    scope.spawn(asyncio.sleep(1.0), "one")
    began = now()
    assert await scope.wait(5.0)
    assert now() - began == 1.0
    assert len(scope) == 0


async def test_a_wait_is_bounded() -> None:
    scope = TaskScope("some")
    scope.spawn(asyncio.sleep(60.0), "one")
    began = now()
    assert not await scope.wait(5.0)
    assert now() - began == 5.0
    await scope.cancel(1.0)
    assert len(scope) == 0


async def test_a_scope_waits_also_for_tasks_that_its_tasks_started() -> None:
    scope, done = TaskScope("some"), list[str]()
    scope.spawn(sleep_and_spawn(scope, done), "first")
    assert await scope.wait(5.0)
    assert done == ["second"]


async def test_the_bound_holds_for_all_that_follow_together() -> None:
    scope, done = TaskScope("some"), list[str]()
    scope.spawn(sleep_and_spawn(scope, done), "first")
    began = now()
    assert not await scope.wait(1.5)
    assert now() - began == 1.5
    await scope.cancel(1.0)


async def test_a_failure_is_seen_and_does_not_end_the_others() -> None:
    async def fail() -> None:
        raise RuntimeError("a fault")

    scope = TaskScope("some")
    other = scope.spawn(asyncio.sleep(1.0), "other")
    with capture_logs() as logs:
        task = scope.spawn(fail(), "bad")
        assert await scope.wait(5.0)
    assert [(log["event"], log["task"], log["error"]) for log in logs] == [("task_failed", "some:bad", "RuntimeError")]
    assert other.exception() is None
    with pytest.raises(RuntimeError):
        task.result()


async def test_cancelled_tasks_are_waited_for() -> None:
    cleaned: list[str] = []

    async def clean_up() -> None:
        try:
            await asyncio.sleep(60.0)
        finally:
            await asyncio.sleep(1.0)
            cleaned.append("up")

    scope = TaskScope("some")
    scope.spawn(clean_up(), "one")
    await asyncio.sleep(0)
    await scope.cancel(5.0)
    assert cleaned == ["up"]
    assert await others() == set()
