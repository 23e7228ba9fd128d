"""What the mesh costs, always beside a peer that does the same work in the same run, or against a number.

``python -m benchmarks http1 --quick`` starts backend, peer and mesh on loopback, loads them in turns and stops them.
A work is one module with a ``WORK`` (see ``works.py``), named in ``__main__``; ``results.py`` holds the figures' one
shape. To add a protocol: a chain of each side (``envoy_config``, ``mesh.Wanted``) and its load (``loading.Asking``).

The product never imports this package. It imports of the product only what a user would run, the ``ringfence``
command; but where a part is measured by itself (``policy``, ``issuing_alone``) or spoken to (``attesting``), that part.
"""
