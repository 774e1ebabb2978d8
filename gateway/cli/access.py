"""How the commands reach a gateway: address, token and TLS. The one file that makes clients."""

import os
from dataclasses import dataclass
from pathlib import Path

from trunkline_client import AsyncClient, ConnectionOptions, TlsOptions

from gateway.cli.failure import CommandError


@dataclass(frozen=True, slots=True)
class Access:
    """Where a gateway is, and what is shown to it. The token never stands in argv."""

    address: str
    token_file: Path | None = None
    ca_file: Path | None = None

    def client(self) -> AsyncClient:
        """Make a client. Raises `CommandError`."""
        options = ConnectionOptions()
        if self.ca_file is not None:
            options = ConnectionOptions(tls=TlsOptions(ca_file=str(self.ca_file)))
        try:
            return AsyncClient(self.address, token=self._token(), options=options)
        except (ValueError, OSError) as error:
            raise CommandError(str(error)) from None

    def _token(self) -> str:
        if self.token_file is None:
            return os.environ.get("TRUNKLINE_TOKEN", "")
        try:
            return self.token_file.read_text(encoding="utf-8").strip()
        except OSError as error:
            text = f"--token-file {self.token_file} cannot be read: {error.strerror}"
            raise CommandError(text) from None
