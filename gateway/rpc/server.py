"""The gRPC server: its channel arguments, listener TLS with hot reload, health and reflection."""

import ssl
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import grpc
import structlog
from cryptography import x509
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from gateway.rpc.auth import METADATA_MAX_BYTES, AuthInterceptor
from gateway.rpc.parts import ServiceParts
from gateway.rpc.services import SERVICE_NAMES, add_services

_log = structlog.get_logger(__name__)
GRACE_SECONDS: Final = 1.0


class ListenError(Exception):
    """The address cannot be listened on; the text names it."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The listener's certificate, and the authority that callers' certificates must come from."""

    cert_file: Path
    key_file: Path
    client_ca_file: Path | None = None


class Validity(NamedTuple):
    """When a certificate may be used: Unix time, in seconds."""

    not_before: float
    not_after: float


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Where to listen, and the bounds of the transport."""

    address: str
    message_max_bytes: int
    gateway_message_max_bytes: int = 4 << 20
    tls: TlsFiles | None = None
    reflection: bool = False
    keepalive_ms: int = 10_000
    keepalive_timeout_ms: int = 5_000
    # At most half of what a client of ours sends its pings by; a test compares.
    ping_interval_min_ms: int = 1_000
    handshake_timeout_ms: int = 5_000
    connections_max: int = 4096
    connection_idle_ms: int = 300_000
    streams_max: int = 100
    metadata_max_bytes: int = METADATA_MAX_BYTES


def channel_arguments(options: ServerOptions) -> list[tuple[str, Any]]:
    """Return the arguments of the transport. gRPC ignores unknown names in silence: a test checks each."""
    return [
        ("grpc.keepalive_time_ms", options.keepalive_ms),
        ("grpc.keepalive_timeout_ms", options.keepalive_timeout_ms),
        # Without it a frozen caller is noticed after a minute, whatever the two above say.
        ("grpc.http2.ping_timeout_ms", options.keepalive_timeout_ms),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", options.ping_interval_min_ms),
        ("grpc.http2.max_ping_strikes", 2),
        # A back-stop at twice our own limit, which answers with details.
        ("grpc.max_receive_message_length", 2 * options.message_max_bytes),
        ("grpc.max_send_message_length", 2 * options.gateway_message_max_bytes),
        ("grpc.max_concurrent_streams", options.streams_max),
        ("grpc.max_metadata_size", options.metadata_max_bytes),
        ("grpc.absolute_max_metadata_size", options.metadata_max_bytes),
        ("grpc.server_handshake_timeout_ms", options.handshake_timeout_ms),
        # The same for who sends the preface and then never acknowledges our settings.
        ("grpc.http2.settings_timeout", options.handshake_timeout_ms),
        # Over it, connections are closed as soon as they are accepted.
        ("grpc.max_allowed_incoming_connections", options.connections_max),
        # A connection that carries no call.
        ("grpc.max_connection_idle_ms", options.connection_idle_ms),
        # A probed window would let minutes of speech pile up towards a caller that does not read.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", 65_536),
        ("grpc.so_reuseport", 0),
    ]


class GrpcServer:
    """Serves the contract, health and (in development) reflection."""

    def __init__(self, options: ServerOptions, parts: ServiceParts, door: AuthInterceptor) -> None:
        """Build; nothing listens before `start`."""
        self._options = options
        self._certificates: _Certificates | None = None
        self._server = grpc.aio.server(
            interceptors=(door,),
            options=channel_arguments(options),
        )
        add_services(self._server, parts)
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if options.reflection:
            names = (*SERVICE_NAMES, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, self._server)

    async def start(self) -> None:
        """Listen. Raises `ListenError`."""
        address = self._options.address
        try:
            if self._options.tls is None:
                port = self._server.add_insecure_port(address)
            else:
                self._certificates = _Certificates(self._options.tls)
                port = self._server.add_secure_port(address, _credentials(self._certificates))
        except OSError as error:
            raise ListenError(_tls_words(self._options.tls, error)) from None
        except RuntimeError:
            port = 0
        if port == 0:
            text = f"cannot listen on {address}: it is in use, or not an address of this machine"
            raise ListenError(text)
        await self._server.start()

    @property
    def certificate(self) -> Validity | None:
        """When the listener's certificate is valid, as far as it was looked at; None = it speaks plaintext."""
        return self._certificates.validity if self._certificates is not None else None

    def look_at_certificate(self) -> None:
        """See the files as the next handshake will. Waits for the file system; from any thread."""
        if self._certificates is not None:
            self._certificates.look()

    async def set_serving(self, *, serving: bool) -> None:
        """Tell what the health service answers, for each service and for the server."""
        states = health_pb2.HealthCheckResponse
        state = states.SERVING if serving else states.NOT_SERVING
        for name in ("", *SERVICE_NAMES):
            await self._health.set(name, state)

    async def stop(self) -> None:
        """Stop listening; calls that still run are cut after a grace."""
        await self._server.stop(GRACE_SECONDS)


def check_tls(files: TlsFiles) -> Validity:
    """Return when the certificate is valid. Raises `ListenError` where the files cannot serve as a listener's."""
    try:
        _check_pair(files)
        return _validity(files.cert_file.read_bytes())
    except OSError as error:
        raise ListenError(_tls_words(files, error)) from None


def _check_pair(files: TlsFiles) -> None:
    # gRPC takes anything and then refuses every handshake; this refuses what is no pair at once.
    check = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # Without the empty password an encrypted key would ask for one on the terminal.
    check.load_cert_chain(files.cert_file, files.key_file, password=lambda: "")
    if files.client_ca_file is not None:
        check.load_verify_locations(cafile=files.client_ca_file)


def _validity(chain: bytes) -> Validity:
    """Raises `ssl.SSLError`, as for any other file that is no certificate."""
    try:
        # The first is the listener's own, those after it are its authorities'.
        own = x509.load_pem_x509_certificates(chain)[0]
        return Validity(own.not_valid_before_utc.timestamp(), own.not_valid_after_utc.timestamp())
    except ValueError as error:
        raise ssl.SSLError(str(error)) from None


def _tls_words(files: TlsFiles | None, error: OSError) -> str:
    if files is None or isinstance(error, ssl.SSLError):
        return "grpc.tls: the files are not a certificate with its key, or no authority (PEM)"
    return f"grpc.tls: {error.filename or files.cert_file} cannot be read: {error.strerror}"


def _credentials(current: "_Certificates") -> grpc.ServerCredentials:
    """Return credentials that follow their files: a changed file is used from the next handshake on."""
    return grpc.dynamic_ssl_server_credentials(
        current.first,
        current.changed,  # type: ignore[arg-type]  # None is allowed: it keeps what is in use
        require_client_authentication=current.files.client_ca_file is not None,
    )


class _Certificates:
    """The files' content, read again when they change. Called from gRPC's own threads."""

    def __init__(self, files: TlsFiles) -> None:
        """Read once. Raises `OSError` (`ssl.SSLError` is one) when a file cannot be used."""
        self.files = files
        self.validity: Validity
        self._seen = self._stamps()
        self.first = self._read()

    def look(self) -> None:
        """Learn when what the files hold is valid. What cannot serve is not used, and told of at the handshake."""
        with suppress(ListenError):
            self.validity = check_tls(self.files)

    def changed(self) -> "grpc.ServerCertificateConfiguration | None":
        """Return a new configuration when a file has changed; None keeps the one in use."""
        try:
            stamps = self._stamps()
            if stamps == self._seen:
                return None
            configuration = self._read()
        except OSError as error:
            _log.warning("tls_reload_refused", error=type(error).__name__, path=error.filename)
            return None
        self._seen = stamps
        _log.info("tls_reloaded", path=str(self.files.cert_file))
        return configuration

    def _stamps(self) -> tuple[tuple[int, int], ...]:
        files = (self.files.cert_file, self.files.key_file, self.files.client_ca_file)
        stats = [file.stat() for file in files if file is not None]
        return tuple((stat.st_ino, stat.st_mtime_ns) for stat in stats)

    def _read(self) -> "grpc.ServerCertificateConfiguration":
        files = self.files
        _check_pair(files)
        pair = (files.key_file.read_bytes(), files.cert_file.read_bytes())
        authority = files.client_ca_file.read_bytes() if files.client_ca_file else None
        self.validity = _validity(pair[1])
        return grpc.ssl_server_certificate_configuration([pair], authority)
