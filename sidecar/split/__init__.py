"""The HTTP/2 splitter: requests of one app connection, each on its way to the endpoint that was chosen for it.

Pure protocol machines, as `sidecar.http2`, whose frames, header sections and rules for messages they use. Which
endpoint a request goes to is the chooser's to say, what it may do the judge's, where the bytes go the adapter's.

Reading order: `splitter` (theory of operation), `chooser`, `judge`, `call`, `sender`, `end`, `client_end`, `leg`,
`calls`.
"""

from sidecar.split.call import Call
from sidecar.split.chooser import Chooser
from sidecar.split.judge import SplitJudge, Unprocessed
from sidecar.split.leg import Leg
from sidecar.split.splitter import Splitter

__all__ = ["Call", "Chooser", "Leg", "SplitJudge", "Splitter", "Unprocessed"]
