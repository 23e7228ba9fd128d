"""Fuzzing of every parser that reads what others wrote.

A target (``target.Target``) takes any bytes and raises when the parser crashes, contradicts its oracle, or reads the
same bytes in two ways. ``corpus/<target>/`` holds the inputs that are worth keeping: seeds that reach deep, and each
input that once was a finding. ``test_corpus`` replays them all, within a budget of work.

``python -m tests.fuzz`` (``make fuzz``) looks for new ones: guided by coverage where atheris is installed, by plain
mutation elsewhere. What it finds lies in ``build/fuzz``; put the input into the corpus with the change that mends it.
"""
