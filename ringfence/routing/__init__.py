"""How callers reach a service, and how much of them it takes: never who may. Pure: no sockets, files, clock or logging.

``documents`` reads Route documents (``rates``: the words of a limit), ``bind`` checks them against the services of the
mesh and gives each port its ``model`` values; ``table`` answers, in the caller's sidecar, what holds for one request.
"""
