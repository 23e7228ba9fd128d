"""Label selectors, as the API's ``LabelSelector`` has them. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from k8s.objects.lenient import Json, labels, objects, text, texts


def selects(selector: Json, held: Mapping[str, str]) -> bool:
    """Whether ``selector`` (matchLabels, matchExpressions) selects what has the labels ``held``; an empty one selects
    all, and an expression with an operator that is not known selects nothing."""
    if not has_labels(labels(selector, "matchLabels"), held):
        return False
    return all(_holds(one, held) for one in objects(selector, "matchExpressions"))


def has_labels(wanted: Mapping[str, str], held: Mapping[str, str]) -> bool:
    """Whether each of ``wanted`` is among ``held``."""
    return all(held.get(name) == value for name, value in wanted.items())


def _holds(expression: Json, held: Mapping[str, str]) -> bool:
    value = held.get(text(expression, "key"))
    match text(expression, "operator"):
        case "In":
            return value is not None and value in texts(expression, "values")
        case "NotIn":
            return value is None or value not in texts(expression, "values")
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
    return False
