"""Custom resources as documents of the mesh. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from k8s.client.resources import Resource
from k8s.crds.definition import GROUP, KINDS, VERSION, plural
from k8s.objects.fields import JsonObject, child, integer, text
from ringfence.platform import WrittenDocument

RESOURCES: Final = tuple(
    Resource(group=GROUP, version=VERSION, plural=plural(kind.name), kind=kind.name) for kind in KINDS
)
"""Each kind of documents."""
_BY_KIND: Final = {resource.kind: resource for resource in RESOURCES}


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldDocument:
    """A custom resource. ``uid``: of the object, never given twice. ``status``: as it stands in the cluster; it is what
    we write, and no part of the document."""

    resource: Resource
    namespace: str
    name: str
    uid: str
    generation: int
    written: WrittenDocument
    status: Mapping[str, Any] = field(default_factory=dict)


def read_document(resource: Resource, body: JsonObject) -> HeldDocument:
    """From the API's JSON. What the API server adds is left out; what an author wrote is not touched, not even what no
    document may have: judging it is another's. Raises MalformedObjectError."""
    metadata = child(body, "metadata")
    namespace, name = text(metadata, "namespace", "metadata"), text(metadata, "name", "metadata")
    content: dict[str, Any] = {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {"name": name, "namespace": namespace},
    }
    content |= {key: value for key, value in body.items() if key not in ("apiVersion", "kind", "metadata", "status")}
    uid, generation = text(metadata, "uid", "metadata"), integer(metadata, "generation", "metadata")
    try:
        said = _written(content)
    except RecursionError:
        # What could be read and not be written again: its reader refuses it without its spec, too.
        said = _written({name: content[name] for name in ("apiVersion", "kind", "metadata")})
    return HeldDocument(
        resource=resource,
        namespace=namespace,
        name=name,
        uid=uid,
        generation=generation,
        written=WrittenDocument(
            name=f"{resource.kind}/{namespace}/{name}",
            content=said,
            version=f"{uid}/{generation}",
        ),
        status=child(body, "status"),
    )


def _written(content: dict[str, Any]) -> bytes:
    """Lines, so that a problem has one, but not indented: below many brackets that would be a hundred times as much as
    was written. Nothing escaped, as documents are read as YAML, where pairs of escaped halves of a character are two
    characters."""
    return json.dumps(content, indent=0, ensure_ascii=False).encode("utf-8", "replace")


def written_of(kind: str, body: JsonObject) -> WrittenDocument | None:
    """The document in an object of that kind; None for a kind that is none of ours. Raises MalformedObjectError."""
    resource = _BY_KIND.get(kind)
    return None if resource is None else read_document(resource, body).written
