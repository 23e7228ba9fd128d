"""Ringfence against programs of others; skipped, with the reason, where one is missing, and failed there under CI."""
