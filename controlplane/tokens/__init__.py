"""What the control plane must know of token issuers: their key sets, fetched and kept; the secrets of introspection."""
