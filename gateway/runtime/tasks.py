"""Background tasks with an owner: none is forgotten, none dies unseen, all end with their scope."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import structlog

T = TypeVar("T")
_log = structlog.get_logger(__name__)


class TaskScope:
    """Owns tasks that outlive the call which started them. One that fails does not end the others."""

    def __init__(self, name: str) -> None:
        """Begin empty; `name` stands before the names of the tasks."""
        self._name = name
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        """Return how many tasks run."""
        return len(self._tasks)

    def spawn(self, coroutine: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Start a task of this scope."""
        task = asyncio.get_running_loop().create_task(coroutine, name=f"{self._name}:{name}")
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    async def wait(self, timeout_seconds: float) -> bool:
        """Wait until every task has ended by itself; return whether that came in time."""
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + timeout_seconds
        # A task may have started another one before it ended.
        while self._tasks and (left := ends_at - loop.time()) > 0:
            await asyncio.wait(self._tasks, timeout=left)
        return not self._tasks

    async def cancel(self, timeout_seconds: float) -> None:
        """Cancel what still runs and wait for its end, within bounds."""
        for task in self._tasks:
            task.cancel()
        await self.wait(timeout_seconds)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("task_failed", task=task.get_name(), error=type(error).__name__, exc_info=error)
