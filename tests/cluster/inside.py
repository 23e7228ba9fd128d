"""Runs a coroutine in a cluster's own network, where its API server is."""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from k8s.client.connection import Connection
from tests.cluster.cluster import Cluster
from tests.cluster.node import NodePlace

T = TypeVar("T")

_CLONE_NEWNET: Final = 0x40000000


def inside(cluster: Cluster, work: Callable[[Connection], Awaitable[T]]) -> T:
    """What ``work`` gives, which gets the administrator's connection. Sockets are made in the network of the thread
    that makes them; so it has a thread, and a loop, of its own."""

    async def connected() -> T:
        connection = Connection.open(str(cluster.kubeconfig))
        try:
            return await work(connection)
        finally:
            await connection.close()

    def enter() -> T:
        descriptor = os.open(f"/run/netns/{cluster.name}-{NodePlace(number=1).name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            if ctypes.CDLL(None, use_errno=True).setns(descriptor, _CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "the cluster's network cannot be entered")
        finally:
            os.close(descriptor)
        return asyncio.run(connected())

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(enter).result()
