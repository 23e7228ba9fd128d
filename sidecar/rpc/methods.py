"""Methods as the .proto files declare them. Nothing of a path or a type is typed a second time.

The generated ``*_pb2_grpc`` modules would know them too, but import grpcio.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.message import Message

Request = TypeVar("Request", bound=Message)
Answer = TypeVar("Answer", bound=Message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Method(Generic[Request, Answer]):
    """One method of a service."""

    path: str
    """What ``:path`` says: ``/ringfence.issuing.v1.Joining/Join``."""
    answer: type[Answer]
    is_stream: bool
    """Both sides stream; else one message each way."""


def method(
    file: FileDescriptor, service: str, name: str, request: type[Request], answer: type[Answer]
) -> Method[Request, Answer]:
    """The method ``name`` of ``service`` in ``file``; ValueError unless it is declared with these messages."""
    try:
        found = file.services_by_name[service].methods_by_name[name]
    except KeyError as error:
        raise ValueError(f"{file.name} declares no {service}.{name}") from error
    if found.input_type is not request.DESCRIPTOR or found.output_type is not answer.DESCRIPTOR:
        raise ValueError(f"{service}.{name} takes {found.input_type.full_name}, gives {found.output_type.full_name}")
    if found.client_streaming is not found.server_streaming:
        raise ValueError(f"{service}.{name} streams in one direction only, which is not spoken here")
    return Method(path=f"/{found.containing_service.full_name}/{name}", answer=answer, is_stream=found.client_streaming)
