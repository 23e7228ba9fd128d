"""Labels of services, in the form that Kubernetes gives them. Pure.

Used by the mesh file, which gives services their labels, and by documents, which choose services by them.
"""

from __future__ import annotations

from typing import Final

from ringfence.policy.problems import Problem, shown
from ringfence.policy.words import is_label_key, is_label_value
from ringfence.policy.yamlnodes import MappingReader

# (name, value), ordered by name, no name twice.
Labels = tuple[tuple[str, str], ...]

LIMIT_LABELS: Final = 64
_MEND: Final = "use ASCII letters, digits, '-', '_' and '.', at most 63, a letter or digit at both ends"


def read_labels(reader: MappingReader, key: str, problems: list[Problem]) -> Labels:
    """The labels at ``key``; none where it is absent. An empty mapping is refused: it would select by nothing."""
    inner = reader.mapping(key, default=None)
    names = list(inner)
    if inner.present and not names:
        reader.problem(f"{key} is empty", "remove it, or add a label", key=key)
    if len(names) > LIMIT_LABELS:
        reader.problem(f"{key} has {len(names)} items", f"at most {LIMIT_LABELS}: remove some", key=key)
        inner.known(*names)
        return ()
    found: dict[str, str] = {}
    for name in names:
        before = len(problems)
        value = inner.text(name)
        if not is_label_key(name):
            inner.problem(
                f"label name {shown(name)} is not valid", f"{_MEND}; a DNS name and '/' may stand before", key=name
            )
        elif not is_label_value(value):
            inner.problem(f"value {shown(value)} of label {name} is not valid", _MEND, key=name)
        if len(problems) == before:
            found[name] = value
    return tuple(sorted(found.items()))
