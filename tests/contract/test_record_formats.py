"""What any version has ever stored is read by every later one, and means the same; what a later one stores is refused.

`fixtures/` has sessions as they stood in Redis, sealed, with the resume token that their caller had:

    session_form_1   3147f1d, the first with resume: each payload is the contract's message alone
    session_form_2   96cde4f, the first that another gateway could take over: [2, message, note, opening]

They are never written anew: a new form gets a file of its own.
"""

import json
from base64 import b64decode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from redis.asyncio import Redis
from trunkline.v1 import event_pb2 as event
from trunkline.v1 import session_pb2 as session

from gateway.core import events as out
from gateway.core.errors import Reason, StoreError
from gateway.core.record import Retold, retell
from gateway.rpc.records import RecordForm, message_of
from gateway.rpc.stored import _from_log
from gateway.runtime.ports import LogEntry, SessionKey
from gateway.runtime.resume_tokens import ResumeTokens
from gateway.store.embedded import EmbeddedValkey
from gateway.store.keys import session_keys
from gateway.store.options import RedisOptions
from gateway.store.record import RecordSealer
from gateway.store.redis_store import RedisStore
from gateway.store.sealing_keys import DataKey, SealingKeys
from gateway.store.tokens import SealedTokens
from tests.support.redis_access import SEALING_KEY

FIXTURES: Final = Path(__file__).with_name("fixtures")
FORMS: Final = {form: json.loads((FIXTURES / f"session_form_{form}.json").read_text("utf-8")) for form in (1, 2)}
KEYS: Final = SealingKeys([DataKey("k1", SEALING_KEY)])
EPOCH: Final = 1
# Given with the template of its session, before the epoch.
TOKEN_WITH_TEMPLATE: Final = (
    "AQJrMYlwurVMvXNt6M0ipBvQUF0TL5OpQVn-LhLEpLcKp0Sm_bri3I-Z7q8GmvAm0Ho0Csol2v2kCqdrtHtOBLAEs62qK4H"
    "obpzL-vdnswXRUttevIo"
)
MESSAGE: Final = session.ConverseResponse(
    item_done=event.ItemDone(item_id="item_1", type="message", role="user", text="Hello")
).SerializeToString()
Json = dict[str, Any]


def key_of(stored: Json) -> SessionKey:
    return SessionKey(stored["tenant"], stored["session_id"])


def entries_of(stored: Json) -> list[LogEntry]:
    sealer, entries = RecordSealer(KEYS), []
    for name, fields in stored["log"]:
        seq, _, epoch = name.partition("-")
        entries.append(sealer.open(key_of(stored), int(epoch), int(seq), b64decode(fields["b"])))
    return entries


def meaning(told: Retold) -> Json:
    """What a new owner and its line make of a log."""
    replay, client_events = told.continuity.replay()
    return {
        "items": [each["item"]["id"] for each in replay.items],
        "requests": [each["type"] for each in replay.requests],
        "unrestored": list(replay.unrestored),
        "unconfirmed": sorted(replay.unconfirmed),
        "input_samples": told.input_samples,
        "tokens": [told.usage.input_tokens, told.usage.output_tokens],
        "configuration": replay.configuration,
        "client_events": client_events,
        "caller": told.caller,
        "opened_at_unix_ms": told.opened_at_unix_ms,
        "bye": told.bye,
        "cut_item": told.cut_item,
    }


def refusals(payload: bytes) -> list[StoreError]:
    """Read a payload in each way; return the errors with which it is refused."""
    entry, refusals = LogEntry(1, payload), list[StoreError]()
    for read in (lambda: RecordForm.read(entry), lambda: RecordForm.again(entry), lambda: message_of(payload)):
        with pytest.raises(StoreError) as refusal:
            read()
        refusals.append(refusal.value)
    return refusals


@pytest.fixture
async def server() -> AsyncIterator[str]:
    async with EmbeddedValkey() as server:
        yield server.url


@pytest.fixture(params=FORMS)
async def stored(request: pytest.FixtureRequest, server: str) -> Json:
    """One of the sessions, as it stood in Redis."""
    stored: Json = FORMS[request.param]
    keys = session_keys(key_of(stored))
    async with Redis.from_url(server) as raw:
        await raw.hset(keys.meta, mapping=stored["meta"])
        for name, fields in stored["log"]:
            await raw.xadd(keys.log, {**fields, "b": b64decode(fields["b"])}, id=name)
    return stored


# Forms that were written.


async def test_a_stored_session_is_claimed_and_goes_on(server: str, stored: Json) -> None:
    key, entries = key_of(stored), entries_of(stored)
    async with RedisStore(RedisOptions(url=server), KEYS) as store:
        claimed = await store.claim(key, EPOCH, 2, [out.EpochStart(EPOCH, 1)])
        assert claimed is not None
        assert list(claimed.entries) == entries
        assert (claimed.seq, claimed.cseq) == (len(entries), int(stored["meta"]["cseq"]))
        one_more = LogEntry(claimed.seq + 1, b"one more", claimed.cseq + 1)
        await store.append(key, claimed.epoch, [one_more], own_from=claimed.seq + 1)
        assert await store.read(key) == [*entries, one_more]


@pytest.mark.parametrize("form", FORMS)
def test_each_entry_says_what_it_said(form: int) -> None:
    records = [RecordForm.read(entry) for entry in entries_of(FORMS[form])]
    said = [[type(each.event).__name__ if each.event else "", len(each.note.requests)] for each in records]
    assert said == FORMS[form]["events"]
    assert [each.seq for each in records] == list(range(1, len(records) + 1))


@pytest.mark.parametrize("form", FORMS)
def test_each_entry_comes_to_the_caller_as_it_was(form: int) -> None:
    for entry in entries_of(FORMS[form]):
        again = RecordForm.again(entry).event
        assert isinstance(again, out.Stored)
        assert session.ConverseResponse.FromString(again.message) == message_of(entry.payload)


@pytest.mark.parametrize("end", FORMS[2]["told"], ids=lambda end: f"up to {end}")
def test_a_log_becomes_the_same_conversation(end: str) -> None:
    """At its end, and where a call, a spoken turn or an answer is owed."""
    records = [RecordForm.read(entry) for entry in entries_of(FORMS[2])[: int(end)]]
    told = retell(records, "transcript", "item_tl_new_", out.OutputPosition())
    assert told is not None
    found, wanted = meaning(told), FORMS[2]["told"][end]
    assert {name: found[name] for name in wanted} == wanted


def test_a_refused_control_keeps_the_name_that_its_caller_gave() -> None:
    records = [RecordForm.read(entry) for entry in entries_of(FORMS[2])]
    (error,) = (each.event for each in records if isinstance(each.event, out.ErrorEvent))
    assert error.event_id == "mine-1"


def test_a_log_without_an_opening_is_nobody_elses_to_go_on_with() -> None:
    records = [RecordForm.read(entry) for entry in entries_of(FORMS[1])]
    assert retell(records, "transcript", "item_tl_new_", out.OutputPosition()) is None


@pytest.mark.parametrize("form", FORMS)
def test_a_stored_session_is_shown_to_its_caller(form: int) -> None:
    shown = _from_log(entries_of(FORMS[form]), FORMS[form]["session_id"], "dev")
    assert shown is not None
    assert (shown.correlation_id, dict(shown.metadata)) == ("call-17", {"ticket": "17"})
    assert [each.text for each in shown.items][:2] == ["Is anybody there?", "I am here."]
    assert shown.seq == len(FORMS[form]["log"])


def test_resume_tokens_with_a_template_open_their_sessions() -> None:
    token = ResumeTokens(SealedTokens(KEYS)).read(TOKEN_WITH_TEMPLATE)
    assert token is not None
    assert (token.session_id, token.tenant, token.caller) == (FORMS[2]["session_id"], "dev", "dev")
    assert (token.template, token.epoch, token.number) == ("default", EPOCH, 1)


# Forms that nobody has written yet.


@pytest.mark.parametrize(
    "later",
    [
        [3, MESSAGE, None, None],
        [3, MESSAGE, None, None, "more"],
        [3, MESSAGE, None, None, "more", {"and": "more"}],
        [3, MESSAGE, None, None, 1, 2, 3],
        [3, MESSAGE, ["a note of another shape"], None],
        [3, {"another": "message"}, None, None],
    ],
    ids=["as now", "one more", "two more", "three more", "another note", "another message"],
)
def test_a_later_version_is_left_to_a_gateway_that_knows_it(later: list[object]) -> None:
    for refusal in refusals(msgspec.msgpack.encode(later)):
        assert "version 3" in refusal.message
        assert refusal.reason is Reason.STORE_UNAVAILABLE
        assert refusal.retry_after_seconds


@pytest.mark.parametrize("payload", [b"garbage", msgspec.msgpack.encode([2, b"garbage", None, None])])
def test_what_is_no_record_is_refused_for_good(payload: bytes) -> None:
    assert {each.reason for each in refusals(payload)} == {Reason.INTERNAL}


def test_what_a_later_gateway_adds_to_a_note_or_an_opening_is_left_aside() -> None:
    note, opening = {"input_samples": 5, "later": [1]}, {"template": "default", "session": {}, "later": "more"}
    record = RecordForm.read(LogEntry(1, msgspec.msgpack.encode([2, MESSAGE, note, opening])))
    assert record.note.input_samples == 5
    assert record.opening is not None
    assert record.opening.template == "default"


def test_an_event_of_a_later_kind_changes_nothing() -> None:
    field_99 = b"\x9a\x06\x00"
    record = RecordForm.read(LogEntry(1, msgspec.msgpack.encode([2, field_99, None, None])))
    assert record.event is None


def test_a_status_of_a_later_gateway_is_read() -> None:
    status_99 = b"\x10\x63"
    done = event.ResponseDone.FromString(status_99)
    message = session.ConverseResponse(response_done=done).SerializeToString()
    record = RecordForm.read(LogEntry(1, msgspec.msgpack.encode([2, message, None, None])))
    assert isinstance(record.event, out.ResponseDone)
