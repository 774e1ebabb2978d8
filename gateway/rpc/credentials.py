"""What gRPC takes for TLS where this process is the client."""

import ssl
from pathlib import Path
from typing import Any

import grpc


def trusting(authority_file: Path | None) -> Any:
    """Return credentials that trust one authority (PEM), or the system's. Raises OSError.

    By itself gRPC would trust those that it brings along. Where the system has none they serve.
    """
    known = authority_file or ssl.get_default_verify_paths().cafile
    return grpc.ssl_channel_credentials(Path(known).read_bytes() if known is not None else None)
