"""Single keys from the terminal while something is shown on it, and the terminal as it was afterwards."""

import asyncio
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

_END: Final = b""
_NO_CHARACTER: Final = b"\0"
_CONTROL_CHARACTERS: Final = 6


@contextmanager
def keys(on_key: Callable[[str], None], on_end: Callable[[], None]) -> Iterator[None]:
    """Tell of each key; `on_end` when there can be no more. Without a terminal there are none at all."""
    if sys.platform == "win32" or not sys.stdin.isatty():
        yield
        return
    import termios  # noqa: PLC0415 not there on every platform
    import tty  # noqa: PLC0415

    loop, file = asyncio.get_running_loop(), sys.stdin.fileno()

    def read() -> None:
        typed = os.read(file, 64)
        if typed == _END:
            loop.remove_reader(file)
            on_end()
        for character in typed.decode("utf-8", "ignore"):
            on_key(character)

    before = termios.tcgetattr(file)
    tty.setcbreak(file)
    without_stop = termios.tcgetattr(file)
    # Ctrl-Z would leave a shell with a terminal in this state.
    without_stop[_CONTROL_CHARACTERS][termios.VSUSP] = _NO_CHARACTER
    termios.tcsetattr(file, termios.TCSADRAIN, without_stop)
    loop.add_reader(file, read)
    try:
        yield
    finally:
        loop.remove_reader(file)
        # What was typed meanwhile is not for the shell.
        termios.tcsetattr(file, termios.TCSAFLUSH, before)
