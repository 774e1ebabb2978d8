"""Where spans go."""

from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from gateway.settings.sections import Section, port_is_valid


class TracingSettings(Section):
    """Spans for an OpenTelemetry collector."""

    endpoint: str | None = Field(
        None, description="the collector's OTLP over gRPC, http://HOST:PORT or https://HOST:PORT; null = no spans"
    )
    ca_file: Path | None = Field(
        None, description="the authority of the collector's certificate, PEM; null = the system's"
    )
    sample_ratio: float = Field(
        1.0, ge=0, le=1, description="of the sessions whose caller has not decided, and of the dials"
    )

    @model_validator(mode="after")
    def _safe(self) -> "TracingSettings":
        if self.endpoint is not None:
            parts = urlsplit(self.endpoint)
            extra = "@" in parts.netloc or parts.path.strip("/") or parts.query or parts.fragment
            has_place = (
                bool(parts.hostname)
                and port_is_valid(parts)
                and parts.port
                and not any(map(str.isspace, self.endpoint))
            )
            if not self.endpoint.startswith(("http://", "https://")) or extra or not has_place:
                raise ValueError("endpoint must be http://HOST:PORT or https://HOST:PORT, and nothing more")
        if self.ca_file is not None and not (self.endpoint or "").startswith("https:"):
            raise ValueError("ca_file needs an endpoint that begins with https")
        return self
