"""``ringfence up``: the whole mesh of one machine, supervised."""
