"""Trunkline's client: conversations with speech models over a gateway that keeps the lines warm.

`AsyncClient` and `Client` have the same methods: `open` makes a session, `reserve` keeps a line for
one. A session yields `trunkline_client.events`, is given `trunkline_client.inputs`, and raises
`trunkline_client.errors`. `trunkline_client.audio` has sound files, formats and the pace of speech.
"""

from trunkline_client._aio_lease import AsyncLease
from trunkline_client._aio_session import AsyncSession
from trunkline_client._sync_lease import Lease
from trunkline_client._sync_session import Session
from trunkline_client.aio import AsyncClient
from trunkline_client.errors import (
    CallerError,
    CapacityError,
    ConnectionLost,
    GatewayError,
    StoreError,
    TrunklineError,
    UpstreamError,
)
from trunkline_client.inputs import SessionOverrides
from trunkline_client.options import ConnectionOptions, TlsOptions
from trunkline_client.sync import Client

__all__ = [
    "AsyncClient",
    "AsyncLease",
    "AsyncSession",
    "CallerError",
    "CapacityError",
    "Client",
    "ConnectionLost",
    "ConnectionOptions",
    "GatewayError",
    "Lease",
    "Session",
    "SessionOverrides",
    "StoreError",
    "TlsOptions",
    "TrunklineError",
    "UpstreamError",
]
