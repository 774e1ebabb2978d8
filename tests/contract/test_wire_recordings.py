"""The gateway carries every recorded message of every provider: nothing is lost, nothing is invented.

The recordings stand beside the repository; without them these tests are skipped.
"""

import json
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
import yaml

from gateway.core import events as out
from gateway.core import realtime as wire
from gateway.core.continuity import Continuity
from gateway.core.conversation import Conversation
from gateway.core.errors import Reason, UpstreamClosedError
from gateway.core.turns import TurnTaking
from gateway.runtime.relay import Relay
from gateway.runtime.teller import RAW_PART_BYTES

FOLDER = Path(__file__).parents[2].parent / "shared" / "recordings"
FILES = sorted(FOLDER.glob("*.yaml"))
SESSIONS = pytest.mark.parametrize(
    "file",
    FILES or [pytest.param(None, marks=pytest.mark.skip(reason=f"no recordings at {FOLDER}"))],
    ids=lambda each: each.stem if each else "none",
)

Json = dict[str, Any]


def messages(file: Path, direction: str) -> list[Json]:
    interactions = yaml.safe_load(file.read_text("utf-8"))["interactions"]
    return [each["data"] for each in interactions if each["direction"] == direction]


def provider(file: Path) -> str:
    return file.stem.split("--")[0]


def spellings(message: Json) -> list[bytes]:
    """One message as different servers would write it: compact, spaced, escaped."""
    return [
        json.dumps(message, separators=(",", ":"), ensure_ascii=False).encode(),
        json.dumps(message, ensure_ascii=False, indent=1).encode(),
        json.dumps(message).encode(),
    ]


def carries(value: object, sent: object) -> bool:
    """Whether a decoded value says what was sent, as far as it is named, and has defaults for what was not."""
    if isinstance(value, msgspec.Raw):
        return bool(msgspec.json.decode(value) == sent)
    if isinstance(value, msgspec.Struct):
        assert isinstance(sent, dict)
        fields = {each.name: each for each in msgspec.structs.fields(value)}
        return all(
            carries(getattr(value, name), sent[name]) if name in sent else getattr(value, name) == field.default
            for name, field in fields.items()
        )
    if isinstance(value, Sequence) and not isinstance(value, str):
        assert isinstance(sent, list)
        return len(value) == len(sent) and all(map(carries, value, sent))
    return value == sent


@SESSIONS
def test_a_typed_form_carries_exactly_what_was_sent(file: Path) -> None:
    for message in messages(file, "received"):
        for frame in spellings(message):
            event = wire.decode(frame)
            if event is None:
                known = message.get("type") in wire.TYPED_EVENTS
                assert not known, message
            else:
                assert event.__struct_config__.tag == message["type"]
                assert carries(event, message), message


# What a caller is told of an event, worked out here from the JSON alone.


def text_of(item: Json) -> str:
    return "".join(part.get("text") or part.get("transcript") or "" for part in item.get("content", ()))


def usage_of(response: Json) -> out.Usage:
    usage = response.get("usage") or {}
    given = usage.get("input_token_details") or {}
    made = usage.get("output_token_details") or {}
    cached = given.get("cached_tokens_details") or {}
    return out.Usage(
        input_tokens=usage.get("input_tokens", 0),
        output_tokens=usage.get("output_tokens", 0),
        input_text_tokens=given.get("text_tokens", 0),
        input_audio_tokens=given.get("audio_tokens", 0),
        input_image_tokens=given.get("image_tokens", 0),
        input_cached_tokens=given.get("cached_tokens", 0),
        output_text_tokens=made.get("text_tokens", 0),
        output_audio_tokens=made.get("audio_tokens", 0),
        output_reasoning_tokens=made.get("reasoning_tokens", 0),
        input_cached_text_tokens=cached.get("text_tokens", 0),
        input_cached_audio_tokens=cached.get("audio_tokens", 0),
        input_cached_image_tokens=cached.get("image_tokens", 0),
    )


def ended(response: Json) -> out.ResponseDone:
    """Without times: they are the gateway's own."""
    given = response.get("status_details")
    details = given if isinstance(given, dict) else {}
    return out.ResponseDone(
        response_id=response["id"],
        status=response["status"],
        status_reason=details.get("reason") or "",
        error_code=(details.get("error") or {}).get("code") or "",
        usage=usage_of(response),
        speech_stopped_to_first_audio_ms=0,
        created_to_first_audio_ms=0,
        created_to_done_ms=0,
        metadata=response.get("metadata") or {},
    )


TRANSCRIPTION = "conversation.item.input_audio_transcription."
TOLD: Mapping[str, Callable[[Json], object]] = {
    "session.updated": lambda m: out.SessionUpdated(json.dumps(m["session"], separators=(",", ":"))),
    "conversation.item.done": lambda m: out.ItemDone(
        m["item"]["id"],
        m["item"]["type"],
        m["item"].get("role", ""),
        m["item"].get("output") or text_of(m["item"]),
        m["item"].get("call_id", ""),
        m["item"].get("name", ""),
    ),
    "conversation.item.deleted": lambda m: out.ItemDeleted(m["item_id"]),
    "conversation.item.truncated": lambda m: out.ItemTruncated(m["item_id"], m["audio_end_ms"]),
    f"{TRANSCRIPTION}delta": lambda m: out.UserTranscriptDelta(m["delta"], m["item_id"]),
    f"{TRANSCRIPTION}completed": lambda m: out.UserTranscript(m["transcript"], m["item_id"]),
    f"{TRANSCRIPTION}failed": lambda m: out.UserTranscript("", m["item_id"], m["error"]["code"]),
    "input_audio_buffer.committed": lambda m: out.InputCommitted(m["item_id"]),
    "input_audio_buffer.speech_started": lambda m: out.SpeechStarted(m["item_id"], m["audio_start_ms"]),
    "input_audio_buffer.speech_stopped": lambda m: out.SpeechStopped(m["item_id"], m["audio_end_ms"]),
    "response.created": lambda m: out.ResponseCreated(m["response"]["id"], m["response"].get("metadata") or {}),
    "response.done": lambda m: ended(m["response"]),
    "response.output_text.delta": lambda m: out.TextDelta(m["delta"], m["response_id"], m["item_id"]),
    "response.output_audio_transcript.delta": lambda m: out.TranscriptDelta(m["delta"], m["response_id"], m["item_id"]),
    "response.function_call_arguments.done": lambda m: out.ToolCall(
        m["call_id"], m["name"], m["arguments"], m["response_id"], m["item_id"]
    ),
}


def expected(sent: Sequence[Json], spoken_by: str) -> list[object]:
    """What the caller is told, in order."""
    told: list[object] = []
    heard_bytes: dict[str, int] = {}
    for message in sent:
        kind = str(message.get("type"))
        if kind == "session.created":  # the line's own beginning
            continue
        if kind == "response.output_audio.delta":
            data, item_id = b64decode(message["delta"]), message["item_id"]
            position = heard_bytes.get(item_id, 0) // 2
            heard_bytes[item_id] = heard_bytes.get(item_id, 0) + len(data)
            told.append(out.OutputAudio(data, message["response_id"], item_id, position))
        elif kind == "conversation.item.done":
            done = TOLD[kind](message)
            assert isinstance(done, out.ItemDone)
            told.append(msgspec.structs.replace(done, audio_ms=heard_bytes.get(done.item_id, 0) // 48))
        elif kind in TOLD:
            told.append(TOLD[kind](message))
        else:
            told.append(out.Raw(compact(message)))
    return told


def compact(message: Json) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode()


def without_times(event: object) -> object:
    if not isinstance(event, out.ResponseDone):
        return event
    none = {name: 0 for name in event.__struct_fields__ if name.endswith("_ms")}
    return msgspec.structs.replace(event, **none)


class Recorded:
    """A line that says what was recorded, and then ends."""

    def __init__(self, frames: Sequence[bytes]) -> None:
        self._frames = iter(frames)

    async def receive(self) -> bytes:
        for frame in self._frames:
            return frame
        raise UpstreamClosedError(Reason.UPSTREAM_CLOSED, "the recording is over")


class Heard:
    """Takes the place of everything that stands around a relay but its line."""

    name = "pool"

    def __init__(self) -> None:
        self.events: list[object] = []
        self.live = self.events.append

    def control(self, event: object, note: object = None) -> None:
        self.events.append(event)

    def relayed(self, direction: str, seconds: float) -> None:
        """Sampled times; nothing a caller sees."""

    def first_audio(self, pool: str, since: str, seconds: float) -> None:
        """The same."""

    def first_audible(self, pool: str, seconds: float) -> None:
        """The same."""

    def answered(self, done: object) -> None:
        """The same."""


async def carried(frames: Sequence[bytes]) -> list[object]:
    """What comes out of a relay when this goes in."""
    heard = Heard()
    parts = cast("Any", heard)
    line = cast("Any", Recorded(frames))
    conversation = Conversation(TurnTaking(transcribes=True))
    relay = Relay(parts, conversation, Continuity({}), parts, parts, parts)
    with pytest.raises(UpstreamClosedError):
        await relay.downlink(line)
    return heard.events


@SESSIONS
async def test_a_caller_is_told_everything_and_nothing_else(file: Path) -> None:
    sent = messages(file, "received")
    told = await carried(list(map(compact, sent)))
    assert list(map(without_times, told)) == expected(sent, provider(file))


@SESSIONS
async def test_a_large_message_comes_in_parts_that_are_the_message(file: Path) -> None:
    for message in messages(file, "received"):
        if "type" in message and message["type"] not in wire.TYPED_EVENTS:
            large = compact({**message, "padding": "x" * RAW_PART_BYTES})
            pieces = [each for each in await carried([large]) if isinstance(each, out.Raw)]
            assert b"".join(each.json for each in pieces) == large
            assert [(each.part, each.parts) for each in pieces] == [(n, len(pieces)) for n in range(len(pieces))]
            assert len(pieces) == 2
            return


@SESSIONS
def test_what_callers_sent_goes_up_as_it_was(file: Path) -> None:
    conversation = Conversation(TurnTaking())
    for number, message in enumerate(messages(file, "sent"), start=1):
        if message.get("type") not in wire.CLIENT_EVENTS:
            continue
        gone = json.loads(wire.encode(conversation.stamp(message, number)))
        assert {**gone, "event_id": None} == {**message, "event_id": None}
        assert gone["event_id"]
        if message["type"] == "input_audio_buffer.append":
            assert json.loads(wire.encode_append(b64decode(message["audio"]))) == message


def test_all_providers_are_there() -> None:
    if not FILES:
        pytest.skip(f"no recordings at {FOLDER}")
    assert {provider(file) for file in FILES} == {"azure", "azure_voice_live", "google", "openai", "xai"}
