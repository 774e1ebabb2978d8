"""Names of things as types, so that one cannot be passed for another."""

from typing import NewType

ConnectionId = NewType("ConnectionId", int)
LeaseId = NewType("LeaseId", str)
WaiterId = NewType("WaiterId", int)
SessionId = NewType("SessionId", str)
