"""A control plane on a platform: documents judged one by one, and what became of each told back."""
