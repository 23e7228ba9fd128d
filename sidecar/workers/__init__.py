"""Several processes as one sidecar: a parent holds identity, control stream, signals and administration, and workers
share its ports and carry its traffic.

Pure: ``messages`` and ``identity`` (what is said), ``counting`` (their metrics as those of one). Adapters: ``channel``
(how it is said), ``lines`` (the log), ``holds`` (the ports), ``taps``, ``process`` (one worker, as the parent sees it),
``parent`` (all of them, for the composition root); ``worker`` is the composition root of a worker's own process.
"""

from __future__ import annotations

from sidecar.workers.lines import WholeLines
from sidecar.workers.parent import Workers, open_workers

__all__ = ["WholeLines", "Workers", "open_workers"]
