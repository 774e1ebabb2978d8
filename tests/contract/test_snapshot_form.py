"""A snapshot in the stored form that gateways really write: what comes back is what went in."""

from gateway.core import events as out
from gateway.core.item_book import Item, Written
from gateway.core.record import Note, Opening, Snapshot, retell
from gateway.rpc.records import RecordForm
from gateway.runtime.ports import LogEntry

BODY = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Weather?"}]}
WRITTEN = Written(
    configuration={"voice": "marin", "audio": {"input": {"turn_detection": None}}},
    items=(("u", Item(BODY)), ("a", Item(None, 1500))),
    forgotten=("old",),
    told=("u",),
)
SNAPSHOT = Snapshot(
    opening=Opening("default", {"voice": "marin"}, metadata={"a": "b"}, moves=True),
    opened_at_unix_ms=1_700_000_000_123,
    caller="bot",
    conversation=WRITTEN,
    usage=out.Usage(input_tokens=7, output_tokens=2),
    input_samples=48_000,
)


def test_it_comes_back_and_is_the_whole_beginning_of_a_log() -> None:
    payload = RecordForm.encode(out.Outgoing(out.ControlTaken(0), seq=401), Note(snapshot=SNAPSHOT))
    record = RecordForm.read(LogEntry(401, payload, 0))
    assert record.note.snapshot == SNAPSHOT
    retold = retell([record], "transcript", "item_tl_2_", out.OutputPosition())
    assert retold is not None
    assert (retold.caller, retold.opened_at_unix_ms, retold.input_samples) == ("bot", 1_700_000_000_123, 48_000)
    assert (retold.usage, retold.opening) == (SNAPSHOT.usage, SNAPSHOT.opening)
    told, _ = retold.continuity.replay()
    assert told.configuration == WRITTEN.configuration
    assert [event["item"]["id"] for event in told.items] == ["u"]
    assert told.unrestored == ("old", "a")


def test_to_the_caller_it_is_a_number_without_words() -> None:
    payload = RecordForm.encode(out.Outgoing(out.ControlTaken(0), seq=401), Note(snapshot=SNAPSHOT))
    again = RecordForm.again(LogEntry(401, payload, 0))
    assert again.seq == 401
    assert isinstance(again.event, out.Stored)
    assert b"Weather" not in again.event.message
