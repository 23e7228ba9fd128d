"""What is read of a Namespace. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from k8s.objects.fields import JsonObject, child, text, texts


@dataclass(frozen=True, slots=True, kw_only=True)
class Namespace:
    """A namespace: what its labels choose and its annotations wish holds for its pods that say nothing else."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)


def read_namespace(document: JsonObject) -> Namespace:
    """From the API's JSON. Raises MalformedObjectError."""
    metadata = child(document, "metadata")
    return Namespace(
        name=text(metadata, "name", "metadata"),
        labels=texts(metadata, "labels", "metadata"),
        annotations=texts(metadata, "annotations", "metadata"),
    )
