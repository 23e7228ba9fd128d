"""What the authority remembers: issued SVIDs, join tokens, host keys, spent nonces and evidence.

SQLite or PostgreSQL, one code.
"""
