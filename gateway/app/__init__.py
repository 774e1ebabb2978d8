"""The composition root: builds every part from the settings, starts them in order, stops them in reverse.

The only room that knows everybody.
"""

from gateway.app.gateway import Gateway
from gateway.app.reload import Source

__all__ = ["Gateway", "Source"]
