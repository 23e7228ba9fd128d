"""To which endpoint of a service the next call goes, and whether it may go at all. Pure: clock and random source are
given.

``balancer`` chooses; ``member`` is what is known of one endpoint, ``outliers`` leaves failing ones out, ``budget``
bounds what is tried again, ``circuit`` what is open at once.
"""

from sidecar.balance.balancer import Balancer
from sidecar.balance.member import Member, Outcome

__all__ = ["Balancer", "Member", "Outcome"]
