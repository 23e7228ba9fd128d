"""Who a pod is, by the token that its service account gives it: the first attestor behind ``ringfence.attestation``.

Order to read: ``tokens`` (what a token claims), ``reviews`` (what the API server says of it), ``judging`` (what pod and
token say together), ``entries`` (which identity that is), ``keys`` (the cluster's own keys, for when the API server is
away), ``often`` (how often one pod is asked about), ``api`` (asks it), ``attestor``.
"""
