"""All gateways of an address are asked at once, and each answers for itself."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from gateway.cli.access import Access, Operator
from gateway.cli.addresses import Endpoint, endpoints
from gateway.cli.failure import CommandError, RefusedError, UnfulfilledError
from gateway.cli.words import printable

_T = TypeVar("_T")

# What an operator can do about a refusal whose own sentence does not say it.
_ADVICE: Final = {
    "CONNECTION_LOST": "is a gateway running there, and is --ca-file given if it wants TLS?",
    "TIMED_OUT": "look at its /livez and its log",
    "UNAUTHENTICATED": "give a valid token by --token-file or TRUNKLINE_TOKEN",
    "NOT_PERMITTED": "use the token of a caller whose `rights` have it",
    "UNKNOWN_SESSION": "`trunkline sessions` lists those that run",
    "NOT_IMPLEMENTED_YET": "use a newer gateway",
}


@dataclass(frozen=True, slots=True)
class Answer(Generic[_T]):
    """What one gateway said, or why it did not."""

    address: str
    message: _T | None = None
    failure: RefusedError | None = None


def ask(
    access: Access,
    question: Callable[[Operator], Awaitable[_T]],
    *,
    enough: Callable[[_T], bool] | None = None,
    at: Sequence[Endpoint] | None = None,
) -> list[Answer[_T]]:
    """Return the answer of every gateway, in the order of addresses, or only the first that is `enough`.

    Each is asked within its deadline, and no failure hides an answer. `at` are those that `found` has
    found; a name may stand for others a moment later. Raises `CommandError`.
    """
    return asyncio.run(_ask_all(access, found(access) if at is None else at, question, enough))


def found(access: Access) -> list[Endpoint]:
    """Return the gateways that the address stands for now. Raises `CommandError`."""
    access.check()
    return asyncio.run(endpoints(access.address))


async def _ask_all(
    access: Access,
    at: Sequence[Endpoint],
    question: Callable[[Operator], Awaitable[_T]],
    enough: Callable[[_T], bool] | None,
) -> list[Answer[_T]]:
    operators = [(each.address, access.operator(each)) for each in at]
    asked = [asyncio.ensure_future(_ask(address, operator, question)) for address, operator in operators]
    try:
        for each in asyncio.as_completed(asked):
            answer = await each
            if enough is not None and answer.message is not None and enough(answer.message):
                return [answer]
        return [each.result() for each in asked]
    finally:
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)


async def _ask(address: str, operator: Operator, question: Callable[[Operator], Awaitable[_T]]) -> Answer[_T]:
    try:
        async with operator:
            return Answer(address, await question(operator))
    except RefusedError as failure:
        return Answer(address, failure=failure)


def complain(answers: Sequence[Answer[_T]]) -> None:
    """Raise `UnfulfilledError` with a sentence for each gateway that failed, if one did."""
    sentences = [complaint(each.address, each.failure) for each in answers if each.failure is not None]
    if sentences:
        raise UnfulfilledError(*sentences)


def complaint(address: str, failure: RefusedError | CommandError) -> str:
    """Say in a sentence who refused what, and what to do."""
    advice = _ADVICE.get(failure.reason) if isinstance(failure, RefusedError) else None
    said = f"{address}: {failure}"
    return printable(f"{said}; {advice}" if advice else said)
