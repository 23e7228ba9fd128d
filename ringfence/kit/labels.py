"""DNS labels (RFC 1123, section 2.1), the form of names that stand in paths, identities and tables alike."""

from __future__ import annotations

import re
from typing import Final

LABEL_MEND: Final = "use up to 63 lower-case letters, digits and hyphens, and no hyphen first or last"
_LABEL: Final = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)


INSTANCE_MEND: Final = "use lower-case letters, digits, hyphens and dots, as in the name of a pod"
_NAME_LIMIT_CHARACTERS: Final = 253
_INSTANCE: Final = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*", re.ASCII)


def is_instance(text: str) -> bool:
    """Whether ``text`` may name an instance, as Kubernetes lets a pod be named: as labels with dots between them, at
    most 253 characters in all, which may be those of one label."""
    return len(text) <= _NAME_LIMIT_CHARACTERS and _INSTANCE.fullmatch(text) is not None


def is_label(text: str) -> bool:
    """Whether ``text`` is one: 1 to 63 lower-case letters, digits and hyphens, none of these first or last."""
    return _LABEL.fullmatch(text) is not None
