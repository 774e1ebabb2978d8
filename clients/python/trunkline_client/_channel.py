"""What both shells need to make a channel: arguments, credentials, and the rule about plaintext.

Pure, but for reading the TLS files.
"""

import dataclasses
import ipaddress
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

import grpc

from trunkline_client.options import ConnectionOptions, TlsOptions

ChannelArguments = list[tuple[str, int | str]]
Metadata = tuple[tuple[str, str], ...]

_LOCAL_SCHEMES: Final = ("unix:", "unix-abstract:")
# A URL, which gRPC would take for a name to look up.
_NOT_SCHEMES: Final = ("http:", "https:", "grpc:", "grpcs:", "ws:", "wss:")
# W3C Trace Context: version, trace, span, flags.
_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_IP_SCHEMES: Final = ("ipv4:", "ipv6:", "dns:///", "dns:")

# One of a name's addresses by chance; the next one beside it where that does not answer.
_ANY_ADDRESS: Final = '{"loadBalancingConfig": [{"pick_first": {"shuffleAddressList": true}}]}'
_NEXT_ADDRESS_AFTER_MS: Final = 100


def channel_arguments(address: str, options: ConnectionOptions) -> ChannelArguments:
    """Return gRPC's channel arguments. It ignores unknown names silently: a test looks them up."""
    return [*_arguments(address, address, options), ("grpc.lb_policy_name", "round_robin")]


def stream_arguments(
    address: str, options: ConnectionOptions, connect_seconds: float, client_address: str
) -> ChannelArguments:
    """Return those of a channel for one stream: it needs one connection, whichever is there first.

    `connect_seconds` is how long anybody waits for it. Measured: gRPC keeps a connection to a process
    that does not answer for all of that time, though its channel is closed. `client_address` is where the client
    was told to connect: `address` may be what one of the gateways behind it has said.
    """
    connect_timeout_ms = min(max(1, round(connect_seconds * 1000)), options.connect_timeout_ms)
    return [
        *_arguments(address, client_address, dataclasses.replace(options, connect_timeout_ms=connect_timeout_ms)),
        ("grpc.service_config", _ANY_ADDRESS),
        ("grpc.happy_eyeballs_connection_attempt_delay_ms", _NEXT_ADDRESS_AFTER_MS),
    ]


def _arguments(address: str, client_address: str, options: ConnectionOptions) -> ChannelArguments:
    arguments: ChannelArguments = [
        ("grpc.keepalive_time_ms", options.keepalive_time_ms),
        # Two names for one thing. Measured with gRPC 1.85: the first alone does nothing, and a frozen
        # gateway is noticed after a minute.
        ("grpc.keepalive_timeout_ms", options.ping_timeout_ms),
        ("grpc.http2.ping_timeout_ms", options.ping_timeout_ms),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        # Both keep what is in flight small: audio that nobody has read must not pile up on the way.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", options.lookahead_bytes),
        ("grpc.initial_reconnect_backoff_ms", options.initial_reconnect_backoff_ms),
        ("grpc.min_reconnect_backoff_ms", options.connect_timeout_ms),
        ("grpc.max_reconnect_backoff_ms", options.max_reconnect_backoff_ms),
        ("grpc.dns_min_time_between_resolutions_ms", options.resolution_interval_ms),
        ("grpc.max_receive_message_length", options.receive_message_max_bytes),
        # A conversation cannot be sent twice behind the caller's back.
        ("grpc.enable_retries", 0),
        # Otherwise all channels of a process to one address share a connection.
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if is_local(address):
        # A proxy variable of the machine must not send loopback traffic away.
        arguments.append(("grpc.enable_http_proxy", 0))
    if options.tls is not None and (name := options.tls.server_name or _promised_name(address, client_address)):
        arguments.append(("grpc.ssl_target_name_override", name))
    return arguments


def _promised_name(address: str, client_address: str) -> str:
    """Return the name that a gateway's certificate must carry; empty = that of the address itself.

    One gateway of several says an address of its own. In Kubernetes that is a bare IP, which stands in no certificate:
    it is held to the name that the caller has chosen. Any gateway behind that can show it, and nobody else.
    """
    if address == client_address or not _is_ip(_host(address)) or "," in client_address:
        return ""
    # Of `dns://resolver/name:port` and the like the last part is what is looked up.
    name = _host(client_address.rpartition("/")[2])
    return "" if client_address.startswith(_LOCAL_SCHEMES) else name


def channel_credentials(address: str, options: ConnectionOptions) -> grpc.ChannelCredentials | None:
    """Return TLS credentials, None for plaintext.

    Raises ValueError where that is not safe or the address is none, OSError for a file that cannot
    be read.
    """
    if not address or address.startswith(_NOT_SCHEMES):
        raise ValueError(f"{address!r} is no gRPC target: give host:port, or dns:///name:port for several gateways")
    if options.tls is not None:
        return _tls_credentials(options.tls)
    if options.allow_plaintext or is_local(address):
        return None
    raise ValueError(f"{address} is not this machine: give TlsOptions, or allow_plaintext=True")


def _tls_credentials(tls: TlsOptions) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(
        root_certificates=_content(tls.ca_file),
        private_key=_content(tls.key_file),
        certificate_chain=_content(tls.cert_file),
    )


def _content(path: str | None) -> bytes | None:
    return None if path is None else Path(path).read_bytes()


def is_local(address: str) -> bool:
    """Tell whether a gRPC target never leaves this machine."""
    if address.startswith(_LOCAL_SCHEMES):
        return True
    for scheme in _IP_SCHEMES:
        address = address.removeprefix(scheme)
    return all(_is_loopback(_host(each)) for each in address.split(","))


def _host(endpoint: str) -> str:
    if endpoint.startswith("["):
        return endpoint[1:].partition("]")[0]
    host, _, port = endpoint.rpartition(":")
    return host if host and port.isdigit() else endpoint


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def call_metadata(
    token: str | Callable[[], str], traceparent: Callable[[], str | None] | None = None
) -> Callable[[], Metadata]:
    """Return what gives the metadata of a call: it shows `token` (empty = none), and what span it belongs to.

    Raises ValueError for a token that no header can carry, at once or, where the token is asked
    for with each call, then. The error never shows the token. What is no W3C `traceparent`, and a function that
    fails, is left out: for the sake of a trace no call fails.
    """
    shown = _authorization(token)
    if traceparent is None:
        return shown
    return lambda: (*shown(), *_span(traceparent))


def _authorization(token: str | Callable[[], str]) -> Callable[[], Metadata]:
    if callable(token):
        return lambda: _bearer(token())
    metadata = _bearer(token)
    return lambda: metadata


def _span(traceparent: Callable[[], str | None]) -> Metadata:
    try:
        told = traceparent()
    except Exception:  # noqa: BLE001 somebody else's function; a running session must not end for it
        return ()
    return (("traceparent", told),) if isinstance(told, str) and _TRACEPARENT.fullmatch(told) else ()


def _bearer(token: str) -> Metadata:
    if not token:
        return ()
    # gRPC would refuse it too, but with the whole header in its message.
    if not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError("the token holds characters that a header cannot carry (a newline at its end?)")
    return (("authorization", f"Bearer {token}"),)
