"""Requests from the mesh whose verdict has to wait, since only its issuer can tell of their token. Adapter.

What both versions of HTTP have in common: the machine holds the request, and goes on when there is an answer.
"""

from __future__ import annotations

from sidecar.relay import JudgingOwner, Relay
from sidecar.tokens.reader import Asking


class WaitingRelay(Relay):
    """No ``__init__``: it is inherited beside other relays."""

    owner: JudgingOwner
    _asking: Asking | None = None

    def _await(self, asking: Asking) -> None:
        """Go on when there is an answer; it may be asked to again and again for the same one."""
        if asking is not self._asking:
            self._asking = asking
            asking.then(lambda: self._answered(asking))

    def _answered(self, asking: Asking) -> None:
        if self._asking is asking:
            self._asking = None
            if not self.ended:
                self._go_on()

    def _go_on(self) -> None:
        """Judge what waits."""
        raise NotImplementedError

    def _look_again(self) -> None:
        """A token on which a request under way stands has been asked about."""
        if not self.ended:
            self.owner.look_again(self)
