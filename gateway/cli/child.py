"""`python -m gateway.cli.child PID VERB …`: a verb of the command that ends when its parent does."""

import os
import sys
import threading
import time

from gateway.cli.main import main
from gateway.store.tether import PARENT_GONE, WATCH_SECONDS, die_with_parent


def tie(parent: int) -> None:
    """End this process with its parent, also after `kill -9` of it."""
    if sys.platform.startswith("linux"):
        die_with_parent()
        # The parent may have ended before the line above: then nobody will send the signal.
        if os.getppid() != parent:
            sys.exit(PARENT_GONE)
    else:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(WATCH_SECONDS)
    os._exit(PARENT_GONE)


if __name__ == "__main__":
    tie(int(sys.argv.pop(1)))
    main()
