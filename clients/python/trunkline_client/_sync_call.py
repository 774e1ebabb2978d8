"""What gRPC's blocking stream lacks: a type, a typed ending, and a bound on its reads."""

import contextlib
import threading
from collections.abc import Callable, Generator, Iterator
from typing import Protocol

import grpc
from trunkline.v1.lease_pb2 import KeepAliveResponse
from trunkline.v1.session_pb2 import ConverseResponse

from trunkline_client._channel import ChannelArguments
from trunkline_client._status import EndedCall, error_of
from trunkline_client.errors import TrunklineError, refusal


class ConverseCall(EndedCall, Protocol):
    """What gRPC returns for a stream: an iterator that is also the call."""

    def __next__(self) -> ConverseResponse:
        """Block until the next message. StopIteration is status OK, `grpc.RpcError` another."""

    def cancel(self) -> object:
        """End the call here and there."""

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """Call back when the call is over; False = it is over already."""


def read(call: ConverseCall) -> ConverseResponse | None:
    """Block until the next message; None at status OK. Raises what another status means."""
    try:
        return next(call)
    except StopIteration:
        return None
    except grpc.RpcError as failure:
        raise error_of(failure) from None


def make_channel(
    address: str, arguments: ChannelArguments, credentials: grpc.ChannelCredentials | None
) -> grpc.Channel:
    """Return a channel, in plaintext without credentials. It connects with the first call."""
    if credentials is None:
        return grpc.insecure_channel(address, arguments)
    return grpc.secure_channel(address, credentials, arguments)


class RenewalCall(Protocol):
    """What gRPC returns for a renewal of a reservation."""

    def __iter__(self) -> Iterator[KeepAliveResponse]:
        """Return the answers. `grpc.RpcError` is a status other than OK."""

    def cancel(self) -> object:
        """End the call here and there."""


def only_answer(call: RenewalCall) -> KeepAliveResponse:
    """Return the answer to a renewal. Raises what another status than OK means."""
    try:
        answers = list(call)
    except grpc.RpcError as failure:
        raise error_of(failure) from None
    if not answers:
        raise refusal("CONNECTION_LOST", "the renewal was not answered")
    return answers[-1]


def ending(call: ConverseCall) -> TrunklineError:
    """Return what ended a call that is over, for one who wanted to send."""
    if call.code() is grpc.StatusCode.OK:
        return refusal("NOT_OPEN", "the session has ended")
    return error_of(call)


@contextlib.contextmanager
def at_most(seconds: float, give_up: Callable[[], object]) -> Generator[None]:
    """Call `give_up` if the block takes longer: gRPC's blocking reads take no timeout."""
    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
