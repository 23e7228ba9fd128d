"""What may come of asking the API server. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping

_MESSAGE_LIMIT_CHARACTERS = 512


class KubernetesError(Exception):
    """Base of all that this package raises; the text is one line."""


class ConfigurationError(KubernetesError):
    """There is no usable kubeconfig, nor an account of a pod; the text has the mend."""


class UnreachableError(KubernetesError):
    """No whole answer came: nobody knows whether what was asked for was done."""


class TooLargeError(UnreachableError):
    """The answer is larger than what is read of one: less is to be asked for at once."""


class ApiError(KubernetesError):
    """The server answered, and not with what was asked for. ``code``: the HTTP status; ``reason``: the server's word,
    such as ``AlreadyExists``; ``retry_seconds``: after how long it wants to be asked again, 0 if it does not say."""

    def __init__(self, code: int, reason: str, message: str, retry_seconds: float = 0.0) -> None:
        super().__init__(f"the API server answered {code} {reason}: {message}")
        self.code = code
        self.reason = reason
        self.message = message
        self.retry_seconds = retry_seconds


class NotFoundError(ApiError):
    """There is no such object, or no such kind."""


class ForbiddenError(ApiError):
    """Whoever asks may not."""


class ConflictError(ApiError):
    """The object is another than the one that was meant, or is there already."""


class ExpiredError(ApiError):
    """The version from which to go on is too old, or one that the server never had: all is to be listed anew."""


_BY_CODE: Mapping[int, type[ApiError]] = {
    401: ForbiddenError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    410: ExpiredError,
}


def error_of(status: object, code: int = 0, retry_seconds: float = 0.0) -> ApiError:
    """The error of a Status object (``code`` where it does not say its own); foreign text is cut and kept on a line."""
    said: Mapping[str, object] = status if isinstance(status, dict) else {}
    own = said.get("code")
    number = own if isinstance(own, int) and not isinstance(own, bool) and own >= 400 else code or 500
    reason = _line(said.get("reason")) or "Unknown"
    message = _line(said.get("message")) or "it says no more"
    kind = _BY_CODE.get(number, ApiError)
    # A watch from a version that the server does not have yet, as after a restore of its store.
    if reason == "Expired" or "Too large resource version" in message:
        kind = ExpiredError
    return kind(number, reason, message, retry_seconds)


def error_of_body(body: bytes, code: int, retry_seconds: float = 0.0) -> ApiError:
    """The error of an answer's body, which need not be JSON: a proxy on the way may have answered."""
    try:
        status: object = json.loads(body)
    except ValueError:
        status = {"message": body.decode("utf-8", "replace")}
    return error_of(status, code, retry_seconds)


def _line(text: object) -> str:
    if not isinstance(text, str):
        return ""
    return " ".join("".join(char if char.isprintable() else " " for char in text[:_MESSAGE_LIMIT_CHARACTERS]).split())
