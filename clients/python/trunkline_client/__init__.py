"""Trunkline's client: conversations with speech models over a gateway that keeps the lines warm.

`AsyncClient` and `Client` have the same methods. A session yields `trunkline_client.events`, is
given `trunkline_client.inputs`, and raises `trunkline_client.errors`. `trunkline_client.audio`
reads WAV files and paces audio.
"""

from trunkline_client._aio_session import AsyncSession
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
    "AsyncSession",
    "CallerError",
    "CapacityError",
    "Client",
    "ConnectionLost",
    "ConnectionOptions",
    "GatewayError",
    "Session",
    "SessionOverrides",
    "StoreError",
    "TlsOptions",
    "TrunklineError",
    "UpstreamError",
]
