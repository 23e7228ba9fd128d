"""The reading of each kind of policy document, a module a kind, over the words that kinds share. Pure.

``ringfence.policy.documents`` is the face. Every reader takes what it knows of a mapping and leaves the rest to
``finish``, which tells unknown fields; what is wrong becomes a problem and the part that has it is left out whole.
"""
