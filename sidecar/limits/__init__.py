"""What a port takes of its callers: requests, connections and bytes in a time. Local to the sidecar, all its workers
together.

``gcra`` is the arithmetic, pure; ``table`` keeps one time for each who is limited, in memory that workers share;
``limiter`` says which limits hold for a caller's connection and asks them; ``paced`` slows what is limited in bytes.
"""
