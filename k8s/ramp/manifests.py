"""Reads manifests: YAML or JSON files, folders of them, and what ``kubectl get -o yaml`` writes."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from k8s.objects.lenient import Json, objects, text

FILE_LIMIT_BYTES: Final = 256 << 20
OBJECTS_LIMIT: Final = 200_000
_SUFFIXES: Final = frozenset({".yaml", ".yml", ".json"})


class ManifestError(ValueError):
    """A file cannot be read as manifests; the text is one line with place and mend."""


def read_manifests(files: Sequence[Path]) -> tuple[Json, ...]:
    """All objects in ``files``; ``-`` is standard input, a folder stands for its ``*.yaml``, ``*.yml`` and ``*.json``.
    Raises ManifestError."""
    found: list[Json] = []
    for file in files:
        for name, content in _contents(file):
            found.extend(_objects(name, content))
            if len(found) > OBJECTS_LIMIT:
                raise ManifestError(f"{name}: more than {OBJECTS_LIMIT} objects (check a namespace at a time)")
    return tuple(found)


def _contents(file: Path) -> Iterator[tuple[str, bytes]]:
    try:
        if str(file) == "-":
            yield "standard input", sys.stdin.buffer.read(FILE_LIMIT_BYTES + 1)
        elif file.is_dir():
            inside = sorted(one for one in file.iterdir() if one.suffix in _SUFFIXES and one.is_file())
            if not inside:
                raise ManifestError(f"{file}: no manifests in the folder (give files that end in .yaml or .json)")
            for one in inside:
                yield str(one), _content(one)
        else:
            yield str(file), _content(file)
    except OSError as error:
        raise ManifestError(
            f"{file}: {(error.strerror or str(error)).lower()} (give a file that can be read)"
        ) from error


def _content(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(FILE_LIMIT_BYTES + 1)


def _objects(name: str, content: bytes) -> Iterator[Json]:
    if len(content) > FILE_LIMIT_BYTES:
        raise ManifestError(f"{name}: more than {FILE_LIMIT_BYTES >> 20} MiB (split it)")
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        documents = list(yaml.load_all(content, Loader=loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f":{mark.line + 1}:{mark.column + 1}" if mark is not None else ""
        raise ManifestError(f"{name}{place}: {error.problem or 'no YAML'} (mend the syntax)") from error
    except (yaml.YAMLError, ValueError, RecursionError, TypeError) as error:
        raise ManifestError(f"{name}: {_first_line(error)} (give YAML or JSON)") from error
    for number, document in enumerate(documents, 1):
        if document is None:
            continue
        if not isinstance(document, dict) or not text(document, "kind"):
            raise ManifestError(f"{name}: document {number} is no object with a kind (give Kubernetes manifests)")
        if text(document, "kind").endswith("List") and isinstance(document.get("items"), list):
            yield from _listed(document)
        else:
            yield document


def _listed(document: Json) -> Iterator[Json]:
    """The objects of a list; those of a typed list (``PodList``) say their kind only there."""
    kind = text(document, "kind").removesuffix("List")
    for one in objects(document, "items"):
        yield one if text(one, "kind") or not kind else {**one, "kind": kind}


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].lower()
