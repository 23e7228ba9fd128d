"""Policy: documents -> model -> compiled decision table -> Permit or Deny. Pure: no sockets, files, clock or logging.

On the way in: ``yamltree`` and ``yamlnodes`` read YAML with places, ``documents`` reads policy documents (``reading``:
a module a kind) into ``written``, ``bind`` resolves them with the services of the mesh; ``schema`` publishes what
documents may say. On the way to a decision: ``compile`` makes ``tables`` over ``trie``, ``decide`` answers calls from
them with a ``decision``, for ``reasons``.
"""
