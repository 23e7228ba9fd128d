"""``python -m sidecar.workers DESCRIPTOR``: a worker's process, as its parent starts it. No person runs it."""

from __future__ import annotations

import sys

from sidecar.workers.worker import run

if __name__ == "__main__":
    raise SystemExit(run(int(sys.argv[1])))
