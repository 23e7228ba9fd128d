"""Where spans go, as settings: an endpoint that no one can listen in on, and headers from a file of their own."""

from __future__ import annotations

import importlib.util
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ringfence.kit.collector_urls import parse_collector_url

_HEADER: Final = re.compile(r"([A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}):[ \t]*([!-~](?:[ -~]{0,4094}[!-~])?)[ \t]*")
_HEADERS_LIMIT_BYTES: Final = 16 * 1024
DEFAULT_SAMPLE: Final = 0.01
# Many bring the API alone, which exports nothing.
_PACKAGES: Final = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")


@dataclass(frozen=True, slots=True, kw_only=True)
class TracingSettings:
    """Spans of sampled requests."""

    endpoint: str
    """URL of a collector that takes OTLP over HTTP, path included (``…/v1/traces``); https, or http on loopback."""

    sample: float
    """Share, 0 to 1, of the requests without a trace context for which a trace begins here."""

    headers_file: Path | None
    """File of its owner alone with lines ``name: value``, sent to the collector: what authenticates us there."""


def parse_endpoint(text: str) -> str | None:
    """A collector's URL (typed as what may be absent, which it never is); ValueError else."""
    return parse_collector_url(text)


def read_headers(path: Path) -> dict[str, str]:
    """The headers in a file; ValueError with the mend if it cannot be read, is not private, or holds no headers."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(path.stat().st_mode)
            content = file.read(_HEADERS_LIMIT_BYTES + 1)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from error
    if mode & 0o077:
        raise ValueError(f"{path} may be read by others (chmod 600 {path})")
    if len(content) > _HEADERS_LIMIT_BYTES:
        raise ValueError(f"{path} has more than {_HEADERS_LIMIT_BYTES} bytes")
    found: dict[str, str] = {}
    for number, text in enumerate(content.decode("latin-1").splitlines(), 1):
        if not text.strip():
            continue
        match = _HEADER.fullmatch(text)
        if match is None:  # what the line holds is a secret, and stays one
            raise ValueError(f"{path}:{number}: no header (write name: value)")
        found[match[1]] = match[2]
    return found


def missing_packages() -> str | None:
    """What is wrong with this installation, if it cannot export spans."""
    if not all(map(_installed, _PACKAGES)):
        return "tracing needs the OpenTelemetry packages (pip install 'ringfence[otlp]')"
    return None


def _installed(package: str) -> bool:
    """Without importing it, but for the namespaces that it is in."""
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # of one of these
        return False
