# ruff: noqa: INP001, T201 - no module: a template puts it into a pod
"""Run in the cluster by `helm test`: asks each gateway behind a name whether it is ready."""

import http.client
import json
import socket
import sys

PORT = 9464
OK = 200


def main(name: str) -> int:
    """Print what each says; 1 when one is not ready, or none is there."""
    try:
        addresses = sorted({str(each[4][0]) for each in socket.getaddrinfo(name, PORT, type=socket.SOCK_STREAM)})
    except OSError as error:
        print(f"{name}: {error}")
        return 1
    not_ready = 0
    for address in addresses:
        try:
            connection = http.client.HTTPConnection(address, PORT, timeout=5)
            connection.request("GET", "/readyz")
            answer = connection.getresponse()
            told, ready = json.dumps(json.loads(answer.read())), answer.status == OK
        except (OSError, ValueError, http.client.HTTPException) as error:
            told, ready = str(error), False
        print(f"{address}: {'ready' if ready else 'not ready'}: {told}")
        not_ready += not ready
    return 1 if not_ready else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
