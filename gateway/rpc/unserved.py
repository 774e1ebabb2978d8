"""The parts of the contract that later work fills: each answers NOT_IMPLEMENTED_YET, with details."""

from typing import Any

import grpc
from google.protobuf.descriptor import ServiceDescriptor

from gateway.core.errors import CallerError, Reason
from gateway.rpc.status import abort


def fill_unserved(service: Any, descriptor: ServiceDescriptor) -> tuple[str, ...]:
    """Give the class `service` a refusal for each method that it does not define; return the served ones."""
    served = []
    for method in descriptor.methods:
        if method.name in vars(service):
            served.append(f"/{descriptor.full_name}/{method.name}")
        else:
            setattr(service, method.name, _refusal(method.name))
    return tuple(served)


def _refusal(name: str) -> Any:
    async def refuse(_self: object, _request: object, context: "grpc.aio.ServicerContext[Any, Any]") -> None:
        await abort(context, CallerError(Reason.NOT_IMPLEMENTED_YET, f"{name}: not served yet"))

    return refuse
