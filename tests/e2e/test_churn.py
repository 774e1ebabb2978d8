"""However sessions live and end, a gateway process is afterwards as it was (`python -m tests.bench.churn` for long)."""

import os
from typing import Final

import pytest

from tests.bench.churn import churned
from tests.support.processes import on_linux
from tests.support.slots import figures

SESSIONS: Final = 600
PER_SECOND: Final = 10.0


@on_linux
@pytest.mark.heavy
@pytest.mark.timeout(280)
async def test_six_hundred_sessions_of_every_kind_leave_tasks_files_objects_and_memory_as_they_were() -> None:
    report = await churned(SESSIONS, PER_SECOND, looks=2)
    first, last = report.looks[0].held, report.looks[-1].held
    figures(
        "churn",
        n=report.looks[-1].sessions,
        seconds=round(report.looks[-1].seconds),
        kinds=report.by_kind,
        tasks=(first.tasks.total(), last.tasks.total()),
        files=(first.files.total(), last.files.total()),
        sockets=(first.sockets, last.sockets),
        objects=(first.objects, last.objects),
        resident_kib=(first.resident_kib, last.resident_kib),
        load=round(os.getloadavg()[0], 2),
    )
    assert report.broken() == []
