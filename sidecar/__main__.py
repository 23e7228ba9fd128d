"""``python -m sidecar``: what ``ringfence sidecar`` runs, without the search for the commands of other packages, which
a process would keep 2 MB of for its life. Supervisors start sidecars this way; people need not know of it."""

from __future__ import annotations

from sidecar.commands import sidecar

if __name__ == "__main__":
    sidecar(prog_name="ringfence sidecar", help_option_names=["-h", "--help"])
