"""Finds a platform by its entry point and opens it. Adapter."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import cast

from ringfence.platform import ENTRY_POINTS, OpenPlatform, Platform, PlatformError, Surroundings


def open_platform(name: str, surroundings: Surroundings) -> Platform:
    """The platform of that name. Raises PlatformError with one line."""
    found = {one.name: one for one in entry_points(group=ENTRY_POINTS)}
    if name not in found:
        known = ", ".join(sorted(found)) or "none is installed"
        raise PlatformError(f"--platform: there is no platform {name!a} (use one of: {known})")
    try:
        opener = cast(OpenPlatform, found[name].load())
    except ImportError as error:
        raise PlatformError(
            f"--platform: {name} cannot be loaded: {error} (install ringfence with its extra: ringfence[{name}])"
        ) from error
    try:
        return opener(surroundings)
    except PlatformError as error:
        raise PlatformError(f"--platform {name}: {error}") from error
