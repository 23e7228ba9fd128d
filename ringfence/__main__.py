"""``python -m ringfence``: the same as the ``ringfence`` command, for whoever has an interpreter but no script."""

from ringfence.cli import main

main()
