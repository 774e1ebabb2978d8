"""A process that stood still is somebody new, and says so before anything else."""

from structlog.testing import capture_logs

from gateway.store.presence import Presence


def test_a_gap_that_is_too_long_fences_once_and_renames() -> None:
    presence, seen = Presence(13.5), list[str]()
    presence.on_fenced = lambda: seen.append(presence.gateway_id)
    before = presence.gateway_id
    with capture_logs() as logged:
        assert [presence.look(now) for now in (0.0, 13.5, 27.0, 40.6, 40.7)] == [False, False, False, True, False]
    # The lines are closed while we still go by the name under which they were dialled.
    assert seen == [before]
    assert presence.gateway_id != before
    assert [(line["event"], line["seconds"]) for line in logged] == [("slots_fenced", 13.6)]


def test_two_processes_never_share_a_name() -> None:
    assert len({Presence(1).gateway_id for _ in range(100)}) == 100
