"""docs/reference/errors.md, made from the comments of the reasons; the code must agree with them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from gateway.core.errors import RETRYABLE, Reason
from gateway.rpc.status import DOMAIN, STATUS
from tests.support.reference_contract import BELOW, ENUMS, comments, contract
from tests.support.reference_markdown import code, page, table

NAME: Final = "errors.md"
_PREFIX: Final = "ERROR_REASON_"
_COMMENT: Final = re.compile(r"([A-Z_]+), (not )?retryable\. (.+)")
_USE: Final = f"""\
With this page you can look up what a refusal means and what the caller should do.

A refused call ends with a gRPC status. Among its details is a `google.rpc.ErrorInfo` with the domain `{DOMAIN}` and one
of these reasons, and where they apply a `google.rpc.RetryInfo` and [PoolNumbers](api/errors.md#poolnumbers). A request
that is refused inside an open session comes as an [Error](api/errors.md#error) event, and the session goes on.
[When a call fails](../callers/errors.md) says how to read them, [Troubleshooting](../troubleshooting.md) what an
operator can do."""


@dataclass(frozen=True)
class Told:
    """What the contract says of a reason."""

    reason: str
    status: str
    retryable: bool
    advice: str


def told() -> Iterator[Told]:
    """Yield the reasons in the contract's order. Raises ValueError where a comment lacks a part."""
    (file,) = (each for each in contract() if each.name.endswith("/errors.proto"))
    said = comments(file)
    for number, value in enumerate(file.enum_type[0].value):
        if value.number == 0:
            continue
        comment = " ".join(said[ENUMS, 0, BELOW, number].split())
        found = _COMMENT.fullmatch(comment)
        if found is None:
            raise ValueError(f"{value.name}: the comment must be 'STATUS, [not ]retryable. Sentence.'")
        yield Told(value.name.removeprefix(_PREFIX), found[1], not found[2], found[3])


def render() -> str:
    """Return the page."""
    rows = [(code(each.reason), code(each.status), "yes" if each.retryable else "no", each.advice) for each in told()]
    head = ("Reason", "gRPC status", "A retry may help", "What the caller should do")
    return page("Errors", _USE, "`proto/trunkline/v1/errors.proto`", table(head, rows))


def in_the_code() -> dict[str, tuple[str, bool]]:
    """Return status and flag of each reason as the gateway has them."""
    return {reason.value: (STATUS[reason].name, reason in RETRYABLE) for reason in Reason}
