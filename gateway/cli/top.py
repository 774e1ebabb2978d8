"""`trunkline top`: gateways, pools and sessions, live on a terminal, page after page in a pipe."""

import asyncio
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from google.protobuf.json_format import MessageToJson
from rich.console import Console
from trunkline.v1.admin_pb2 import WatchResponse

from gateway.cli.access import Access, Operator
from gateway.cli.gateways import ask, complain
from gateway.cli.keys import keys
from gateway.cli.screen import ENDLESS, Page, Sorting
from gateway.cli.watching import Watched, Watching, look

# The age of what is seen grows while nothing is heard.
_REDRAW_SECONDS: Final = 1.0
# Many gateways speak at nearly the same time; one drawing is for all.
_GATHER_SECONDS: Final = 0.05


def top(access: Access, *, once: bool, interval_ms: int, as_json: bool) -> None:
    """Show until somebody leaves, or once. Raises `CommandError`."""
    access.check()
    if once:
        _once(access, as_json=as_json)
    else:
        asyncio.run(_watch(access, interval_ms, as_json=as_json))


def _once(access: Access, *, as_json: bool) -> None:
    async def both(operator: Operator) -> tuple[str, WatchResponse]:
        return (await operator.capabilities()).version, await look(operator)

    answers = ask(access, both)
    gateways = []
    for each in answers:
        watched = Watched(each.address, began_at=0, failure=each.failure)
        if each.message is not None:
            watched.version, seen = each.message
            watched.take(seen, now=0)
        gateways.append(watched)
    if any(each.seen for each in gateways):
        page = Page(gateways, Sorting(), now=0, clock=_clock(), patience_seconds=0)
        _print(page, as_json=as_json)
    complain(answers)


async def _watch(access: Access, interval_ms: int, *, as_json: bool) -> None:
    """Watch and show; when one of both ends, so does the other."""
    watching = Watching(access, interval_ms)
    both = [asyncio.create_task(watching.run()), asyncio.create_task(_show(watching, as_json=as_json))]
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        for each in both:
            if each.done():
                each.result()
    finally:
        for each in both:
            each.cancel()
        await asyncio.gather(*both, return_exceptions=True)


async def _show(watching: Watching, *, as_json: bool) -> None:
    await watching.begun()
    console = Console()
    if not as_json and console.is_terminal and not console.is_dumb_terminal:
        await _live(watching, console)
        return
    while True:
        _print(_page(watching, Sorting()), as_json=as_json)
        await asyncio.sleep(watching.interval_seconds)


async def _live(watching: Watching, console: Console) -> None:
    """Draw whenever there are news, until `q` or a signal; leave the terminal as it was."""
    sorting, left = Sorting(), asyncio.Event()

    def leave() -> None:
        left.set()
        watching.news.set()

    def press(key: str) -> None:
        if key == "q":
            left.set()
        sorting.press(key)
        watching.news.set()

    with _signals(watching, leave), keys(press, leave), console.screen() as screen:
        while not left.is_set():
            watching.news.clear()
            screen.update(_page(watching, sorting, has_keys=True).drawn(*console.size))
            await watching.next(_REDRAW_SECONDS)
            await asyncio.sleep(_GATHER_SECONDS)


@contextmanager
def _signals(watching: Watching, leave: Callable[[], None]) -> Iterator[None]:
    """Leave in order when told to end, and draw anew when the terminal has another size."""
    loop = asyncio.get_running_loop()
    taken = {signal.SIGINT: leave, signal.SIGTERM: leave, signal.SIGWINCH: watching.news.set}
    for number, act in taken.items():
        loop.add_signal_handler(number, act)
    try:
        yield
    finally:
        for number in taken:
            loop.remove_signal_handler(number)


def _page(watching: Watching, sorting: Sorting, *, has_keys: bool = False) -> Page:
    now = asyncio.get_running_loop().time()
    gateways = list(watching.gateways.values())
    return Page(gateways, sorting, now, _clock(), watching.patience_seconds, has_keys)


def _print(page: Page, *, as_json: bool) -> None:
    """Print all of a page: a line of JSON, or tables."""
    if as_json:
        merged = WatchResponse()
        for each in page.gateways:
            if each.seen is not None:
                merged.MergeFrom(each.seen)
        print(MessageToJson(merged, always_print_fields_with_no_presence=True, indent=None), flush=True)
        return
    console = Console(width=None if sys.stdout.isatty() else ENDLESS)
    console.print(page.drawn(console.width))
    console.print()
    sys.stdout.flush()


def _clock() -> str:
    return time.strftime("%H:%M:%S")
