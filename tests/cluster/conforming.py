"""Manifests held against the schema that the API server serves, by kubeconform: each field is one that a kind has, and
of its type. No schema is asked for elsewhere."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tests.cluster.cluster import Cluster

_HERE: Final = "#/definitions/"
# What these are is said by their documentation alone.
_OTHERWISE: Final[dict[str, dict[str, Any]]] = {
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": {"type": ["string", "integer"]},
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {"type": ["string", "number"]},
}


def write_schemas(cluster: Cluster, folder: Path) -> int:
    """One file for each kind that is served, by the name that kubeconform looks for; how many."""
    definitions = json.loads(cluster.kubectl("get", "--raw", "/openapi/v2"))["definitions"]
    strict = {name: _OTHERWISE.get(name) or _strict(one) for name, one in definitions.items()}
    written = 0
    for name, one in definitions.items():
        for kind in one.get("x-kubernetes-group-version-kind", ()):
            group = f"{kind['group'].partition('.')[0]}-" if kind["group"] else ""
            file = folder / f"{kind['kind']}-{group}{kind['version']}.json".lower()
            needed = {other: strict[other] for other in _reached(name, strict)}
            file.write_text(json.dumps({"$ref": f"{_HERE}{name}", "definitions": needed}))
            written += 1
    return written


def conform(cluster: Cluster, folder: Path, *files: Path) -> dict[str, Any]:
    """What kubeconform says of files: ``summary`` and ``resources``."""
    location = f"{folder}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json"
    words = ("-strict", "-summary", "-output=json", f"-schema-location={location}")
    argv = [str(cluster.settings.programs / "kubeconform"), *words, *map(str, files)]
    ran = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
    told: dict[str, Any] = json.loads(ran.stdout)
    assert (ran.returncode == 0) == (not told["summary"]["invalid"] + told["summary"]["errors"]), ran.stderr
    return told


def _strict(schema: Any) -> Any:
    """A definition in which fields that it does not name are wrong."""
    if isinstance(schema, list):
        return [_strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    # What stands below `properties` are names of fields, however much they look like words of a schema.
    made = {
        key: {name: _strict(one) for name, one in value.items()} if key == "properties" else _strict(value)
        for key, value in schema.items()
    }
    open_to_all = "additionalProperties" in made or made.get("x-kubernetes-preserve-unknown-fields")
    if isinstance(made.get("properties"), dict) and made.get("type") == "object" and not open_to_all:
        made["additionalProperties"] = False
    if made.get("x-kubernetes-int-or-string"):
        made["type"] = ["string", "integer"]
    return made


def _reached(name: str, definitions: dict[str, Any]) -> Iterator[str]:
    seen, waiting = {name}, [name]
    while waiting:
        one = waiting.pop()
        yield one
        for other in re.findall(rf'"{_HERE}([^"]+)"', json.dumps(definitions[one])):
            if other not in seen:
                seen.add(other)
                waiting.append(other)
