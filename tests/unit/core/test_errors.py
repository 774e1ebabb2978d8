"""One list of reasons: the core's, the contract's and the status table's are the same."""

import re
from pathlib import Path

import pytest
from google.rpc import error_details_pb2
from trunkline.v1 import errors_pb2

from gateway.core import errors
from gateway.core.errors import (
    RETRYABLE,
    CallerError,
    CapacityError,
    DialError,
    GatewayError,
    PoolNumbers,
    Reason,
    UpstreamClosedError,
    UpstreamError,
)
from gateway.core.transitions import IllegalTransitionError
from gateway.rpc.status import DOMAIN, STATUS, details

PROTO = Path(__file__).parents[3] / "proto" / "trunkline" / "v1" / "errors.proto"
VALUE = re.compile(
    r"// (?P<status>[A-Z_]+), (?P<retry>(?:not )?retryable)\. (?P<advice>[^\n]+)\n"
    r" +ERROR_REASON_(?P<reason>[A-Z_]+) = \d+;"
)
COMMENTS = {found["reason"]: found for found in VALUE.finditer(PROTO.read_text(encoding="utf-8"))}


def test_the_reasons_are_those_of_the_contract() -> None:
    contract = {name.removeprefix("ERROR_REASON_") for name in errors_pb2.ErrorReason.keys()}  # noqa: SIM118 no mapping
    assert {reason.name for reason in Reason} == contract - {"UNSPECIFIED"}
    assert all(reason.name == reason.value for reason in Reason)


def test_every_reason_of_the_contract_says_status_retry_and_advice() -> None:
    assert set(COMMENTS) == {reason.name for reason in Reason}


@pytest.mark.parametrize("reason", Reason)
def test_retryable_is_as_the_contract_says(reason: Reason) -> None:
    assert (reason in RETRYABLE) is (COMMENTS[reason]["retry"] == "retryable")


@pytest.mark.parametrize("reason", Reason)
def test_the_status_is_the_one_of_the_contract(reason: Reason) -> None:
    assert STATUS[reason].name == COMMENTS[reason]["status"]


@pytest.mark.parametrize("reason", Reason)
def test_an_error_knows_whether_to_come_back(reason: Reason) -> None:
    assert GatewayError(reason, "why").retryable is (reason in RETRYABLE)


def test_an_error_carries_what_its_reader_needs() -> None:
    numbers = PoolNumbers("pool", "default", total=5, leased=1, warm=1, dialling=2, waiting=7)
    error = CapacityError(Reason.QUEUE_FULL, "full", numbers=numbers, retry_after_seconds=0.25)
    status = details(error)
    unpacked = [error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo(), errors_pb2.PoolNumbers()]
    assert all(detail.Unpack(into) for detail, into in zip(status.details, unpacked, strict=True))
    info, retry, told = unpacked
    assert (info.domain, info.reason, dict(info.metadata)) == (DOMAIN, "QUEUE_FULL", {"retryable": "true"})
    assert retry.retry_delay.ToMilliseconds() == 250
    assert (told.scope, told.total, told.leased, told.warm, told.dialling, told.waiting) == ("pool", 5, 1, 1, 2, 7)
    assert str(error) == error.message == status.message == "full"


def test_an_upstream_error_keeps_the_providers_code() -> None:
    assert UpstreamError(Reason.UPSTREAM_CLOSED, "gone", upstream_code="1006").upstream_code == "1006"


def test_the_tree_is_as_drawn() -> None:
    roots = {each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, Exception)}
    assert all(issubclass(each, GatewayError) for each in roots)
    assert issubclass(DialError, UpstreamError)
    assert issubclass(UpstreamClosedError, UpstreamError)
    assert not issubclass(CallerError, CapacityError)


def test_a_bug_is_not_in_the_tree() -> None:
    assert not issubclass(IllegalTransitionError, GatewayError)
