"""The tokens of requests: where they stand, whether they are to be believed. ``reader`` is the port that the data path
asks; what implements it is made by the data path's composition and replaced with each snapshot that names issuers.
"""

from sidecar.tokens.reader import NO_TOKENS, TokenReader, TokenRequest

__all__ = ["NO_TOKENS", "TokenReader", "TokenRequest"]
