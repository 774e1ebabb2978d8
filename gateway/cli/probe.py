"""`trunkline probe`: is the gateway good, from where I stand? Real calls, measured."""

import asyncio
import json
import sys

from rich.console import Console
from trunkline_client import TrunklineError

from gateway.cli.access import Access
from gateway.cli.call import failures, make_call, plan
from gateway.cli.failure import RefusedError, UnfulfilledError
from gateway.cli.figures import Call, summary
from gateway.cli.gateways import complaint
from gateway.cli.report import table


def probe(access: Access, calls: int, template: str, *, as_json: bool) -> None:
    """Make the calls one after the other; exit with 1 when one fails."""
    try:
        made = asyncio.run(_probe(access, calls, template))
    except TrunklineError as error:
        refused = RefusedError(error.reason, error.message)
        raise UnfulfilledError(complaint(access.address, refused)) from None
    figures = summary(made)
    if as_json:
        print(json.dumps(figures, indent=2))
    else:
        Console().print(table({template: figures}))
    for line in failures(made):
        print(line, file=sys.stderr)
    if figures["failed"]:
        sys.exit(1)


async def _probe(access: Access, calls: int, template: str) -> list[Call]:
    async with access.client() as client:
        await client.capabilities()  # so that no call pays for the channel
        return [await make_call(client, template, number, kind, words) for number, kind, words in plan(calls)]
