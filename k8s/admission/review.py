"""AdmissionReview, admission.k8s.io/v1: what the API server asks, and what it is answered. Pure."""

from __future__ import annotations

import base64
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from k8s.objects.fields import JsonObject, MalformedObjectError, as_object, child, flag, text
from ringfence.policy.problems import shown

API_VERSION: Final = "admission.k8s.io/v1"
KIND: Final = "AdmissionReview"
_UID_LIMIT_CHARACTERS: Final = 128
# What the API server keeps of warnings: 256 characters of each, 4,096 of all.
_WARNINGS: Final = 15
_WARNING_CHARACTERS: Final = 256
_MESSAGE_CHARACTERS: Final = 2_048


class ReviewError(ValueError):
    """This is no review that can be answered; the text is one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionRequest:
    """What is asked. ``kind``: group, version and kind of ``content``; ``namespace``: where it is to be made, as the
    API server knows it, and not as the object says; ``content`` and ``before``: empty where there is none."""

    uid: str
    operation: str
    kind: tuple[str, str, str]
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    user: str = ""
    dry_run: bool = False
    content: JsonObject
    before: JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What is answered. ``message``: why not, one line; ``code``: the HTTP status that the author of the object sees;
    ``patch``: RFC 6902 operations, for those who may mutate."""

    allowed: bool
    message: str = ""
    code: int = 403
    patch: Sequence[dict[str, Any]] = ()
    warnings: Sequence[str] = ()


ALLOWED: Final = Answer(allowed=True)
Judge: TypeAlias = Callable[[AdmissionRequest], Awaitable[Answer]]


def read_review(body: bytes) -> AdmissionRequest:
    """From the body of a POST. Raises ReviewError."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ReviewError("not JSON (send an AdmissionReview)") from error
    try:
        return _read(as_object(document, "review"))
    except MalformedObjectError as error:
        raise ReviewError(str(error)) from error


def _read(review: JsonObject) -> AdmissionRequest:
    version, kind = text(review, "apiVersion"), text(review, "kind")
    if (version, kind) != (API_VERSION, KIND):
        what = shown(f"{version} {kind}")
        raise ReviewError(f"{what} is not answered here (send {KIND} of {API_VERSION}: admissionReviewVersions: [v1])")
    request = child(review, "request")
    uid = text(request, "uid", "request")
    if not 0 < len(uid) <= _UID_LIMIT_CHARACTERS:
        raise ReviewError(f"request.uid: none, or longer than {_UID_LIMIT_CHARACTERS} characters (send the request's)")
    of = child(request, "kind", "request")
    return AdmissionRequest(
        uid=uid,
        operation=text(request, "operation", "request"),
        kind=(text(of, "group", "request.kind"), text(of, "version", "request.kind"), text(of, "kind", "request.kind")),
        subresource=text(request, "subResource", "request"),
        namespace=text(request, "namespace", "request"),
        name=text(request, "name", "request"),
        user=text(child(request, "userInfo", "request"), "username", "request.userInfo"),
        dry_run=flag(request, "dryRun", "request"),
        content=child(request, "object", "request"),
        before=child(request, "oldObject", "request"),
    )


def write_review(uid: str, answer: Answer) -> bytes:
    """The body of the answer to the request of that uid."""
    response: dict[str, Any] = {"uid": uid, "allowed": answer.allowed}
    if answer.message:
        response["status"] = {"code": answer.code, "message": _line(answer.message, _MESSAGE_CHARACTERS)}
    if answer.allowed and answer.patch:
        response["patchType"] = "JSONPatch"
        response["patch"] = base64.b64encode(json.dumps(list(answer.patch)).encode()).decode()
    if answer.warnings:
        response["warnings"] = [_line(one, _WARNING_CHARACTERS) for one in answer.warnings[:_WARNINGS]]
    return json.dumps({"apiVersion": API_VERSION, "kind": KIND, "response": response}).encode()


def _line(said: str, limit: int) -> str:
    """As a header and a terminal can carry it."""
    line = "".join(one if " " <= one <= "~" else ascii(one)[1:-1] for one in said[:limit])
    return line if len(line) <= limit else line[: limit - 3] + "..."
