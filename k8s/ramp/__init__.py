"""The way of a namespace into the mesh: what would break, what keeps it working, and each step of it.

The core is pure: objects as the API serves them in, findings out.
"""
