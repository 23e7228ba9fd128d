"""The tokens of requests: where they stand, whether they are to be believed. ``reader`` is the port that the data path
asks; ``requests`` implements it, and is replaced with each snapshot that names issuers.
"""

from sidecar.tokens.reader import ASKED, NO_TOKENS, Asking, TokenReader, TokenRequest

__all__ = ["ASKED", "NO_TOKENS", "Asking", "TokenReader", "TokenRequest"]
