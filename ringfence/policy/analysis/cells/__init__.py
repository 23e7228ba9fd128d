"""Cuts the calls that a service could get into cells: all calls of one cell get one verdict. Pure.

``segments``, ``callers``, ``requests`` and ``tokens`` say at which values a dimension has to be tried so that none that
rules can tell apart is left out; ``cuts`` says which rules are left after one; ``refine`` walks the dimensions and asks
the engine that sidecars enforce with for the verdict on each cell. On it stand ``analysis.changes`` and ``proving``.
"""
