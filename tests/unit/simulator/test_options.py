"""Options are refused where they are made."""

from typing import Any

import pytest

from gateway.simulator import SimulatorOptions


@pytest.mark.parametrize(
    "fields",
    [{"port": 0}, {"port": 70_000}, {"connect_delay_ms": -1}, {"expire_after_seconds": 0}, {"speed": 0}],
    ids=lambda each: next(iter(each)),
)
def test_senseless_options_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(fields))):
        SimulatorOptions(**{"port": 20_000, **fields})
