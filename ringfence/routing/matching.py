"""Whether a path template of a route names the path of a request. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from ringfence.policy.paths import PathTemplate


def takes_path(path: PathTemplate, segments: Sequence[bytes]) -> bool:
    """``segments``: of a judged path, split at its slashes behind the first."""
    wanted = path.segments
    if len(segments) < len(wanted) or (len(segments) > len(wanted) and not path.rest):
        return False
    return all(
        part == segment if isinstance(part, bytes) else segment != b""
        for part, segment in zip(wanted, segments, strict=False)
    )
