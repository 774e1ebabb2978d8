"""Which way leads to Redis."""

from gateway.store.address import Topology
from gateway.store.cluster import ClusterLink
from gateway.store.link import Link, ServerLink
from gateway.store.options import RedisOptions
from gateway.store.sentinel import SentinelLink


def link_to(options: RedisOptions) -> Link:
    """Return the way to the Redis that the options name; nothing is connected."""
    match options.address.topology:
        case Topology.SINGLE:
            return ServerLink(options)
        case Topology.SENTINEL:
            return SentinelLink(options)
        case Topology.CLUSTER:
            return ClusterLink(options)
