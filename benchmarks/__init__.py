"""What the mesh costs, always beside a peer that does the same work in the same run.

``python -m benchmarks http1 --quick`` starts backend, peer and mesh on loopback, loads them in turns and stops them.
A work is one module with a ``WORK`` (see ``works.py``); ``results.py`` holds the figures' one shape. The product never
imports this package; it imports of the product only what a user would run: the ``ringfence`` command.
"""
