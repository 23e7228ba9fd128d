"""What can go wrong with redirecting, in the words that are shown to whoever runs the command."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["BackendUnsupported", "NotPermitted", "RedirectError", "RedirectSettingsError"]


class RedirectError(Exception):
    """Rules could not be read or changed; the text is one line with the mend, and nothing is left half done."""


class NotPermitted(RedirectError):
    """This process may not touch the packet filter; no other backend could help."""


class BackendUnsupported(RedirectError):
    """This program or kernel cannot hold the rules; another backend may."""


class RedirectSettingsError(ValueError):
    """Settings that would redirect wrongly or not at all; ``problems``: a line each, all that were found."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(self.problems))
