"""Answers questions about a whole mesh's policy: over values, by the engine that sidecars enforce with. Pure.

``world`` says what there is to ask about, ``calls`` what a question is.
"""
