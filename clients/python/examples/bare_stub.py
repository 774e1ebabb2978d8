"""One question without a client of ours: grpcio and the generated stub, in plain mode.

    python bare_stub.py 127.0.0.1:50051 "What are your opening hours?"

A stub in any language has to do what this one does; the comments say what, and why.
"""

import os
import sys
from collections.abc import Iterator

import grpc
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from grpc_status import rpc_status
from trunkline.v1.control_pb2 import Control, CreateResponse, TextInput
from trunkline.v1.errors_pb2 import PoolNumbers
from trunkline.v1.session_pb2 import ConverseRequest, ConverseResponse, Open
from trunkline.v1.session_pb2_grpc import SessionServiceStub

# CHANNEL has keepalive: a gateway that vanished without a word is noticed by pings alone. Every 10 s is right; below
# 1 s it hangs up with ENHANCE_YOUR_CALM. The C core needs `ping_timeout_ms` too, or notices after a minute. The
# window that grows by itself is off (`bdp_probe`), or seconds of speech would pile up unread. There is no retry
# policy: a conversation cannot be sent twice. One channel does for many sessions.
PINGS = [("grpc.keepalive_time_ms", 10_000), ("grpc.keepalive_timeout_ms", 5_000)]
CHANNEL = [*PINGS, ("grpc.http2.ping_timeout_ms", 5_000), ("grpc.http2.bdp_probe", 0), ("grpc.enable_retries", 0)]


def requests(words: str) -> Iterator[ConverseRequest]:
    """Requests are what the caller says. The first is `open`; the others need not wait for `opened`.

    Audio is bytes in `opened.input_format`, in pieces up to `opened.limits.message_max_bytes`, at the pace of speech.
    A send that blocks is flow control: wait. Half-close, or `bye`, means that no more comes: what is due is finished.
    To cut, send `bye {now}` and read on; cancelling the call ends the session at once.
    """
    yield ConverseRequest(open=Open(template="default", correlation_id="bare-stub"))
    yield ConverseRequest(control=Control(text=TextInput(text=words)))
    yield ConverseRequest(control=Control(create_response=CreateResponse()))


def handle(response: ConverseResponse) -> None:
    """Handle one answer. Pass over kinds that you do not know, and none: a newer gateway may send them."""
    match response.WhichOneof("message"):
        case "transcript_delta":
            print(response.transcript_delta.delta, end="", flush=True)
        case "audio":
            pass  # `audio.data` is in `opened.output_format`. On `interrupted`, drop what was not played yet.
        case "error":
            print(response.error.message, file=sys.stderr)  # One request was refused; the session goes on.
        case "closed":
            print()  # The last message. The status follows: read on until the stream ends.


def explain(call: grpc.Call) -> str:
    """Explain a status other than OK by its details: `ErrorInfo` of domain `trunkline` has the reason.

    Come back only where its metadata has `retryable` = `true`, by a new call, after the delay of `RetryInfo`. A status
    without details is gRPC's own, or a proxy's: try UNAVAILABLE again after a pause that grows, and nothing else.
    """
    text = f"{call.code().name}: {call.details()}"
    for packed in getattr(rpc_status.from_call(call), "details", ()):
        text += "".join(f"\n{kind}" for kind in (ErrorInfo(), RetryInfo(), PoolNumbers()) if packed.Unpack(kind))
    return text


if __name__ == "__main__":
    address, question = sys.argv[1:] if len(sys.argv) == 3 else sys.exit(__doc__)  # noqa: PLR2004
    # The token stands in the metadata of each call. Without TLS it is for one's own machine only.
    metadata = (("authorization", f"Bearer {token}"),) if (token := os.environ.get("TRUNKLINE_TOKEN")) else ()
    try:
        with grpc.insecure_channel(address, CHANNEL) as channel:
            # A deadline bounds the whole session. Always set one, above the gateway's longest (two hours).
            call = SessionServiceStub(channel).Converse(requests(question), timeout=7_500, metadata=metadata)
            try:
                # Read until the stream ends, whatever you send: who does not read is held up, and then put out.
                for response in call:
                    handle(response)
            except grpc.RpcError:
                sys.exit(explain(call))
    except KeyboardInterrupt:
        sys.exit(130)
