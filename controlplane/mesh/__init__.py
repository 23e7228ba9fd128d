"""``mesh.yaml``: which services there are, who they are, where they listen and whom they call. Pure.

``model`` is what comes out, ``document`` reads the fields, ``checks`` judges what must hold between them.
"""
