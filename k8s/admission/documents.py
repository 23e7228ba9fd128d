"""Answers for documents: what `ringfence policy check` would say of them with the cluster's real services."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from k8s.admission.review import ALLOWED, AdmissionRequest, Answer
from k8s.admission.room import HeldSize, Room
from k8s.objects.fields import JsonObject, MalformedObjectError
from k8s.objects.names import GROUP
from k8s.objects.places import at_fields
from ringfence.platform import WrittenDocument
from ringfence.policy.problems import Problem

_OPERATIONS: Final = ("CREATE", "UPDATE")
_AT_ONCE: Final = 2
"""Judging one weighs all documents; more at once would only be later, all of them."""
_TOLD: Final = 10

Check = Callable[[Sequence[WrittenDocument]], Awaitable[list[Problem]]]
"""As ``Host.check``. May raise OSError."""
ReadDocument = Callable[[str, JsonObject], WrittenDocument | None]
"""The document of a kind; None for a kind that is none of ours. Raises MalformedObjectError."""


class DocumentJudge:
    """The judge of documents that are about to be written."""

    def __init__(self, read: ReadDocument, check: Check, room: Room) -> None:
        self._read = read
        self._check = check
        self._room = room
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def judge(self, request: AdmissionRequest) -> Answer:
        """Allowed, with what is surely not meant as warnings; or refused, with each error at its field."""
        group, _, kind = request.kind
        if group != GROUP or request.subresource or request.operation not in _OPERATIONS:
            return ALLOWED
        try:
            document = self._read(kind, _placed(request))
        except MalformedObjectError as error:
            return Answer(allowed=False, code=400, message=str(error))
        if document is None:
            return ALLOWED
        lacking = self._room.lacks(HeldSize(request.namespace, document.name, len(document.content)))
        if lacking:
            return Answer(allowed=False, code=403, message=lacking)
        try:
            async with self._slots:
                problems = await self._check([document])
        except OSError as error:
            return Answer(allowed=False, code=503, message=f"nobody can judge this document yet: {error} (try again)")
        errors = [problem for problem in problems if problem.is_error]
        if errors:
            return Answer(allowed=False, code=422, message=_lines(document, errors))
        return Answer(allowed=True, warnings=at_fields(document.content, problems))


def _placed(request: AdmissionRequest) -> JsonObject:
    """The object with the namespace that the API server knows it in: it may leave it out itself."""
    metadata = request.content.get("metadata")
    if not isinstance(metadata, dict):
        return request.content
    return {**request.content, "metadata": {**metadata, "namespace": request.namespace}}


def _lines(document: WrittenDocument, errors: list[Problem]) -> str:
    told = at_fields(document.content, errors[:_TOLD])
    rest = len(errors) - _TOLD
    return "; ".join([*told, *([f"and {rest} more"] if rest > 0 else [])])
