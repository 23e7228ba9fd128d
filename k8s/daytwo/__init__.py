"""Questions of an operator to a mesh in a cluster: its pods are asked by exec in their sidecars, by the API server, so
that all of it works while the control plane is away.

Order to read: ``references``, ``cluster``, ``live``, ``options``; then a module a command.
"""
