"""The project's own wire contracts: the .proto files, the code generated from them, and conversion to core types.

``protos/`` is the source, ``gen/`` is written by ``python -m ringfence.wire.generate`` and committed, ``convert`` turns
messages into the values that the rest of the code works with and is the only place that trusts nothing it was sent.
"""
