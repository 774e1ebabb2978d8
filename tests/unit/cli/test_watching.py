"""What is known of a gateway between two looks."""

import pytest
from trunkline.v1.admin_pb2 import Pool, WatchResponse

from gateway.cli.failure import RefusedError
from gateway.cli.watching import RECENT_SECONDS, HitRatio, Watched


def taken(*counts: tuple[float, dict[str, int]]) -> HitRatio:
    hits = HitRatio()
    for now, acquires in counts:
        hits.take(acquires, now)
    return hits


def test_what_was_before_the_watching_does_not_count() -> None:
    hits = taken((0, {"hit": 1000}))
    assert (hits.since_start, hits.lately) == (None, None)
    hits.take({"hit": 1000, "wait": 1}, 1)
    assert (hits.since_start, hits.lately) == (0, 0)
    hits.take({"hit": 1003, "wait": 1}, 2)
    assert (hits.since_start, hits.lately) == (0.75, 0.75)


def test_what_was_dialled_for_a_caller_is_neither_hit_nor_miss() -> None:
    hits = taken((0, {}), (1, {"hit": 3, "dialled": 9, "shed": 1}))
    assert hits.since_start == 0.75


def test_now_is_the_last_seconds() -> None:
    hits = taken((0, {}), (1, {"wait": 4}))
    for second in range(2, 30):
        hits.take({"wait": 4, "hit": second}, second)
    assert hits.since_start == 29 / 33
    assert hits.lately == 1
    quiet = taken((0, {}), (1, {"hit": 4}), (2 + RECENT_SECONDS, {"hit": 4}))
    assert quiet.since_start == 1
    assert quiet.lately is None


def test_a_gateway_that_has_begun_anew_counts_from_nothing() -> None:
    hits = taken((0, {"hit": 90, "wait": 10}), (1, {"wait": 2, "hit": 2}))
    assert hits.since_start == 0.5


@pytest.mark.parametrize(("now", "silent"), [(1.0, False), (2.9, False), (3.1, True)])
def test_silence_is_noticed_after_a_while(now: float, silent: bool) -> None:  # noqa: FBT001 - a table's column
    watched = Watched("a", began_at=0)
    watched.take(WatchResponse(), 0)
    assert watched.is_silent(now, patience_seconds=3) is silent


def test_a_failure_is_silence_at_once_until_the_next_news() -> None:
    watched = Watched("a", began_at=0)
    watched.take(WatchResponse(), 1)
    watched.failure = RefusedError("CONNECTION_LOST", "gone")
    assert watched.is_silent(1, patience_seconds=3)
    assert watched.silent_seconds(5) == 4
    watched.take(WatchResponse(), 6)
    assert not watched.is_silent(6, patience_seconds=3)


def test_pools_of_one_name_are_told_apart() -> None:
    watched = Watched("a", began_at=0)
    ours, theirs = Pool(name="x", line_class="openai m main for acme"), Pool(name="x", line_class="openai m main for b")
    for hits in (0, 3):
        ours.acquires["hit"], theirs.acquires["wait"] = hits, hits
        watched.take(WatchResponse(pools=[ours, theirs]), hits)
    assert (watched.ratio(ours).since_start, watched.ratio(theirs).since_start) == (1, 0)
