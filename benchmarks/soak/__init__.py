"""The soak: mixed protocols through two sidecars for a long time, while SVIDs are renewed and the policy changes.

    python -m benchmarks.soak --minutes 10

``site`` is the app, ``callers`` what calls it, ``shop`` the mesh and its policies, ``tally`` and ``memory`` the pure
judgement of what was seen, ``run`` the whole.
"""
