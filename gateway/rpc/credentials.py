"""What gRPC takes for TLS where this process is the client."""

from pathlib import Path
from typing import Any

import grpc


def trusting(authority_file: Path | None) -> Any:
    """Return credentials that trust one authority (PEM), or the system's. Raises OSError."""
    return grpc.ssl_channel_credentials(authority_file.read_bytes() if authority_file is not None else None)
