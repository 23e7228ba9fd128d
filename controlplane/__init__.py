"""The control plane: reads the mesh and its policies, pushes snapshots to sidecars, hears what they enforce.

One process beside the CA. ``mesh`` and ``push`` hold the pure parts, ``intake`` reads files, ``control`` speaks gRPC
with sidecars, ``operate`` speaks with operators; ``app`` is the only place that constructs adapters. Imports
``ringfence`` and the public face of ``ca``.
"""
