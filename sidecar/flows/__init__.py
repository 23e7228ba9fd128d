"""What this sidecar judged, as few flows, for the control plane to keep and for policy to be learned from.

``alike`` and ``rows`` tell which calls are alike, ``places`` brings the paths of one caller to few, ``table`` counts,
``reports`` puts what was counted into messages and back, ``reporting`` sends them now and then. The data path only ever
meets ``table``.
"""
