"""Runs the parts of the platform beside each other: what one of them trips over costs no other anything. Adapter."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from ringfence.kit.log import Logger

_PAUSE_SECONDS: Final = 1.0

Part = Callable[[], Awaitable[None]]


async def run_parts(parts: Mapping[str, Part], failed: Callable[[str], None], log: Logger) -> None:
    """Until cancelled; ``failed`` counts, by the part's name."""
    async with asyncio.TaskGroup() as group:
        for name, part in parts.items():
            group.create_task(run_part(name, part, failed, log), name=name)


async def run_part(name: str, part: Part, failed: Callable[[str], None], log: Logger) -> None:
    """One part: an unexpected failure is told and counted, and after a pause it is begun anew."""
    while True:
        try:
            return await part()
        except Exception as error:  # a border, see above
            failed(name)
            shown = error.exceptions[0] if isinstance(error, ExceptionGroup) else error
            log.error("part failed", part=name, error=repr(shown)[:400])
            await asyncio.sleep(_PAUSE_SECONDS)
