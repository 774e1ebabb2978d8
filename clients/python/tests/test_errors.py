"""The tree of errors, and how a status becomes one of them."""

import pickle
import re
import traceback
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from grpc import StatusCode
from grpc_status import rpc_status
from trunkline.v1 import errors_pb2
from trunkline.v1.errors_pb2 import Error, ErrorReason, PoolNumbers

from trunkline_client import (
    CallerError,
    CapacityError,
    ConnectionLost,
    GatewayError,
    TrunklineError,
    errors,
)
from trunkline_client._status import error_of
from trunkline_client.errors import REASONS, Family, as_exception

from .scripts import rich_status

PROTO = Path(errors_pb2.__file__).with_name("errors.proto")
# `// UNAVAILABLE, retryable. Come back later …` above `ERROR_REASON_POOL_PAUSED = 17;`
ENTRY = re.compile(r"// (\w+), (not )?retryable\. ([^\n]*)\n\s*ERROR_REASON_(\w+) = \d+;")
LOCAL = {"CONNECTION_LOST", "TIMED_OUT", "CANCELLED"}


class Ended:
    """A call that has ended with a status."""

    def __init__(self, code: StatusCode, message: str = "", trailers: tuple[tuple[str, bytes], ...] = ()) -> None:
        self._code, self._message, self._trailers = code, message, trailers

    def code(self) -> StatusCode:
        return self._code

    def details(self) -> str:
        return self._message

    def trailing_metadata(self) -> tuple[tuple[str, bytes], ...]:
        return self._trailers


def ended(code: StatusCode, *details: Message) -> Ended:
    status = rpc_status.to_status(rich_status(code, "why", list(details)))
    return Ended(code, "why", status.trailing_metadata)


def contracts_reasons() -> list[str]:
    names = ErrorReason.keys()
    return [name.removeprefix("ERROR_REASON_") for name in names if name != "ERROR_REASON_UNSPECIFIED"]


def test_status_retryable_and_advice_of_each_reason_are_those_of_the_contract() -> None:
    promised = {
        reason: (status, refused == "", advice)
        for status, refused, advice, reason in ENTRY.findall(PROTO.read_text(encoding="utf-8"))
    }
    known = {
        reason: (entry.status.name, entry.retryable, entry.advice)
        for reason, entry in REASONS.items()
        if reason not in LOCAL
    }
    assert known == promised
    assert set(known) == set(contracts_reasons())


@pytest.mark.parametrize("reason", contracts_reasons())
def test_each_reason_of_the_contract_comes_with_all_that_a_caller_acts_on(reason: str) -> None:
    entry = REASONS[reason]
    numbers = PoolNumbers(scope="pool", pool="default", total=4, leased=3, warm=1)
    info = ErrorInfo(reason=reason, domain="trunkline", metadata={"upstream_code": "why_there"})
    delay = RetryInfo(retry_delay=Duration(seconds=1, nanos=500_000_000))
    error = error_of(ended(entry.status, info, delay, numbers))
    assert type(error) in TrunklineError.__subclasses__()
    assert (error.reason, error.message, error.status) == (reason, "why", entry.status)
    assert (error.retryable, error.retry_after_seconds, error.numbers) == (entry.retryable, 1.5, numbers)
    assert error.upstream_code == "why_there"
    assert re.fullmatch(r"[A-Z].*[a-z`]\.", error.advice)
    assert error.advice in "".join(traceback.format_exception_only(error))
    assert str(error) == f"{reason}: why"


@pytest.mark.parametrize("reason", contracts_reasons())
def test_an_error_that_comes_as_a_message_is_the_same_as_one_that_comes_as_a_status(reason: str) -> None:
    entry = REASONS[reason]
    number = ErrorReason.Value(f"ERROR_REASON_{reason}")
    told = Error(reason=number, message="why", retryable=entry.retryable, retry_after_ms=250, upstream_code="c")
    error = as_exception(told)
    assert type(error) is entry.family
    assert (error.reason, error.message, error.status, error.advice) == (reason, "why", entry.status, entry.advice)
    assert (error.retryable, error.retry_after_seconds, error.upstream_code) == (entry.retryable, 0.25, "c")


def test_a_message_of_a_newer_gateway_is_an_error_with_its_number() -> None:
    error = as_exception(Error.FromString(b"\x08\xe7\x07\x12\x03why"))
    assert (type(error), error.reason, error.message) == (GatewayError, "999", "why")
    assert (error.retryable, error.retry_after_seconds) == (False, None)
    assert "Update this client" in error.advice


@pytest.mark.parametrize("reason", sorted(REASONS))
def test_each_reason_becomes_an_error_of_its_family(reason: str) -> None:
    entry = REASONS[reason]
    error = error_of(ended(entry.status, ErrorInfo(reason=reason, domain="trunkline")))
    assert type(error) is entry.family
    assert (error.reason, error.message, error.retryable) == (reason, "why", entry.retryable)
    assert (error.status, error.retry_after_seconds, error.numbers) == (entry.status, None, None)


@pytest.mark.parametrize(
    ("code", "reason", "family", "retryable"),
    [
        (StatusCode.UNAVAILABLE, "CONNECTION_LOST", ConnectionLost, True),
        (StatusCode.DEADLINE_EXCEEDED, "TIMED_OUT", ConnectionLost, True),
        (StatusCode.CANCELLED, "CANCELLED", ConnectionLost, False),
        (StatusCode.RESOURCE_EXHAUSTED, "RESOURCE_EXHAUSTED", CapacityError, False),
        (StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED", CallerError, False),
        (StatusCode.UNIMPLEMENTED, "UNIMPLEMENTED", GatewayError, False),
        (StatusCode.UNKNOWN, "UNKNOWN", GatewayError, False),
    ],
)
def test_a_status_without_details_goes_by_its_code(
    code: StatusCode,
    reason: str,
    family: Family,
    retryable: bool,  # noqa: FBT001 - pytest's
) -> None:
    error = error_of(Ended(code))
    assert (type(error), error.reason, error.retryable) == (family, reason, retryable)
    assert error.message
    assert error.advice


@pytest.mark.parametrize(("metadata", "retryable"), [({}, True), ({"retryable": "false"}, False)])
def test_a_reason_of_a_newer_gateway_is_kept_and_its_code_and_word_decide(
    metadata: dict[str, str],
    retryable: bool,  # noqa: FBT001 - pytest's
) -> None:
    info = ErrorInfo(reason="MOONPHASE", domain="trunkline", metadata=metadata)
    error = error_of(ended(StatusCode.UNAVAILABLE, info))
    assert (type(error), error.reason, error.retryable) == (ConnectionLost, "MOONPHASE", retryable)
    assert "Update this client" in error.advice


def test_the_details_of_another_domain_are_not_ours() -> None:
    error = error_of(
        ended(StatusCode.UNAVAILABLE, ErrorInfo(reason="DRAINING", domain="proxy", metadata={"upstream_code": "x"}))
    )
    assert error.reason == "CONNECTION_LOST"
    assert error.upstream_code == ""


@pytest.mark.parametrize(
    "trailer",
    [
        b"\xff not a message",
        rich_status(StatusCode.NOT_FOUND, "why", []).SerializeToString(),
        rich_status(StatusCode.UNAVAILABLE, "another", []).SerializeToString(),
    ],
)
def test_details_that_lie_are_ignored(trailer: bytes) -> None:
    error = error_of(Ended(StatusCode.UNAVAILABLE, "why", (("grpc-status-details-bin", trailer),)))
    assert (error.reason, error.message) == ("CONNECTION_LOST", "why")


def test_an_error_survives_the_way_between_processes() -> None:
    error = CapacityError("QUEUE_FULL", "full", advice="Wait.", retryable=True, retry_after_seconds=0.5)
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert (type(copy), copy.reason, copy.retry_after_seconds) == (CapacityError, "QUEUE_FULL", 0.5)
    assert str(copy) == "QUEUE_FULL: full"
    assert (copy.advice, copy.__notes__) == (error.advice, ["Wait."])


def test_the_tree_in_the_docstring_is_the_tree_of_classes() -> None:
    drawn = re.findall(r"^[├└]── (\w+)", errors.__doc__ or "", re.MULTILINE)
    assert drawn == [family.__name__ for family in TrunklineError.__subclasses__()]
