"""What the authority remembers: issued SVIDs, join tokens, host keys, spent nonces. SQLite or PostgreSQL, one code."""
