"""What the scenarios with Redis and with places count, shown on what is wrong."""

from collections import Counter
from pathlib import Path
from typing import Any, Final

import pytest
from trunkline_client.events import Closed, Resumed

from gateway.store.embedded import EmbeddedValkey
from tests.chaos.redis_faults import flush_figures
from tests.chaos.talker import History
from tests.support.slots_scene import CAP, Census, Scene

SAID: Final = ["one", "two"]


def a_scene(folder: Path) -> Scene:
    """Return one with a gateway that stood still from 10.0 to 14.5, by its own words."""
    words = "fenced g1.0 at 14.500\n2026-01-01 00:00:00 [warning  ] slots_fenced      seconds=4.5\n"
    (folder / "g1.log").write_text(words, "utf-8")
    return Scene(EmbeddedValkey(), folder, Census(0), 3.0, 1.0, started=1)


@pytest.mark.parametrize(
    ("life", "at", "overshoot"),
    [
        ("g1.0", 9.9, 5),  # before it stood still
        ("g1.0", 12.0, 0),
        ("g1.0", 14.9, 0),  # it has half a second to close
        ("g1.0", 15.1, 5),
        ("g1.1", 14.6, 5),  # what it dials when it is back
    ],
)
def test_who_stood_still_is_not_counted_until_it_had_the_time_to_close(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, life: str, at: float, overshoot: int
) -> None:
    made = a_scene(tmp_path)
    made.census.open = Counter({"g2.0": CAP - 5, life: 10})
    monkeypatch.setattr("time.monotonic", lambda: at)
    made.census.note()
    assert made.overshoot() == overshoot
    assert f"worst: {dict(made.census.open)}" in made.story()


def test_what_somebody_froze_is_not_counted(tmp_path: Path) -> None:
    made = a_scene(tmp_path)
    made.census.open = Counter({"g2.0": CAP, "g3.0": 10})
    made.census.frozen.add("g3.0")
    made.census.note()
    assert (made.overshoot(), made.census.highest, made.story()) == (0, CAP + 10, "never above the cap")


def told(**resumed: Any) -> History:
    return History(sent=SAID, items=[("1", "user", "one")], resumed=[(0.0, Resumed(**resumed))], closed=Closed())


@pytest.mark.parametrize(
    ("history", "named"),
    [
        (told(), 0),
        (told(gap={"from": 3, "to": 4}), 1),
        (told(unrestored_items=["i"]), 1),
        (History(sent=SAID, failure="RESUME_REFUSED: the token does not open a session"), 1),
        (History(sent=SAID, failure="CONNECTION_LOST: no gateway answers"), 0),
        (History(sent=SAID, store_gaps=[(1, 2)], closed=Closed()), 1),
    ],
)
def test_a_loss_is_named_or_counts_as_silent(history: History, named: int) -> None:
    whole = History(sent=SAID, items=[("1", "user", "one"), ("2", "user", "two")], closed=Closed())
    found = flush_figures([whole, history])
    assert found == {"sessions": 2, "whole": 1, "named": named, "unnamed": 1 - named}


def test_a_double_is_not_excused_by_a_loss_that_is_named() -> None:
    doubled = History(sent=SAID, items=[("1", "user", "one"), ("2", "user", "one")], store_gaps=[(1, 2)])
    assert flush_figures([doubled])["unnamed"] == 1
