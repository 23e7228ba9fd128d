"""A pod's network namespace: entered once by this process, and looked at whether it is the pod's."""

from __future__ import annotations

import ctypes
import errno
import ipaddress
import os
import socket
from pathlib import Path
from typing import Final

from k8s.cni.request import CniError, Code
from k8s.objects.fields import JsonObject, MalformedObjectError, objects, text

_CLONE_NEWNET: Final = 0x40000000
_OWN: Final = Path("/proc/thread-self/ns/net")


def enter(path: str) -> None:
    """Let this process's only thread live in that network from now on. Raises CniError, also for the node's own."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise CniError(Code.NETWORK, f"{path} cannot be opened: {error.strerror} (is it the pod's network?)") from error
    try:
        there, here = os.fstat(descriptor), _OWN.stat()
        if (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino):
            raise CniError(Code.NETWORK, f"{path} is the node's own network (only a pod's is redirected)")
        _set(descriptor)
    except OSError as error:
        raise CniError(Code.NETWORK, f"{path} cannot be entered: {error.strerror} (is it a network?)") from error
    finally:
        os.close(descriptor)


def _set(descriptor: int) -> None:
    """setns(2), which Python has from 3.12 on."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def promised(result: JsonObject) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """The addresses that the plugins before gave to the pod. Raises CniError."""
    try:
        written = [text(one, "address", path) for path, one in objects(result, "ips", "prevResult")]
        return [ipaddress.ip_interface(one).ip for one in written]
    except (MalformedObjectError, ValueError) as error:
        raise CniError(Code.CONFIGURATION, f"prevResult.ips: {error}") from error


def check_addresses(addresses: list[ipaddress.IPv4Address | ipaddress.IPv6Address]) -> None:
    """Whether the network that this process is in has them all: else it is another pod's, and its rules would be of
    another identity. Raises CniError."""
    if not addresses:
        raise CniError(Code.NETWORK, "prevResult.ips: no address (put ringfence-cni behind the plugin that gives one)")
    for address in addresses:
        if not _has(address):
            raise CniError(Code.NETWORK, f"the network has no address {address}, so it is not the pod's (try again)")


def _has(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        # One that is still being tried cannot be bound, but is listed.
        listed = Path("/proc/thread-self/net/if_inet6").read_text().split("\n")
        return any(line.startswith(address.packed.hex()) for line in listed)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((str(address), 0))
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                return False
            raise CniError(Code.NETWORK, f"{address} cannot be tried: {error.strerror} (try again)") from error
    return True
