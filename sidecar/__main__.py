"""``python -m sidecar``: what ``ringfence sidecar`` runs, as supervisors start it; people need not know of it.

Without the search for the commands of other packages and without click, which a process would each keep 2 MB of for
its life.
"""

from __future__ import annotations

import sys

from sidecar.starting import plain_flags, run_or_tell


def main() -> int:
    """Run the sidecar; the exit status. Flags that are not plain are left to the command."""
    flags = plain_flags(sys.argv[1:])
    if flags is not None:
        return run_or_tell(None, flags)
    from sidecar.commands import sidecar

    sidecar(prog_name="ringfence sidecar", help_option_names=["-h", "--help"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
