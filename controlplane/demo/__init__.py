"""``ringfence demo``: the shop of ``examples/shop``, started whole, called rightly and wrongly, and judged."""
