"""Policy: documents -> model -> compiled decision table -> Permit or Deny. Pure: no sockets, files, clock or logging.

``yamltree`` and ``yamlnodes`` read YAML with positions, ``documents`` reads policy documents, ``bind`` checks them
against the services of the mesh, ``compile`` makes the decision table and ``decide`` answers calls from it.
"""
