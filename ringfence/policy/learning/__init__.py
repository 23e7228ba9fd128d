"""From observed flows to the least policy that permits them. Pure.

``flow`` is what was observed, ``shapes`` how paths are brought to few before anybody keeps them, ``flow_file`` flows as
text and back.
"""
